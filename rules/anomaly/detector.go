package anomaly

import (
	"math"

	"github.com/edgeagent/edgeagent"
)

// The constants of the detector: one set for all series. They follow from what is
// said beside them, and were not searched for on data; where the structure left a
// choice, such as which tails begin heavy, and for the scale of the alert, recorded
// series were looked at (docs/benchmarks.md names them).
const (
	// fullWeight is the interval, in seconds, from which on a reading has full
	// weight. A series that is read more often gives each reading the share of
	// five minutes that it stands for, so that memories are as long in time, and
	// alerts as rare in a week, at one reading a second as at one in five minutes.
	fullWeight = 300

	// settle: the first readings after power-on are often no measurements (zeros,
	// the 85 °C of a DS18B20), so the last of these is where everything begins.
	settle = 8
	// learning is the weight of the readings in which a detector does not alert:
	// a hundred, of which two have been in each tail, the least that has a slope;
	// and a day, which is learningDay of full weight, because what has not seen a
	// day does not know the morning.
	learning    = 100
	learningDay = day / fullWeight
	// settled is how many readings a mean takes before it trusts itself enough to
	// cut off what is far from it.
	settled = 20

	// levelRate is the memory of the usual level and of all scales: 250 readings
	// of full weight, nearly a day of them, so that the day itself is inside.
	levelRate = 0.004
	// fastRate is that of the fast means: 7 readings, enough to halve noise and
	// few enough to speak while an event goes on.
	fastRate = 0.15
	// levelClip: what is further off than four scales moves level and scale as
	// four scales do. Of Gaussian readings one in a thousand is.
	levelClip = 4
	// fastClip leaves the fast mean more room, since it has to follow an event,
	// and changeClip that of the changes: one jump is no unrest, seven are.
	fastClip   = 6
	changeClip = 8

	// floorShare of the range is the least scale, so that a flat line has one:
	// about what a 9-bit sensor can tell.
	floorShare = 0.002
	// leastStep of the range is the least step taken for the sensor's resolution;
	// 20 bits are more than a sensor has, so what is smaller is rounding.
	leastStep = 1e-6
	// mostEvidence bounds evidence, which has no bound over a flat line.
	mostEvidence = 1e9
	mostLog      = 21 // ln(1+mostEvidence), rounded up
	// limit of what is taken for a measurement: differences of such numbers are
	// finite.
	limit = 1e300

	// recordKnee: a record that goes beyond the range by a fifth of it weighs half
	// of what a record can weigh. That most is what a tail's surprise reaches once
	// in a lifetime, so that a record does not depend on other evidence; the
	// record of the fast mean weighs less, because it often follows the other.
	recordKnee       = 0.2
	recordWeight     = 30
	meanRecordWeight = 20

	// seasonDamp: where the season explains all of a series, other evidence counts
	// half while the reading is what the season says; by seasonWidth usual
	// distances from it, it counts in full again (as a Gaussian of that width).
	seasonDamp  = 0.5
	seasonWidth = 2

	// The density of surprise is a fast mean in which a reading counts for at most
	// densityMost, which is what is told by itself.
	densityMost = 10

	// awayClip: a reading counts as at most four scales away, for the same reason
	// as levelClip, and a reading of one scale as not away at all, since that is
	// what readings are on average. awayMost bounds what an event leaves behind: at
	// an evidence of its own of 5.5, and a day until it is forgotten.
	awayClip = 4
	awayFree = 1
	awayMost = 250

	// stepsRate is the memory of the usual interval, in readings.
	stepsRate = 0.02
	// gapClip: a pause counts as no more than so many intervals.
	gapClip = 4
	// leastWeight is that of a thousand readings a second.
	leastWeight = 1e-3 / fullWeight
	day         = 86400.0
)

// Detector finds what is unusual in one series. The zero Detector is ready. It is a
// value without pointers, so that a copy of it is its state. It is not safe for
// concurrent use.
type Detector struct {
	seen    uint32  // readings looked at; stays at its maximum
	learned float64 // weight of them, up to learningDay
	watched float64 // seconds that they span, up to a day

	lastRun  int64   // ns, of the last reading
	interval float64 // usual seconds between readings; 0: not known
	steps    uint32  // intervals seen; stays at its maximum

	last       float64 // reading
	level      float64 // slow mean
	scale      float64 // mean distance from level
	change     float64 // mean |step| from a reading to the next
	fast       float64 // fast mean
	fastChange float64 // fast mean |step|
	resolution float64 // least step seen; 0: none yet
	values     span
	means      span // that fast has been in
	season     season

	tails   [tailed]tail
	density float64 // fast mean of surprise
	away    away
	onset   onset
}

// The evidence that has a tail.
const (
	ofLevel = iota
	ofChange
	ofMean
	ofVolatility
	ofSeason
	ofDensity
	tailed
)

// Result is what a detector says of a reading.
type Result struct {
	// Score is how unusual the series is now, 0 to below 1: for ranking, plots,
	// and thresholds of one's own. It stays up while an event goes on.
	Score float64
	// Alert is how strongly the reading begins an event, 0 to below 1. It is 0 for
	// nearly all readings, since an event has one beginning. From [Threshold] on
	// it is worth telling.
	Alert float64
	// Reason is the evidence that spoke loudest, [ReasonNone] if none did.
	Reason Reason
	// Extent is what it said, see [Reason].
	Extent float64
	// Learning: too little is known to alert.
	Learning bool
}

