package anomaly

import "math"

// Threshold is the [Result.Alert] from which on an alert is told. The scale is made
// so that this is the middle: see [alertHalf].
const Threshold = 0.5

const (
	// alertHalf is the evidence that alerts. In a quiet series (see quietPeak) a
	// surprise of 3.8 has it, which one reading in 2,200 reaches by chance: there
	// are 2,016 in a week of five minutes each.
	alertHalf = 2.8
	// leastUnrest: a factor of less than two, of which this is the logarithm, is no
	// unrest, even where there never was any.
	leastUnrest = math.Ln2
	// leastPeak: a surprise below 2 is one reading in 400, which is nothing.
	leastPeak = 2
	// peakFade: the peak of an event fades by 1 % with a reading of full weight,
	// to a half in six hours, so that an event that goes on is told once and a
	// worse one at once.
	peakFade = 0.01
	// worse: an event that is told is told again when it is worse by half, and not
	// with each reading of a slope.
	worse = 1.5
	// longFade: the memory of what such events are usually like is 5,000 readings
	// of full weight, two weeks and more. longRise: it takes up most of a larger
	// one at once, since what has happened may happen again.
	longFade = 0.0002
	longRise = 0.7
	// quietPeak is the largest evidence in the memory of longFade when nothing
	// happens: a surprise that one reading in a million has, or a record by a
	// tenth of the range. The memory begins there, and fades to it.
	quietPeak = 10
	// habitFree alerts within the memory of longFade, which are two a week, are
	// what a person looks at. Of a series that has more the events are a habit:
	// the evidence counts less by the square of how many more. Alerts within
	// eventGap, half an hour at full weight, are one event.
	habitFree = 5
	eventGap  = 6
	// usualExponent, usualOffset: in a series of large events an alert needs more,
	// but less than in proportion, and more slowly where all is small.
	usualExponent = 0.6
	usualOffset   = 6
)

// testimony is all that speaks about one reading.
type testimony struct {
	z          [tailed]float64 // evidence that has a tail
	season     outlook
	explained  float64 // share of the scale that the season explains, 0 to 1
	record     float64 // of the reading, as a share of the range
	meanRecord float64 // of the fast mean
	away       float64 // how far and how long the series has been away
}

// judge weighs the testimony about a reading of weight w.
func (d *Detector) judge(t *testimony, w float64) Result {
	// The fourth powers are added: the loudest decides, and many that murmur do
	// not make a shout.
	var sum, loudest float64
	r := Result{Learning: d.Learning()}
	speak := func(reason Reason, s, extent float64) {
		sum += square(square(s))
		if s > loudest {
			loudest, r.Reason, r.Extent = s, reason, extent
		}
	}
	gate := 1 - seasonDamp*t.explained*math.Exp(-square(t.z[ofSeason]/seasonWidth)/2)
	speak(ReasonLevel, gate*d.tails[ofLevel].surprise(t.z[ofLevel], w), t.z[ofLevel])
	speak(ReasonChange, gate*d.tails[ofChange].surprise(t.z[ofChange], w), t.z[ofChange])
	speak(ReasonMean, gate*d.tails[ofMean].surprise(t.z[ofMean], w), t.z[ofMean])
	if s := d.tails[ofVolatility].surprise(t.z[ofVolatility], w); t.z[ofVolatility] >= leastUnrest {
		speak(ReasonVolatility, s, t.z[ofVolatility])
	}
	if t.season.known {
		speak(ReasonSeason, d.tails[ofSeason].surprise(t.z[ofSeason], w), t.z[ofSeason])
	}
	speak(ReasonRecord, recordWeight*knee(t.record), t.record)
	speak(ReasonMeanRecord, meanRecordWeight*knee(t.meanRecord), t.meanRecord)
	s := fourthRoot(sum)

	d.density += fastRate * (min(s, densityMost) - d.density)
	dense := d.tails[ofDensity].surprise(d.density, w)
	if dense > loudest {
		r.Reason, r.Extent = ReasonDensity, d.density
	}
	if d.learned < learning {
		return Result{Learning: true}
	}
	// k times as many readings have k times as many rare ones, and surprise is the
	// logarithm of how rare.
	often := math.Log(w)
	r.Alert = d.onset.strength(fourthRoot(square(square(max(0, s+often)))+square(square(max(0, dense+often)))), w)
	if r.Learning { // what was seen on the first day is a measure for later
		return Result{Learning: true}
	}
	// The alert is about the beginning, the score about how it is now: it adds the
	// density, and how far and how long the series has been away, by its logarithm
	// as all evidence.
	all := s + dense + math.Log1p(t.away)
	r.Score = all / (all + alertHalf)
	return r
}

// away adds up how far and how long a series has been above, and below, its usual
// level: the two-sided CUSUM of Page (1954), in scales and readings of full weight.
type away struct{ up, down float64 }

// move takes a reading that is z scales above the level.
func (a *away) move(z, w float64) float64 {
	a.up = clamp(a.up+w*(z-awayFree), 0, awayMost)
	a.down = clamp(a.down+w*(-z-awayFree), 0, awayMost)
	return max(a.up, a.down)
}

// knee is 0 at 0, a half at recordKnee, and never 1.
func knee(r float64) float64 { return r / (r + recordKnee) }

// onset finds the beginnings of events.
type onset struct {
	peak  float64 // of the event that goes on
	told  float64 // the evidence with which it was told; fades as peak does
	long  float64 // of events as they usually are
	habit float64 // alerts in the memory of longFade
	since float64 // weight of the readings since the last, up to eventGap
}

// strength returns how strongly evidence s begins an event, 0 to below 1.
func (o *onset) strength(s, w float64) float64 {
	o.peak *= 1 - peakFade*w
	o.told *= 1 - peakFade*w
	o.long += longFade * w * (quietPeak - o.long)
	o.habit *= 1 - longFade*w
	o.since = min(o.since+w, eventGap)
	if s <= max(o.peak, leastPeak) {
		return 0
	}
	o.peak = s
	if s <= worse*o.told {
		return 0
	}
	out := s * math.Pow((s+usualOffset)/(o.long+usualOffset), usualExponent)
	o.long += longRise * max(0, s-o.long)
	out /= square(max(1, o.habit/habitFree))
	if out < alertHalf {
		return out / (out + alertHalf)
	}
	if o.since >= eventGap {
		o.habit++
	}
	o.since, o.told = 0, s
	return out / (out + alertHalf)
}

// ratio returns a/b within mostEvidence, and 0 when there is nothing to compare
// with. a and b are at least 0.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return min(a/b, mostEvidence)
}

func fourthRoot(x float64) float64 { return math.Sqrt(math.Sqrt(x)) }

func square(x float64) float64 { return x * x }

func clamp(x, lo, hi float64) float64 { return max(lo, min(x, hi)) }

// clip cuts x off at ±most.
func clip(x, most float64) float64 { return clamp(x, -most, most) }
