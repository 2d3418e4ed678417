package rules

import (
	"math"
	"time"
	"unsafe"

	"github.com/edgeagent/edgeagent"
)

// Detector scores the readings of one series; rules/anomaly has one. It is used
// from one goroutine.
type Detector interface {
	// Observe takes a reading that counts. at.Run is rules time, which goes on over
	// restarts. synced says whether the wall time can
	// be trusted. score is NaN while it learns, else within 0 and 1; alert is true
	// once per event.
	Observe(at edgeagent.Instant, synced bool, v float64) (score float64, alert bool)
	// Reason says what the last alert was about, for people; "" before one.
	Reason() string
	// AppendState and SetState save and restore all that Observe depends on.
	AppendState(dst []byte) []byte
	SetState(state []byte) error
	// Size is the memory it takes, in bytes.
	Size() int64
}

// Checker is a detector that also checks what a series can physically be: limits,
// rate, silence and so on, from its facts. faulty() asks it, and so do the rules that
// every series with facts has by itself.
type Checker interface {
	// Faulty says whether a check fires, why, and what readings are worth
	// meanwhile.
	Faulty() (reason string, quality edgeagent.Quality, faulty bool)
	// Tick looks at rules time now whether a reading is overdue, and NextTimer says
	// when that is worth while.
	Tick(now int64)
	NextTimer() (at int64, ok bool)
	// Resume sets the clock after a time in which nobody listened.
	Resume(now int64)
}

// Model is a trained function that rules ask with model("name", …). It is called
// from one goroutine.
type Model interface {
	Features() int // how many numbers it wants
	// Scorer returns a function that is used by one rule's instance alone. It
	// returns NaN when the model has no answer now; NaN among the features is a
	// missing value. It neither blocks nor keeps x.
	Scorer() func(x []float64) float64
}

// track is what the engine remembers of one series besides its last value: the
// windows of all rules over it, and its detector.
type track struct {
	name     string
	facts    *Facts
	windows  map[windowSpec]window
	order    []windowSpec // of windows, as they were made
	value    float64      // the last, whatever its quality; NaN before the first
	usableAt int64        // rules time of the last reading that counts
	used     bool         // there was one
	began    int64        // rules time of the track's making
	heard    int64        // rules time from which somebody listens again; ages stand still before it
	latest   int64        // wall time of the newest reading that its source dated
	lateRun  int          // how many in a row came too late

	detector Detector
	score    float64
	alerted  bool
}

// Sizes for the memory account.
const (
	trackSize = int64(unsafe.Sizeof(track{})) + 128 // and the maps' entries that lead to it
	// detectorSize is what a detector may take: 4 KiB a series.
	detectorSize = 4 << 10
)

// maxLateRun is how many readings in a row may be too late; then it is not they
// that are late, but the source's clock that was set back.
const maxLateRun = 10

// lateness is what a reading's time says about its place.
type lateness uint8

const (
	inOrder lateness = iota
	late             // out of order, but in time for windows
	tooLate
)

// place decides whether a reading is late, and by how much.
func (t *track) place(r *edgeagent.Reading) (lateness, int64) {
	if t.facts == nil || t.facts.Lateness == 0 || !r.Recorded {
		return inOrder, 0
	}
	lag := t.latest - r.At.Wall
	switch {
	case lag <= 0 || t.latest == 0:
		t.latest, t.lateRun = r.At.Wall, 0
		return inOrder, 0
	case lag <= int64(t.facts.Lateness):
		t.lateRun = 0
		return late, lag
	}
	if t.lateRun++; t.lateRun >= maxLateRun {
		t.latest, t.lateRun = r.At.Wall, 0
		return inOrder, 0
	}
	return tooLate, lag
}

// take takes a reading at rules time now. counts says whether its value can be
// used.
func (t *track) take(r *edgeagent.Reading, now, lag int64, counts, synced bool) {
	if lag == 0 {
		t.value = r.Value
	}
	t.alerted = false
	if !counts || math.IsInf(r.Value, 0) {
		return // an infinity would poison every sum
	}
	t.watch(max(0, now-lag), r.Value)
	if lag == 0 {
		t.hear(r, now, synced)
	}
}

// watch gives a value to the windows.
func (t *track) watch(at int64, v float64) {
	for _, s := range t.order {
		t.windows[s].add(at, v)
	}
}

// hear notes that the series speaks, and asks its detector.
func (t *track) hear(r *edgeagent.Reading, now int64, synced bool) {
	t.usableAt, t.used = now, true
	if t.detector != nil {
		t.score, t.alerted = t.detector.Observe(edgeagent.Instant{Wall: r.At.Wall, Run: now}, synced, r.Value)
	}
}

// age is the time since the last reading that counts, or since the engine began to
// wait for one, in nanoseconds.
func (t *track) age(now int64) int64 { return max(now, t.heard) - t.lastSeen() }

// window returns the window of that kind, made if need be.
func (t *track) window(s windowSpec, now int64) window {
	w := t.windows[s]
	if w == nil {
		w = s.make(now)
		t.windows[s] = w
		t.order = append(t.order, s)
	}
	return w
}

// outside reports whether the last value is outside the limits: 1, 0 or NaN.
func (t *track) outside() float64 {
	v := t.value
	switch {
	case t.facts == nil || t.facts.Min == nil && t.facts.Max == nil || math.IsNaN(v):
		return math.NaN()
	case t.facts.Min != nil && v < *t.facts.Min || t.facts.Max != nil && v > *t.facts.Max:
		return 1
	}
	return 0
}

// faulty asks the checks: 1, 0, or NaN without any.
func (t *track) faulty(now int64) float64 {
	c, ok := t.detector.(Checker)
	if !ok {
		return math.NaN()
	}
	c.Tick(now)
	_, _, faulty := c.Faulty()
	return truthValue(faulty)
}

// staleAfter returns how old a reading may be when a rule does not say.
func staleAfter(every time.Duration) int64 {
	if every <= 0 {
		return never
	}
	return int64(max(staleIntervals*every, minStale))
}
