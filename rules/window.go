package rules

import (
	"math"
	"time"

	"github.com/edgeagent/edgeagent/rules/expression"
)

// panes is how many parts a time window has. A window is exact to one of them:
// it looks at 59 to 60 sixtieths of its length.
const panes = 60

// window is the past of one series, or of one condition, as far as some functions
// look at it. All times are rules times in nanoseconds and never go back.
type window interface {
	// add takes a value at time at. An at before the last one is late.
	add(at int64, v float64)
	// advance forgets what is too old at now.
	advance(now int64)
	// covered reports whether values have been coming for the whole window.
	covered(now int64) bool
	// expires returns when advance forgets something next, or never.
	expires() int64
	// size is the memory it takes, in bytes, when it is full.
	size() int64
	encode(w *encoder)
	decode(r *decoder)
}

// aggregate summarises values in order of time. The zero aggregate is empty.
type aggregate struct {
	n, changes      uint32 // changes: how often a value differed from the one before
	sum, m2         float64
	min, max        float64
	first, last     float64
	firstAt, lastAt int64
	rise            float64 // sum of rises; a fall is a counter that began anew
}

func one(at int64, v float64) aggregate {
	return aggregate{n: 1, sum: v, min: v, max: v, first: v, last: v, firstAt: at, lastAt: at}
}

func (a aggregate) empty() bool { return a.n == 0 }

// merge returns the summary of a followed by b. M2 follows Chan, Golub and
// LeVeque, "Updating formulae and a pairwise algorithm for computing sample
// variances" (1979).
func (a aggregate) merge(b aggregate) aggregate {
	switch {
	case a.n == 0:
		return b
	case b.n == 0:
		return a
	}
	na, nb := float64(a.n), float64(b.n)
	d := b.sum/nb - a.sum/na
	out := aggregate{
		n: a.n + b.n, changes: a.changes + b.changes,
		sum: a.sum + b.sum, m2: a.m2 + b.m2 + d*d*na*nb/(na+nb),
		min: min(a.min, b.min), max: max(a.max, b.max),
		first: a.first, last: b.last, firstAt: a.firstAt, lastAt: b.lastAt,
		rise: a.rise + b.rise + rise(a.last, b.first),
	}
	if a.last != b.first {
		out.changes++
	}
	return out
}

// insert returns the summary of a with b, which is one value that comes late, at
// its place. What stood beside it there is not known any more: that it changed, or
// that a counter rose, is counted at the ends only.
func (a aggregate) insert(b aggregate) aggregate {
	switch {
	case a.n == 0 || b.firstAt >= a.lastAt:
		return a.merge(b)
	case b.firstAt < a.firstAt:
		return b.merge(a)
	}
	out := a.merge(b)
	out.last, out.lastAt, out.rise, out.changes = a.last, a.lastAt, a.rise, a.changes
	return out
}

// rise is what a counter counted from a to b: one that fell began at 0.
func rise(a, b float64) float64 {
	if b >= a {
		return b - a
	}
	return b
}

func (a aggregate) mean() float64 { return a.sum / float64(a.n) }

// stddev is that of a sample, unknown below two values.
func (a aggregate) stddev() float64 {
	if a.n < 2 {
		return math.NaN()
	}
	return math.Sqrt(max(a.m2, 0) / float64(a.n-1))
}

// seconds from the first value to the last, unknown when there is no time between.
func (a aggregate) seconds() float64 {
	if a.lastAt <= a.firstAt {
		return math.NaN()
	}
	return float64(a.lastAt-a.firstAt) / float64(time.Second)
}

// trend holds the moments of a least-squares line. Times are in seconds from
// the origin of the window that holds it.
type trend struct {
	n              float64
	t, v, tt, tv   float64 // means of time and value, and their second moments
	firstAt, lastT int64
}

func (a trend) empty() bool { return a.n == 0 }

