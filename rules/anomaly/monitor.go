package anomaly

import (
	"math"

	"github.com/edgeagent/edgeagent"
)

// Monitor watches one series: the physical checks that its facts allow, and the
// [Detector]. The zero Monitor has no facts and is a Detector. It is not safe for
// concurrent use.
type Monitor struct {
	facts facts
	state state
}

// facts are [Facts] as the checks use them.
type facts struct {
	limits     span // infinite where there are none
	limited    bool
	rate       float64 // 0: none
	every      float64 // seconds; 0: not known
	resolution float64
	gauge      bool // checks that need a gauge and its interval are on
}

// state is what a monitor has learned, and what is saved.
type state struct {
	detector Detector
	seen     bool    // there was a reading, at lastRun
	lastRun  int64   // ns
	usable   bool    // there was one within the limits, last at usedRun
	usedRun  int64   // ns
	last     float64 // its value
	learned  float64 // seconds observed, up to checkLearning
	checks   [checks]check
	calm     uint32 // readings since the last impossible speed, up to rateCalm
	stuck    stuckness
	noise    noisiness
	drift    drifting
}

// The physical checks, worst first: of what begins together the first is told.
const (
	checkMissing = iota
	checkLimits
	checkRate
	checkStuck
	checkNoise
	checkDrift
	checks
)

var checkReasons = [checks]Reason{ReasonMissing, ReasonLimits, ReasonRate, ReasonStuck, ReasonNoise, ReasonDrift}

// Verdict is what a monitor says of a series at a moment.
type Verdict struct {
	// Score is that of the detector, or 1 while a physical check fires.
	Score float64
	// Alert: an event begins that is worth telling.
	Alert bool
	// Reason is that of the alert or, without one, of the score; Extent is what
	// it measured, see [Reason].
	Reason Reason
	Extent float64
	// Learning: the detector, or a check that has to learn, knows too little.
	Learning bool
	// Quality is what the checks say of the reading: bad outside the limits,
	// stale while none comes, suspect while another check fires.
	Quality edgeagent.Quality
}

// NewMonitor returns a monitor that has learned nothing. A fact that makes no sense, such
// as a negative interval, is not known.
func NewMonitor(f Facts) *Monitor {
	m := &Monitor{facts: facts{
		limits:     span{math.Inf(-1), math.Inf(1)},
		limited:    f.Min != nil || f.Max != nil,
		rate:       max(0, f.MaxRate),
		every:      max(0, f.Every.Seconds()),
		resolution: max(0, f.Resolution),
		gauge:      f.Kind == edgeagent.Gauge && f.Every > 0,
	}}
	if f.Min != nil {
		m.facts.limits.lo = *f.Min
	}
	if f.Max != nil {
		m.facts.limits.hi = *f.Max
	}
	return m
}

// Observe takes a reading, as [Detector.Observe] does. What is not a finite number is
// no reading: a sensor that sends nothing else is missing. What is outside the limits
// is learned by nobody.
func (m *Monitor) Observe(at edgeagent.Instant, synced bool, x float64) Verdict {
	s := &m.state
	v := Verdict{}
	m.checkMissing(at.Run, &v)
	if !finite(x) {
		return m.conclude(&v, Result{Learning: s.detector.Learning()})
	}
	elapsed := m.elapsed(at.Run)
	s.checks[checkMissing].update(false, 0)
	s.seen, s.lastRun = true, at.Run
	s.learned = min(s.learned+elapsed, checkLearning)

	m.checkLimits(x, elapsed, &v)
	if s.checks[checkLimits].firing {
		return m.conclude(&v, Result{Learning: s.detector.Learning()})
	}
	m.checkRate(at.Run, x, elapsed, &v)
	if m.facts.gauge && s.usable {
		m.checkStuck(x, elapsed, &v)
		m.checkNoise(x, elapsed, &v)
		m.checkDrift(x, elapsed, &v)
	}
	s.usable, s.usedRun, s.last = true, at.Run, x
	return m.conclude(&v, s.detector.Observe(at, synced, x))
}

// Tick looks at run time run whether a reading is overdue. It need not be called at
// all while readings come.
func (m *Monitor) Tick(run int64) Verdict {
	v := Verdict{}
	m.checkMissing(run, &v)
	return m.conclude(&v, Result{Learning: m.state.detector.Learning()})
}

// NextTimer returns the run time at which [Monitor.Tick] finds the series missing if no
// reading comes. ok is false when there is no such time: it is missing already, has
// never come, or no interval is known.
func (m *Monitor) NextTimer() (run int64, ok bool) {
	s := &m.state
	if m.facts.every == 0 || !s.seen || s.checks[checkMissing].firing {
		return 0, false
	}
	return s.lastRun + int64(m.facts.patience()*1e9) + 1, true
}

// Resume sets the clock after a restart: what was learned stays, and the time in
// which nobody listened does not count against the sensor.
func (m *Monitor) Resume(run int64) {
	m.state.lastRun, m.state.usable = run, false
	m.state.detector.lastRun = run
}

