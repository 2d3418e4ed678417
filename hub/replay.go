package hub

import (
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
)

// ReplayPolicy says which holes a hub asks agents to fill. A hole is a number below
// the end of a stream that is not held, that the agent has not named as lost, and that
// has had time to arrive. What the agent has not sent yet comes anyway; what is asked
// for is what it takes for delivered.
type ReplayPolicy uint8

const (
	// ReplayNew asks for numbers that were given after the hub first heard marks of
	// their stream. It is the default: a hub that keeps nothing and is started anew
	// does not pull, once more, what its earlier life had taken.
	ReplayNew ReplayPolicy = iota
	// ReplayAll asks for everything that the agent may still have: for a hub that has
	// lost its store, or that looks at a gateway for the first time.
	ReplayAll
	// ReplayOff asks for nothing.
	ReplayOff
)

// ParseReplayPolicy reads the name of a policy: new, all or off.
func ParseReplayPolicy(name string) (ReplayPolicy, error) {
	for p, n := range replayNames {
		if n == name {
			return ReplayPolicy(p), nil
		}
	}
	return 0, fmt.Errorf("unknown replay policy %q, want new, all or off", name)
}

var replayNames = [...]string{"new", "all", "off"}

const (
	// replayAfter is how long a number may take before it is asked for.
	replayAfter = 30 * time.Second
	// replayEvery is the least time between two requests to one device, longestReplay
	// the most between two for the same holes.
	replayEvery   = time.Second
	longestReplay = time.Hour
)

// ripening is the time that numbers are given to arrive.
type ripening struct {
	ripe  edgeagent.Seq // numbers below have had their time
	young []young       // rising; at most nine
}

// young are the numbers below upTo: those that no earlier one has were first heard of
// at that time, or up to an eighth of the time later that they have.
type young struct {
	upTo edgeagent.Seq
	at   time.Time
}

// ripen takes the end of the stream as it is now, and returns when numbers will be
// ripe that are not, zero if there are none.
func (r *ripening) ripen(end edgeagent.Seq, now time.Time, after time.Duration) (next time.Time) {
	slack := after / 8
	for len(r.young) > 0 && now.Sub(r.young[0].at) >= after+slack {
		r.ripe = r.young[0].upTo
		r.young = r.young[1:]
	}
	if last := len(r.young) - 1; last >= 0 && now.Sub(r.young[last].at) < slack {
		r.young[last].upTo = max(r.young[last].upTo, end)
	} else if end > r.ripe && (last < 0 || end > r.young[last].upTo) {
		r.young = append(r.young, young{end, now})
	}
	if len(r.young) == 0 {
		return time.Time{}
	}
	return r.young[0].at.Add(after + slack)
}

// request is the last request for holes of an epoch.
type request struct {
	at      time.Time // zero: there was none
	pause   time.Duration
	missing uint64 // numbers that were holes
	asked   uint64 // numbers that were asked for
}

// after returns when there may be another, with missing numbers left: soon when all
// that was asked for has come, later and later when nothing has.
func (q *request) after(missing uint64, wait time.Duration) time.Time {
	switch {
	case missing+q.asked <= q.missing:
		q.pause = replayEvery
	case missing < q.missing:
		q.pause = wait
	}
	return q.at.Add(q.pause)
}

// wants returns what to ask a device for, and when to look again without an occasion,
// zero for never.
func (h *Hub) wants(dev *device, id edgeagent.Epoch, now time.Time) (replay map[edgeagent.Stream]edgeagent.Ranges, next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ep := dev.find(id)
	if ep == nil || h.policy(ep) == ReplayOff {
		return nil, time.Time{}
	}
	var wanted [5][]edgeagent.Range
	missing := uint64(0)
	for _, s := range edgeagent.Streams() {
		st := ep.streams[s]
		if st == nil {
			continue
		}
		end := max(st.said.next, st.top()+1)
		if look := st.time.ripen(end, now, h.opts.ReplayAfter); len(holes(st, end, h.policy(ep))) > 0 {
			next = earliest(next, look)
		}
		wanted[s] = holes(st, st.time.ripe, h.policy(ep))
		missing += total(wanted[s])
	}
	q := &ep.request
	switch {
	case missing == 0:
		*q = request{}
		ep.demanded = false
		return nil, next
	case !q.at.IsZero() && !dev.spoke.After(q.at): // it is away, and will be heard
		return nil, next
	}
	if at := later(q.after(missing, h.opts.ReplayAfter), dev.asked.Add(replayEvery)); now.Before(at) {
		return nil, earliest(next, at)
	}
	replay, asked := h.choose(wanted)
	*q = request{at: now, pause: min(max(2*q.pause, h.opts.ReplayAfter), longestReplay), missing: missing, asked: asked}
	dev.asked = now
	h.count.replays++
	return replay, earliest(next, now.Add(q.pause))
}

// choose returns as many holes as fit in a request, and how many numbers they are.
func (h *Hub) choose(holes [5][]edgeagent.Range) (replay map[edgeagent.Stream]edgeagent.Ranges, asked uint64) {
	replay = map[edgeagent.Stream]edgeagent.Ranges{}
	room := h.lim.replayRanges
	for _, s := range edgeagent.Streams() {
		list := holes[s][:min(len(holes[s]), room)]
		room -= len(list)
		if len(list) > 0 {
			replay[s] = list
			asked += total(list)
		}
	}
	return replay, asked
}

// holes returns the holes of a stream below a number that may be asked for.
func holes(s *stream, below edgeagent.Seq, policy ReplayPolicy) []edgeagent.Range {
	if below < 2 || len(s.held) == 1 && s.held[0].From == 1 && s.held[0].To >= below-1 {
		return nil
	}
	list := s.unexplained(below - 1)
	if policy == ReplayAll {
		return list
	}
	if s.born == 0 {
		return nil
	}
	var out []edgeagent.Range
	for _, r := range list {
		if r.From = max(r.From, s.born); r.Len() > 0 {
			out = append(out, r)
		}
	}
	return out
}

// earliest returns the earlier of two times, of which zero is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
