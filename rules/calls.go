package rules

import (
	"math"
	"time"

	"github.com/edgeagent/edgeagent/rules/expression"
)

// function is what a call computes.
type function uint8

const (
	avgFn function = iota
	minFn
	maxFn
	sumFn
	countFn
	firstFn
	lastFn
	stddevFn
	medianFn
	rangeFn
	deltaFn
	rateFn
	increaseFn
	slopeFn
	madFn
	zscoreFn
	changesFn
	changedFn
	quantileFn
	flatFn
	fractionFn
	prevFn
	ageFn
	staleFn
	outsideFn
	anomalyFn
	anomalyAlertFn
	faultyFn
	hourFn
	weekdayFn
	ruleFn
	modelFn
)

// functionOf returns the function of that name. The expression language has no
// others.
func functionOf(name string) function {
	names := [...]string{
		avgFn: "avg", minFn: "min", maxFn: "max", sumFn: "sum", countFn: "count", firstFn: "first", lastFn: "last",
		stddevFn: "stddev", medianFn: "median", rangeFn: "range", deltaFn: "delta", rateFn: "rate",
		increaseFn: "increase", slopeFn: "slope", madFn: "mad", zscoreFn: "zscore", changesFn: "changes",
		changedFn: "changed", quantileFn: "quantile", flatFn: "flat", fractionFn: "fraction", prevFn: "prev",
		ageFn: "age", staleFn: "stale", outsideFn: "outside_limits", anomalyFn: "anomaly",
		anomalyAlertFn: "anomaly_alert", faultyFn: "faulty", hourFn: "hour", weekdayFn: "weekday", ruleFn: "rule", modelFn: "model",
	}
	for i, n := range names {
		if n == name {
			return function(i)
		}
	}
	panic("rules: the language has a function that the engine does not know: " + name)
}

// call is a call of a rule, compiled.
type call struct {
	expression.Call
	fn         function
	spec       windowSpec
	windowed   bool
	model      Model
	watched    *rule   // of rule("id")
	thresholds []int64 // of age, in ns: what it is compared with
	free       bool    // age is used otherwise
}

// bound is a call of an instance.
type bound struct {
	*call
	track  *track // of its input
	scorer func(x []float64) float64
	window
}

func (c *call) detects() bool {
	return c.fn == anomalyFn || c.fn == anomalyAlertFn || c.fn == faultyFn
}

// value works a call out at the engine's time.
func (e *Engine) value(in *instance, b *bound) float64 {
	switch b.fn {
	case ageFn:
		return float64(b.track.age(e.now)) / float64(time.Second)
	case staleFn:
		return truthValue(b.track.age(e.now) >= in.slots[b.Input].staleAfter)
	case outsideFn:
		return b.track.outside()
	case anomalyFn:
		if !expression.Known(in.values[b.Input]) {
			return math.NaN() // the score is of a reading that counts no more
		}
		return b.track.score
	case anomalyAlertFn:
		return truthValue(b.track.alerted)
	case faultyFn:
		return b.track.faulty(e.now)
	case hourFn, weekdayFn:
		return e.calendar(b.fn)
	case ruleFn:
		return truthValue(b.watched.fires(in.name))
	case modelFn:
		return e.ask(in, b)
	}
	b.advance(e.now)
	switch w := b.window.(type) {
	case *paneWindow:
		return w.value(b.call, e.now, in.values)
	case *trendWindow:
		return w.total().slope()
	case *sampleWindow:
		return w.value(b.call, e.now, in.values, e.scratch[:])
	}
	return math.NaN()
}

func truthValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// value computes a function over the panes. values are those of the instance.
func (w *paneWindow) value(c *call, now int64, values []float64) float64 {
	switch c.fn {
	case countFn:
		if now-w.since < int64(c.Window.Duration) {
			return math.NaN() // watched for too short a time to say that there were few
		}
		v, _ := w.simple(countFn)
		return v
	case flatFn, fractionFn:
		if !w.covered(now) {
			return math.NaN()
		}
	}
	if v, ok := w.simple(c.fn); ok {
		return v
	}
	return w.total().value(c, values)
}

// value computes a function over samples.
func (w *sampleWindow) value(c *call, now int64, values, scratch []float64) float64 {
	if !w.complete(now) || w.length == 0 && w.n < len(w.ring) {
		return math.NaN()
	}
	switch c.fn {
	case countFn:
		if now-w.since < w.length {
			return math.NaN()
		}
		return float64(w.n)
	case flatFn, fractionFn:
		if !w.covered(now) {
			return math.NaN()
		}
	case prevFn:
		return w.back(w.n - 1).v
	case medianFn:
		return w.quantile(0.5, scratch)
	case quantileFn:
		return w.quantile(c.Arg, scratch)
	case madFn:
		return w.mad(scratch)
	case slopeFn:
		return w.slope()
	}
	return w.aggregate().value(c, values)
}

