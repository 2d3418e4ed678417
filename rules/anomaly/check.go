package anomaly

import "math"

// The constants of the physical checks.
const (
	// checkLearning is the time in seconds after which what a sensor has never
	// done means something: a day to have a mean, and one to see it again.
	checkLearning = 2 * day

	// limitsReturn: outside the limits ends when the reading is inside by 1 % of
	// them, so that a reading on the edge is one event.
	limitsReturn = 0.01
	// rateCalm is how many readings of possible speed end an event of impossible
	// speed: a spike is one event, though it goes up and comes back.
	rateCalm = 10
	// missedReadings is how many readings may fail to come, and leastPatience the
	// least time in seconds, before a sensor is missing: bus errors come in
	// twos and threes, and a busy gateway is late by a second.
	missedReadings = 5
	leastPatience  = 3

	// A series is stuck when it repeats a value for stuckTimes the longest time
	// that it ever did and stuckReadings more: of what repeats itself half of the
	// time, one run in a million is that long. stuckChanges is how often it must
	// have changed before.
	stuckTimes    = 3
	stuckReadings = 20
	stuckChanges  = 100

	// Noise is the size of second differences, which have no trend: a mean over
	// noiseReadings beside a mean over a day. A single spike is in three
	// differences, each cut off at noiseClip, and cannot double the mean of 32.
	// What counts is noiseTimes the loudest that it ever was, and twice the mean.
	noiseReadings = 32
	noiseClip     = 6
	noiseTimes    = 1.5
	noiseLeast    = 2
	noiseWiden    = 0.1 // what the loudest may grow by in a day, once it is learned

	// Drift is looked for in a mean over a day. Where that has been in driftWeek,
	// and slowly more (driftWiden of the width a day), is its home. It has
	// drifted when it is out by the width of the home: a Gaussian is not in its
	// lifetime. The home is at least driftFloor of the range of the readings wide:
	// what is less hurts nobody.
	driftWeek  = 7 * day
	driftWiden = 0.1
	driftFloor = 0.05

	// newNormal is after how many days of the same alarm it is how things are.
	newNormal = 3 * day
)

// check is the state of one physical check.
type check struct {
	firing bool
	since  float64 // seconds that it has been
}

// update sets whether the check fires and reports whether that begins now.
func (c *check) update(firing bool, elapsed float64) (began bool) {
	began = firing && !c.firing
	if began || !firing {
		c.since = 0
	} else {
		c.since += elapsed
	}
	c.firing = firing
	return began
}

// stuckness follows runs of one value.
type stuckness struct {
	run     uint32 // repetitions of the last value; stays at its maximum
	seconds float64
	longest uint32 // run so far
	changes uint32 // up to stuckChanges
}

// observe takes a reading and reports whether the series is stuck.
func (s *stuckness) observe(same bool, elapsed float64, learned bool) bool {
	most := s.most()
	if same {
		s.run += min(1, math.MaxUint32-s.run)
		s.seconds += elapsed
		return learned && s.changes >= stuckChanges && s.run > most
	}
	// A run that was taken for stuck and ended may have been usual after all: it
	// counts, but one bad day must not make the check deaf.
	if learned {
		s.run = min(s.run, most)
	}
	s.longest = max(s.longest, s.run)
	s.changes = min(s.changes+1, stuckChanges)
	s.run, s.seconds = 0, 0
	return false
}

// most is the longest run that is not yet stuck.
func (s *stuckness) most() uint32 {
	return uint32(min(stuckTimes*uint64(s.longest)+stuckReadings, math.MaxUint32))
}

// noisiness follows the size of second differences.
type noisiness struct {
	n          uint32  // readings; stays at its maximum
	last, step float64 // the last reading, and its step from the one before
	fast, slow float64 // means of second differences
	loudest    float64 // ratio of the two so far
}

// observe takes a reading that stands for a part of a day, and reports by how much
// there is more noise than usual and whether that is too much. floor is the least
// noise, firing whether it was too much before.
func (s *noisiness) observe(x, part, floor float64, firing, learned bool) (ratio float64, loud bool) {
	step := x - s.last
	second := math.Abs(step - s.step)
	s.last, s.step = x, step
	s.n += min(1, math.MaxUint32-s.n)
	if s.n < 3 {
		return 0, false // a second difference takes three
	}
	k := float64(s.n - 2)
	if k > noiseReadings {
		second = min(second, noiseClip*(s.slow+floor))
	}
	s.fast += max(1.0/noiseReadings, 1/k) * (second - s.fast)
	s.slow += max(part, 1/k) * (second - s.slow)
	ratio = ratioOf(s.fast+floor, s.slow+floor)
	most := max(noiseLeast, noiseTimes*s.loudest)
	switch {
	case firing:
		return ratio, ratio > most/noiseTimes
	case learned && ratio > most:
		return ratio, true
	case learned: // slowly, or noise that begins would be its own measure
		s.loudest = max(s.loudest, min(ratio, s.loudest*(1+noiseWiden*part)))
	case k > noiseReadings: // of fewer, fast and slow are the same
		s.loudest = max(s.loudest, ratio)
	}
	return ratio, false
}

// ratioOf is a/b, and 1 where there is nothing at all.
func ratioOf(a, b float64) float64 {
	if b == 0 {
		return 1
	}
	return min(a/b, mostEvidence)
}

// accept makes the noise as it is the usual one.
func (s *noisiness) accept() { s.slow, s.loudest = s.fast, 1 }

// drifting follows the mean over a day.
type drifting struct {
	n    uint32  // readings; stays at its maximum
	age  float64 // seconds that were observed, up to driftWeek
	mean float64
	home span
}

// observe takes a reading after some seconds, and reports by how many widths of its
// home the mean is out, and whether that is too much. least is the least width.
func (s *drifting) observe(x, elapsed, least float64, firing bool) (beyond float64, out bool) {
	s.n += min(1, math.MaxUint32-s.n)
	s.age = min(s.age+elapsed, driftWeek)
	s.mean += clamp(elapsed/day, 1/float64(s.n), 1) * (x - s.mean)
	switch {
	case s.age < day:
		s.home = span{s.mean, s.mean}
		return 0, false
	case s.age < driftWeek:
		s.home.lo, s.home.hi = min(s.home.lo, s.mean), max(s.home.hi, s.mean)
		return 0, false
	}
	width := max(s.home.width(), least)
	if width == 0 {
		return 0, false
	}
	over := max(s.mean-s.home.hi, s.home.lo-s.mean, 0)
	step := min(over, driftWiden*width*elapsed/day)
	if s.mean > s.home.hi {
		s.home.hi += step
	} else {
		s.home.lo -= step
	}
	beyond = min(over/width, mostEvidence)
	return beyond, beyond > 1 || firing && beyond > 0.5
}

// accept makes where the mean is the home, to be learned anew.
func (s *drifting) accept() { s.home, s.age = span{s.mean, s.mean}, day }