// Alerts reports whether the reading begins an event that is worth telling.
func (r Result) Alerts() bool { return r.Alert >= Threshold }

// Learning reports whether the detector knows too little to alert.
func (d *Detector) Learning() bool {
	return d.learned < learning || d.learned < learningDay && d.watched < day
}

// Observe takes a reading and says how unusual it is. Time between readings is that
// of at.Run; a time that repeats or goes back is no time, and the reading counts. The
// season is that of at.Wall, while synced says that it can be trusted. NaN, infinities
// and numbers beyond ±1e300 have a Result of zeros and change nothing.
func (d *Detector) Observe(at edgeagent.Instant, synced bool, x float64) Result {
	if !(math.Abs(x) <= limit) {
		return Result{Learning: d.Learning()}
	}
	elapsed := d.tick(at.Run)
	d.seen += min(1, math.MaxUint32-d.seen)
	if d.seen <= settle {
		d.begin(x)
		return Result{Learning: true}
	}
	w := d.weight()
	d.learned = min(d.learned+w, learningDay)
	d.watched = min(d.watched+elapsed, day)
	d.values.forget(d.level, elapsed)
	d.means.forget(d.level, elapsed)

	floor := floorShare*d.values.width() + d.resolution/2
	var season outlook
	if synced {
		season = d.season.look(floorDiv(at.Wall, 1e9), d.values.bound(x), floor, w)
	}
	t := d.weigh(x, floor, season, w)
	d.learn(x, floor, w)
	return d.judge(&t, w)
}

// tick takes the time of a reading and returns the seconds since the one before, 0
// if that cannot be told.
func (d *Detector) tick(run int64) float64 {
	elapsed := float64(run) - float64(d.lastRun)
	d.lastRun = run
	if d.seen == 0 || elapsed <= 0 {
		return 0
	}
	s := min(elapsed/1e9, day) // a longer pause is none that a memory should fade in
	if d.steps == 0 {
		d.interval = s
	}
	d.steps += min(1, math.MaxUint32-d.steps)
	d.interval += max(stepsRate, 1/float64(d.steps)) * (min(s, gapClip*d.interval) - d.interval)
	return s
}

// weight returns what a reading counts for: its share of fullWeight, at most 1.
func (d *Detector) weight() float64 {
	if d.steps == 0 {
		return 1
	}
	return clamp(d.interval/fullWeight, leastWeight, 1)
}

// begin forgets all values and starts at x.
func (d *Detector) begin(x float64) {
	d.last, d.level, d.fast = x, x, x
	d.values, d.means = span{x, x}, span{x, x}
	if d.seen < settle {
		return
	}
	d.onset.long = quietPeak
	for _, i := range []int{ofLevel, ofChange, ofSeason} {
		d.tails[i].begin()
	}
}

// count returns the readings since begin, and x's own.
func (d *Detector) count() float64 { return float64(d.seen - settle) }

// weigh compares x with what is usual, before it becomes part of that, and follows
// it with the fast means. floor is the least scale.
func (d *Detector) weigh(x, floor float64, season outlook, w float64) testimony {
	t := testimony{season: season, record: d.values.beyond(x, d.resolution)}
	if s := d.scale + floor; s > 0 {
		t.away = d.away.move(clip(x-d.level, awayClip*s)/s, w)
	}
	step := math.Abs(x - d.last)
	rate := max(fastRate, 1/(d.count()+1))
	d.fast += rate * clip(x-d.fast, fastClip*(d.scale+floor))
	d.fastChange += rate * (min(step, changeClip*(d.change+floor)) - d.fastChange)

	t.z[ofLevel] = ratio(math.Abs(x-d.level), d.scale+floor)
	t.z[ofChange] = ratio(step, d.change+floor)
	t.z[ofMean] = ratio(math.Abs(d.fast-d.level), d.scale+floor)
	if now, usual := d.fastChange+floor, d.change+floor; now > 0 && usual > 0 {
		t.z[ofVolatility] = min(math.Abs(math.Log(now)-math.Log(usual)), mostEvidence)
	}
	if season.known {
		t.z[ofSeason] = ratio(season.distance, season.usual+floor)
		t.explained = max(0, 1-ratio(season.usual, d.scale+floor))
	}
	if d.count() > settled {
		t.meanRecord = d.means.beyond(d.fast, d.resolution)
	}
	return t
}

// learn makes x part of what is usual.
func (d *Detector) learn(x, floor, w float64) {
	n := d.count() + 1 // begin's reading counts
	rate := max(levelRate*w, 1/n)
	dist, step := math.Abs(x-d.level), math.Abs(x-d.last)
	if n <= settled {
		d.level += (x - d.level) / n
	} else {
		d.level += rate * clip(x-d.level, levelClip*(d.scale+floor))
		dist = min(dist, levelClip*(d.scale+floor))
		step = min(step, levelClip*(d.change+floor))
	}
	d.scale += rate * (dist - d.scale)
	d.change += rate * (step - d.change)
	d.values.widen(x)
	if n <= settled {
		d.means = d.values // a mean of few readings may be as far off as they
	} else {
		d.means.widen(d.fast)
	}
	if s := math.Abs(x - d.last); s > leastStep*d.values.width() && (d.resolution == 0 || s < d.resolution) {
		d.resolution = s
	}
	d.last = x
}
