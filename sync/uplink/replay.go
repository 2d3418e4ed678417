package uplink

import (
	"context"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
)

const (
	// replayEvery bounds how often a request is taken.
	replayEvery = time.Second
	// maxReplay bounds the ranges of one request; the rest is asked for again.
	maxReplay = 256
	// replayAge: what was accepted later than that may still be on its way.
	replayAge = 10 * time.Second
)

// replay is what the receiver asks for again. It is taken for what the receiver
// lacked when it said so; what arrives since is taken out.
type replay struct {
	epoch  edgeagent.Epoch
	wanted [5]edgeagent.Ranges // by stream
	taken  time.Duration       // when the last request was taken, 0 = never
	open   bool                // readers are in place
}

func (r *replay) waiting() bool {
	return slices.ContainsFunc(r.wanted[:], func(rs edgeagent.Ranges) bool { return len(rs) > 0 })
}

// holds takes out what the receiver says it holds.
func (r *replay) holds(e edgeagent.Epoch, s edgeagent.Stream, have edgeagent.Ranges) {
	if e != r.epoch || len(r.wanted[s]) == 0 {
		return
	}
	r.wanted[s] = subtract(r.wanted[s], have)
}

// wantReplay takes a request. The newest one replaces what waits; while one is being
// served others wait their turn at the receiver.
func (m *machine) wantReplay(now time.Duration, a edgeagent.Ack) {
	r := &m.replay
	if len(a.Replay) == 0 || r.open || m.phase != up || r.taken > 0 && now < r.taken+replayEvery {
		return
	}
	room := maxReplay
	wanted := [5]edgeagent.Ranges{}
	for _, s := range edgeagent.Streams() {
		list := sorted(a.Replay[s])
		list = list[:min(len(list), room)]
		room -= len(list)
		wanted[s] = subtract(list, sorted(a.Have[s]))
		m.resendOld(now, a.Epoch, s, wanted[s])
	}
	m.replay = replay{epoch: a.Epoch, wanted: wanted, taken: now}
	m.count.replays++
}

// resendOld makes accepted records unsent that the receiver asks for and should have
// got long ago.
func (m *machine) resendOld(now time.Duration, e edgeagent.Epoch, s edgeagent.Stream, wanted edgeagent.Ranges) {
	m.accepted.entries = slices.DeleteFunc(m.accepted.entries, func(x entry) bool {
		if x.epoch != e || x.stream != s || now < x.at+replayAge || len(intersect(x.left, wanted)) == 0 {
			return false
		}
		m.accepted.forget(x)
		m.reopen[s] = true
		m.count.expired++
		m.count.resent.add(x.records, x.size)
		return true
	})
}

// replayDue reports whether there is nothing left to send but what was asked for.
func (m *machine) replayDue(now time.Duration) bool {
	x := &m.lanes[LaneBacklog]
	return m.replay.waiting() && !m.replay.open && !m.stopping && !m.held() && !x.ready && !x.blocked && now >= x.until && m.win.room() && m.budget.affords(LaneBacklog, now)
}

// replays is called after actReplay: the readers are behind the backlog.
func (m *machine) replays(any bool) {
	m.replay.wanted = [5]edgeagent.Ranges{}
	m.replay.open = any
	m.lanes[LaneBacklog].ready = m.lanes[LaneBacklog].ready || any
}

// replay opens readers of what the receiver asked for and is not on its way.
func (e *engine) replay(ctx context.Context, a action) {
	e.f.again = nil
	for _, s := range edgeagent.Streams() {
		ranges := subtract(a.wanted[s], e.m.outstanding(s)[a.epoch])
		if len(ranges) == 0 {
			continue
		}
		r, err := e.log.Replay(ctx, a.epoch, s, ranges)
		if err != nil {
			e.slog.Warn("cannot send again what the receiver asked for", "stream", s.String(), "error", err)
			continue
		}
		e.f.again = append(e.f.again, r)
	}
	e.m.replays(len(e.f.again) > 0)
}

// nextAgain reads what was asked for again. A reader that fails is given up: the
// receiver asks again for what it still lacks.
func (f *feed) nextAgain(ctx context.Context, limit edgeagent.Limit) (edgeagent.Batch, bool, error) {
	for len(f.again) > 0 {
		b, ok, err := f.again[0].Next(ctx, limit)
		if ok && err == nil {
			return b, true, nil
		}
		f.again = f.again[1:]
		if err != nil {
			return edgeagent.Batch{}, false, err
		}
	}
	return edgeagent.Batch{}, false, nil
}