// Learning reports whether the detector, or a check that has to learn, knows too
// little to alert.
func (m *Monitor) Learning() bool {
	return m.state.detector.Learning() || m.facts.gauge && m.state.learned < checkLearning
}

// Firing appends the physical checks that fire now, worst first.
func (m *Monitor) Firing(dst []Reason) []Reason {
	for i := range m.state.checks {
		if m.state.checks[i].firing {
			dst = append(dst, checkReasons[i])
		}
	}
	return dst
}

// conclude adds what the detector says.
func (m *Monitor) conclude(v *Verdict, r Result) Verdict {
	v.Learning = m.Learning()
	v.Score = r.Score
	if !v.Alert {
		v.Alert, v.Reason, v.Extent = r.Alerts(), r.Reason, r.Extent
	}
	for i := range m.state.checks {
		if !m.state.checks[i].firing {
			continue
		}
		v.Score = 1
		if v.Quality == edgeagent.Good {
			v.Quality = checkQuality[i]
		}
		if !v.Alert {
			v.Reason, v.Extent = checkReasons[i], 0
		}
		break
	}
	return *v
}

// checkQuality is what a check says of the readings.
var checkQuality = [checks]edgeagent.Quality{
	checkMissing: edgeagent.Stale, checkLimits: edgeagent.Bad, checkRate: edgeagent.Suspect,
	checkStuck: edgeagent.Suspect, checkNoise: edgeagent.Suspect, checkDrift: edgeagent.Suspect,
}

// set updates a check. What begins is told, unless something worse was.
func (m *Monitor) set(i int, firing bool, elapsed, extent float64, v *Verdict) {
	if m.state.checks[i].update(firing, elapsed) && !v.Alert {
		v.Alert, v.Reason, v.Extent = true, checkReasons[i], extent
	}
}

// elapsed returns the seconds since the last reading in which the sensor was
// observed: no more than a few intervals.
func (m *Monitor) elapsed(run int64) float64 {
	if !m.state.seen {
		return 0
	}
	most := float64(hour)
	if m.facts.every > 0 {
		most = gapClip * m.facts.every
	}
	return clamp((float64(run)-float64(m.state.lastRun))/1e9, 0, most)
}

// patience is how many seconds may pass without a reading.
func (f *facts) patience() float64 { return max(missedReadings*f.every, leastPatience) }

func (m *Monitor) checkMissing(run int64, v *Verdict) {
	s := &m.state
	if m.facts.every == 0 || !s.seen || s.checks[checkMissing].firing {
		return
	}
	gap := (float64(run) - float64(s.lastRun)) / 1e9
	m.set(checkMissing, gap > m.facts.patience(), 0, gap, v)
}

func (m *Monitor) checkLimits(x, elapsed float64, v *Verdict) {
	if !m.facts.limited {
		return
	}
	lo, hi := m.facts.limits.lo, m.facts.limits.hi
	passed := hi
	if x < lo {
		passed = lo
	}
	if m.state.checks[checkLimits].firing {
		if margin := limitsReturn * (hi - lo); margin <= limit { // both are known
			lo, hi = lo+margin, hi-margin
		}
	}
	m.set(checkLimits, x < lo || x > hi, elapsed, passed, v)
}

func (m *Monitor) checkRate(run int64, x, elapsed float64, v *Verdict) {
	s := &m.state
	seconds := (float64(run) - float64(s.usedRun)) / 1e9
	if m.facts.rate == 0 || !s.usable || seconds <= 0 {
		return
	}
	// A reading that came late and its successor that did not are close together,
	// and were not taken so.
	seconds = max(seconds, m.facts.every/2)
	speed := (math.Abs(x-s.last) - m.facts.resolution) / seconds
	s.calm = min(s.calm+1, rateCalm)
	if speed > m.facts.rate {
		s.calm = 0
	}
	firing := s.calm == 0 || s.checks[checkRate].firing && s.calm < rateCalm
	m.set(checkRate, firing, elapsed, speed, v)
}

func (m *Monitor) checkStuck(x, elapsed float64, v *Verdict) {
	s := &m.state
	same := math.Abs(x-s.last) <= m.facts.resolution/2
	m.set(checkStuck, s.stuck.observe(same, elapsed, s.learned >= checkLearning), elapsed, s.stuck.seconds, v)
}

func (m *Monitor) checkNoise(x, elapsed float64, v *Verdict) {
	s := &m.state
	c := &s.checks[checkNoise]
	floor := max(m.facts.resolution, floorShare*s.detector.values.width())
	ratio, loud := s.noise.observe(x, elapsed/day, floor, c.firing, s.learned >= checkLearning)
	if loud && c.since > newNormal {
		s.noise.accept()
		loud = false
	}
	m.set(checkNoise, loud, elapsed, ratio, v)
}

func (m *Monitor) checkDrift(x, elapsed float64, v *Verdict) {
	s := &m.state
	c := &s.checks[checkDrift]
	least := max(2*m.facts.resolution, driftFloor*s.detector.values.width())
	beyond, out := s.drift.observe(x, elapsed, least, c.firing)
	if out && c.since > newNormal {
		s.drift.accept()
		out = false
	}
	m.set(checkDrift, out, elapsed, beyond, v)
}