// merge is that of [aggregate], for the covariance.
func (a trend) merge(b trend) trend {
	switch {
	case a.n == 0:
		return b
	case b.n == 0:
		return a
	}
	n := a.n + b.n
	dt, dv := b.t-a.t, b.v-a.v
	w := a.n * b.n / n
	return trend{
		n: n, t: a.t + dt*b.n/n, v: a.v + dv*b.n/n,
		tt: a.tt + b.tt + dt*dt*w, tv: a.tv + b.tv + dt*dv*w,
		firstAt: a.firstAt, lastT: b.lastT,
	}
}

// insert is merge: a line has no order.
func (a trend) insert(b trend) trend { return a.merge(b) }

// slope is the rise of the line per second, unknown below two moments in time.
func (a trend) slope() float64 {
	if a.tt <= 0 {
		return math.NaN()
	}
	return a.tv / a.tt
}

// summary is what a ring holds: a value that can be joined in order.
type summary[T any] interface {
	empty() bool
	merge(T) T
	insert(T) T // a single value, at its place
}

// ring is a sliding window of panes in which everything is done in constant
// amortised time and without subtraction, so that no error grows: the panes
// before mid hold the summary of all from there up to mid ("two stacks").
type ring[T summary[T]] struct {
	width          int64 // of a pane
	head, mid, cur int64 // numbers of panes: the oldest kept, the first that stands for itself, the newest
	begun          int64 // when values began to come without a gap as long as the window; -1: there are none
	slots          [panes]T
	back           T // summary of mid … cur
}

func newRing[T summary[T]](length time.Duration) ring[T] {
	return ring[T]{width: max(1, int64(length)/panes), begun: -1}
}

func (r *ring[T]) slot(pane int64) *T { return &r.slots[uint64(pane)%panes] }

// advance moves the window to now.
func (r *ring[T]) advance(now int64) {
	pane := now / r.width
	if pane <= r.cur {
		return
	}
	var zero T
	oldest := pane - panes + 1
	if r.begun >= 0 && oldest > r.cur {
		r.clear(pane)
		return
	}
	if r.begun < 0 {
		r.head, r.mid, r.cur = max(0, oldest), pane, pane
		return
	}
	if oldest > r.mid { // the summaries have run out: make them of what stands for itself
		for p := r.head; p < oldest; p++ {
			*r.slot(p) = zero
		}
		r.head = oldest
		for p := r.cur - 1; p >= oldest; p-- {
			*r.slot(p) = (*r.slot(p)).merge(*r.slot(p + 1))
		}
		r.mid, r.back = r.cur+1, zero
	}
	for p := r.head; p < oldest; p++ {
		*r.slot(p) = zero
	}
	r.head = max(r.head, oldest)
	for p := r.cur + 1; p <= pane; p++ {
		*r.slot(p) = zero
	}
	r.cur = pane
	if r.total().empty() {
		r.clear(pane)
	}
}

// clear empties the window, whose newest pane is pane from now on.
func (r *ring[T]) clear(pane int64) {
	*r = ring[T]{width: r.width, head: max(0, pane-panes+1), mid: pane, cur: pane, begun: -1}
}

// add joins a value to the pane of its time.
func (r *ring[T]) add(at int64, v T) {
	r.advance(at)
	if r.begun < 0 {
		r.begun = at
	}
	pane := min(at/r.width, r.cur)
	switch {
	case pane == r.cur && pane >= r.mid:
		*r.slot(pane) = (*r.slot(pane)).insert(v)
		r.back = r.back.insert(v)
	case pane < r.head: // too late for this window
	case pane >= r.mid:
		*r.slot(pane) = (*r.slot(pane)).insert(v)
		var zero T
		r.back = zero
		for p := r.mid; p <= r.cur; p++ {
			r.back = r.back.merge(*r.slot(p))
		}
	default: // within the summaries: they all hold it
		for p := r.head; p <= pane; p++ {
			*r.slot(p) = (*r.slot(p)).insert(v)
		}
	}
}

// total returns the summary of the whole window.
func (r *ring[T]) total() T {
	if r.head < r.mid {
		return (*r.slot(r.head)).merge(r.back)
	}
	return r.back
}

func (r *ring[T]) covered(now int64) bool {
	return r.begun >= 0 && now-r.begun >= r.width*(panes-1)
}

