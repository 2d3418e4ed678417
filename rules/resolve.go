package rules

import (
	"slices"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules/expression"
)

// resolve finds what a series feeds, making instances on the way.
func (e *Engine) resolve(s edgeagent.Series) *feed {
	name := s.String()
	f := &feed{}
	for _, t := range e.starred {
		star, ok := t.rule.inputs[t.slot].pattern.match(name)
		if !ok || t.rule.builtin && t.rule.about != e.factsOf(name) {
			continue // facts of its very name have a check of their own
		}
		if in := e.instance(t.rule, star); in != nil {
			f.watchers = append(f.watchers, watcher{in, t.slot})
		}
	}
	for _, t := range e.exact[name] {
		if t.rule.shared != nil {
			f.watchers = append(f.watchers, watcher{t.rule.shared, t.slot})
		}
		for _, in := range e.instances {
			if in.rule == t.rule {
				f.watchers = append(f.watchers, watcher{in, t.slot})
			}
		}
	}
	slices.SortStableFunc(f.watchers, func(a, b watcher) int { return a.instance.rule.index - b.instance.rule.index })
	f.track = e.tracks[name]
	if len(e.cache) >= maxCached {
		clear(e.cache)
	}
	e.cache[s] = f
	return f
}

// instance returns the rule's instance of that name, made if need be, or nil when
// there are too many or no memory is left for it.
func (e *Engine) instance(r *rule, name string) *instance {
	if in := r.instances[name]; in != nil {
		return in
	}
	if len(e.instances) >= MaxInstances || len(name) > maxInstanceName {
		e.stats.Refused++
		return nil
	}
	cost := r.cost() + e.trackCost(r, name)
	if limit := int64(e.opts.Memory); limit > 0 && e.memory+cost > limit {
		e.stats.RefusedMemory++
		return nil
	}
	e.memory += cost
	// The name may be part of a larger string, and outlives it.
	in := newInstance(r, strings.Clone(name))
	in.setIntervals(e.every)
	in.inherit(r.shared, e.now)
	e.bind(in)
	r.instances[in.name] = in
	in.index = len(e.instances)
	e.instances = append(e.instances, in)
	e.timers.push(in)
	if r.shared != nil || len(r.calls) > 0 {
		clear(e.cache) // series feed one more
	}
	return in
}

// bind ties the calls of an instance to its series.
func (e *Engine) bind(in *instance) {
	in.calls = make([]bound, len(in.rule.calls))
	since := e.now
	if !e.started {
		since = -1 // the time has not begun
	}
	for _, series := range in.series {
		if e.dated(series) {
			e.track(series, since)
		}
	}
	for i := range in.rule.calls {
		c := &in.rule.calls[i]
		b := &in.calls[i]
		b.call = c
		if c.Input >= 0 {
			b.track = e.track(in.series[c.Input], since)
			e.detect(b.track, c)
		}
		switch {
		case c.fn == modelFn:
			b.scorer = c.model.Scorer()
		case c.fn == fractionFn:
			b.window = c.spec.make(since)
		case c.windowed:
			b.window = b.track.window(c.spec, since)
		}
	}
}

// track returns what is remembered of a series, made if need be.
func (e *Engine) track(series string, since int64) *track {
	t := e.tracks[series]
	if t == nil {
		t = &track{name: series, facts: e.factsOf(series), windows: map[windowSpec]window{}, value: expression.NaN(), score: expression.NaN(), began: since}
		e.tracks[series] = t
	}
	return t
}

// dated reports whether readings of a series may come late: somebody has to
// remember the newest.
func (e *Engine) dated(series string) bool {
	f := e.factsOf(series)
	return f != nil && f.Lateness > 0
}

// detect gives a track its detector if a call asks it.
func (e *Engine) detect(t *track, c *call) {
	if c.detects() && t.detector == nil && e.opts.Detector != nil {
		var f Facts
		if t.facts != nil {
			f = *t.facts
		}
		t.detector = e.opts.Detector(t.name, f)
	}
}

// trackCost is the memory that the series of a new instance take, as far as no
// other instance has them already.
func (e *Engine) trackCost(r *rule, name string) int64 {
	type key struct {
		series string
		spec   windowSpec
	}
	counted := map[key]bool{}
	var size int64
	for _, input := range r.inputs {
		if series := input.pattern.name(name); e.tracks[series] == nil && !counted[key{series: series}] && e.dated(series) {
			counted[key{series: series}] = true
			size += trackSize
		}
	}
	for i := range r.calls {
		c := &r.calls[i]
		if c.Input < 0 {
			continue
		}
		series := r.inputs[c.Input].pattern.name(name)
		t := e.tracks[series]
		if t == nil && !counted[key{series: series}] {
			counted[key{series: series}] = true
			size += trackSize
		}
		if c.detects() && (t == nil || t.detector == nil) {
			size += detectorSize
		}
		if k := (key{series, c.spec}); c.windowed && !counted[k] && (t == nil || t.windows[c.spec] == nil) {
			counted[k] = true
			size += c.spec.cost()
		}
	}
	return size
}

// fact is what the files say of the series that match.
type fact struct {
	pattern pattern
	facts   Facts
}

// factsOf returns what is known of a series.
func (e *Engine) factsOf(series string) *Facts { return factsOf(e.facts, series) }
