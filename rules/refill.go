package rules

import (
	"math"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Stored passes on the readings that are stored since a time, in the order in which
// they were, in pieces of any length, and returns when it has no more.
type Stored func(since time.Time, take func([]edgeagent.Reading)) error

// SetStored tells the engine where the readings are that it has seen since its last
// snapshot. [Engine.Load] then fills windows, detectors, last values and captures
// with them, so that a crash costs them nothing; without it, or where the wall time
// cannot be trusted, they are as of the snapshot. What shapes did not pass on is not
// stored, and has gone. Call it before Load.
func (e *Engine) SetStored(s Stored) { e.stored = s }

// refill is one filling. Nothing is evaluated: what rules made of the readings then is
// in the journal.
type refill struct {
	e          *Engine
	from, last savedAt // when the series, and when the last instance was saved
	down       int64
	skip       map[*instance]bool // of rules that begin anew
	tracks     map[*track]*revived
	heardTo    int64
	group      int64 // wall time of the readings that are taken together
}

// refill takes what is stored since the series were saved. It returns until when
// somebody has listened, as the readings prove; ok is false when they are not all to
// be had.
func (e *Engine) refill(s *saved, down int64, skip map[*instance]bool, tracks map[*track]*revived) (heardTo int64, ok bool) {
	from := s.tracksFrom
	if e.stored == nil || !s.synced || !from.synced || from.wall > s.wall || down < 0 {
		return s.now, false
	}
	since := from.wall
	for _, r := range e.rules {
		if r.capture != nil {
			since = min(since, s.wall-int64(r.capture.Before+r.capture.After))
		}
	}
	x := &refill{heardTo: s.now, e: e, from: from, last: s.savedAt, down: down, skip: skip, tracks: tracks}
	now := e.now
	err := e.stored(time.Unix(0, since), x.take)
	x.observe()
	e.now = now
	e.touched = e.touched[:0]
	return x.heardTo, err == nil
}

func (x *refill) take(rs []edgeagent.Reading) {
	for i := range rs {
		x.reading(&rs[i])
	}
}

func (x *refill) reading(r *edgeagent.Reading) {
	e := x.e
	at := x.last.now + r.At.Wall - x.last.wall // rules time
	if at < 0 || at > x.last.now+x.down {
		return // its source dates it, or the clock was set
	}
	if r.At.Wall != x.group {
		x.observe()
		x.group = r.At.Wall
		e.group++
	}
	e.now, x.heardTo = at, max(x.heardTo, at)
	f, known := e.cache[r.Series]
	if !known {
		f = e.resolve(r.Series)
	}
	if f.track != nil {
		x.track(f.track, r, at)
	}
	for _, w := range f.watchers {
		in := w.instance
		if in.ring != nil {
			in.ring.add(at, r)
		}
		if x.skip[in] || !x.news(r, x.last, in.last.at.Run) {
			continue
		}
		in.set(w.slot, r, at)
		in.slots[w.slot].group, in.slots[w.slot].set = e.group, e.group
		if in.group != e.group {
			in.group = e.group
			e.touched = append(e.touched, in)
		}
	}
}

// track gives a reading to a series: its windows are older than the rest.
func (x *refill) track(t *track, r *edgeagent.Reading, at int64) {
	had := x.tracks[t]
	if had == nil {
		had = &revived{windows: x.from.now, known: x.from.now, at: x.from.now}
		x.tracks[t] = had
	}
	usable := counts(r) && !math.IsInf(r.Value, 0)
	if usable && x.news(r, x.from, had.windows) {
		had.windows = at
		t.watch(at, r.Value)
	}
	if x.news(r, x.last, had.known) {
		had.known = at
		t.value, t.alerted = r.Value, false
		if usable {
			t.hear(r, at, true)
		}
	}
}

// news reports whether a reading came after the rules time at of a state that was
// saved at m: its time may have been rounded.
func (x *refill) news(r *edgeagent.Reading, m savedAt, at int64) bool {
	slack := int64(1)
	for range r.Series.Key().Resolution {
		slack *= 10
	}
	return r.At.Wall-(m.wall+at-m.now) > slack/2
}

// observe ends a group of readings.
func (x *refill) observe() {
	for _, in := range x.e.touched {
		in.observe(x.e)
		in.last = stamp{edgeagent.Instant{Wall: x.group, Run: x.e.now}, false}
	}
	x.e.touched = x.e.touched[:0]
}