func (r *ring[T]) expires() int64 {
	if r.begun < 0 {
		return never
	}
	return (r.cur + 1) * r.width
}

// paneWindow serves the functions that a summary is enough for.
type paneWindow struct {
	ring[aggregate]
	since int64 // when it was made, or watching began
}

func newPaneWindow(length time.Duration, now int64) *paneWindow {
	return &paneWindow{newRing[aggregate](length), now}
}

func (w *paneWindow) add(at int64, v float64) {
	if w.advance(at); at/w.width != w.cur || w.begun < 0 || at < w.back.lastAt {
		w.ring.add(at, one(at, v))
		return
	}
	w.slot(w.cur).push(at, v)
	w.back.push(at, v)
}

// push is merge with one value behind the others, after Welford.
func (a *aggregate) push(at int64, v float64) {
	if a.n == 0 {
		*a = one(at, v)
		return
	}
	n := float64(a.n)
	d := v - a.sum/n
	a.m2 += d * d * n / (n + 1)
	a.n++
	a.sum += v
	a.min, a.max = min(a.min, v), max(a.max, v)
	a.rise += rise(a.last, v)
	if a.last != v {
		a.changes++
	}
	a.last, a.lastAt = v, at
}

// ends returns the two summaries that make up the window.
func (w *paneWindow) ends() (front, back *aggregate) {
	if w.head < w.mid {
		return w.slot(w.head), &w.back
	}
	return &w.back, &aggregate{}
}

// simple computes mean, sum and count, which need no merger of the two ends: that
// costs more.
func (w *paneWindow) simple(fn function) (v float64, ok bool) {
	a, b := w.ends()
	n := float64(a.n) + float64(b.n)
	switch {
	case fn == countFn:
		return n, true
	case n == 0:
		return math.NaN(), true
	case fn == avgFn || fn == fractionFn:
		return (a.sum + b.sum) / n, true
	case fn == sumFn:
		return a.sum + b.sum, true
	}
	return 0, false
}
func (w *paneWindow) size() int64 { return paneWindowSize }

// trendWindow serves slope.
type trendWindow struct{ ring[trend] }

func newTrendWindow(length time.Duration) *trendWindow {
	return &trendWindow{newRing[trend](length)}
}

// add: seconds are counted from a time that only this window's width decides, so
// that they stay small and the same over restarts.
func (w *trendWindow) add(at int64, v float64) {
	w.ring.add(at, trend{n: 1, t: float64(at) / float64(time.Second), v: v, firstAt: at, lastT: at})
}
func (w *trendWindow) size() int64 { return trendWindowSize }

// windowClass is which kind of window a function needs.
type windowClass uint8

const (
	paneClass windowClass = iota
	trendClass
	sampleClass
)

// classOf says which window serves a call.
func classOf(c expression.Call, exact bool) windowClass {
	switch {
	case c.Window.Count > 0 || exact || c.Func == "prev":
		return sampleClass
	case c.Func == "median" || c.Func == "quantile" || c.Func == "mad":
		return sampleClass
	case c.Func == "slope":
		return trendClass
	}
	return paneClass
}

// windowSpec says which window a call needs.
type windowSpec struct {
	class windowClass
	span  expression.Window
	exact bool // keeps samples, however many
}

func specOf(c expression.Call, exact bool) windowSpec {
	s := windowSpec{classOf(c, exact), c.Window, false}
	if c.Func == "prev" {
		s.span = expression.Window{Count: int(c.Arg) + 1}
	}
	s.exact = s.class == sampleClass && s.span.Count == 0 && exact
	return s
}

func (s windowSpec) make(now int64) window {
	switch s.class {
	case paneClass:
		return newPaneWindow(s.span.Duration, now)
	case trendClass:
		return newTrendWindow(s.span.Duration)
	}
	return newSampleWindow(s.span, s.exact, now)
}

// cost is the most memory such a window takes, in bytes.
func (s windowSpec) cost() int64 {
	switch s.class {
	case paneClass:
		return paneWindowSize
	case trendClass:
		return trendWindowSize
	}
	return sampleWindowSize(s.span, s.exact)
}