// value computes a function of a summary; unknown without values enough.
func (a aggregate) value(c *call, values []float64) float64 {
	if a.n == 0 {
		return math.NaN()
	}
	switch c.fn {
	case avgFn, fractionFn:
		return a.mean()
	case minFn:
		return a.min
	case maxFn:
		return a.max
	case sumFn:
		return a.sum
	case firstFn:
		return a.first
	case lastFn:
		return a.last
	case stddevFn:
		return a.stddev()
	case rangeFn:
		return a.max - a.min
	case zscoreFn:
		return (values[c.Input] - a.mean()) / a.stddev()
	case changesFn:
		return float64(a.changes)
	case changedFn:
		return truthValue(a.changes > 0)
	}
	if a.n < 2 {
		return math.NaN()
	}
	switch c.fn {
	case deltaFn:
		return a.last - a.first
	case increaseFn:
		return a.rise
	case rateFn:
		return a.rise / a.seconds()
	case flatFn:
		return truthValue(a.max-a.min <= c.Arg)
	}
	return math.NaN()
}

// calendar returns the hour, 0 to 23, or the day of the week, 1 (Monday) to 7,
// unknown while nobody vouches for the clock.
func (e *Engine) calendar(fn function) float64 {
	if e.unsynced || !e.wallKnown {
		return math.NaN()
	}
	t := time.Unix(0, e.wall()).In(e.opts.Location)
	if fn == hourFn {
		return float64(t.Hour())
	}
	return float64((t.Weekday()+6)%7) + 1
}

// wall is the wall time at the engine's time.
func (e *Engine) wall() int64 { return e.now + e.wallAhead }

// nextHour is the rules time at which the hour changes, or never.
func (e *Engine) nextHour() int64 {
	if e.unsynced || !e.wallKnown {
		return never
	}
	t := time.Unix(0, e.wall()).In(e.opts.Location)
	// Zones are ahead by quarters of an hour; each is looked at.
	const quarter = 15 * time.Minute
	next := t.Truncate(quarter).Add(quarter)
	for range 4 {
		if next.Hour() != t.Hour() {
			break
		}
		next = next.Add(quarter)
	}
	return next.UnixNano() - e.wallAhead
}

// ask asks a model.
func (e *Engine) ask(in *instance, b *bound) float64 {
	for i, f := range b.Features {
		e.features[i] = f.Eval(in.values)
	}
	return b.scorer(e.features[:len(b.Features)])
}

// fires reports whether the rule's instance of that name fires, or any when it has
// none of that name.
func (r *rule) fires(name string) bool {
	if in := r.instances[name]; in != nil {
		return in.fires()
	}
	for _, in := range r.instances {
		if in.fires() {
			return true
		}
	}
	return false
}

// due returns when a call's value changes by itself, or never.
func (e *Engine) due(in *instance, b *bound) int64 {
	switch b.fn {
	case ageFn:
		return b.ageDue(e.now)
	case staleFn:
		if s := in.slots[b.Input].staleAfter; s != never {
			return later(b.track.lastSeen()+s, e.now)
		}
		return never
	case faultyFn:
		if c, ok := b.track.detector.(Checker); ok {
			if at, ok := c.NextTimer(); ok {
				return later(at, e.now)
			}
		}
		return never
	case hourFn, weekdayFn:
		return e.nextHour()
	}
	if b.window == nil {
		return never
	}
	at := b.expires()
	if w, ok := b.window.(*paneWindow); ok && b.fn == countFn {
		at = min(at, later(w.since+int64(b.Window.Duration), e.now))
	}
	return at
}

// later returns at if it is still to come, else never.
func later(at, now int64) int64 {
	if at <= now {
		return never
	}
	return at
}

// lastSeen is when the age was 0.
func (t *track) lastSeen() int64 {
	if t.used {
		return t.usableAt
	}
	return t.began
}

// ageDue: age grows all the time, but a rule cares when it passes what it is
// compared with: at that moment, and right after it.
func (b *bound) ageDue(now int64) int64 {
	seen, at := b.track.lastSeen(), int64(never)
	now = max(now, b.track.heard)
	for _, limit := range b.thresholds {
		at = min(at, later(seen+limit, now), later(seen+limit+1, now))
	}
	if b.free {
		// Each second, later in proportion: a month of silence is not looked at
		// millions of times. The grids lie within one another, so that the next look
		// does not depend on the last.
		look := int64(time.Second)
		for (now-seen)/look >= 600 {
			look *= 2
		}
		at = min(at, seen+((now-seen)/look+1)*look)
	}
	return at
}
