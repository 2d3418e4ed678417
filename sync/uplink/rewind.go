package uplink

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Rewind says that a receiver has proved that the buffer was put back to an older
// state: it holds, under numbers of the newest epoch, records that this buffer never
// gave.
type Rewind struct {
	Epoch edgeagent.Epoch
	// Restart: the agent should end in order and start again, which begins a new
	// epoch. False: an epoch was given up for this less than an hour ago, so that
	// would not help.
	Restart bool
	Err     error // what proves it
}

// proof is a rewind of the newest epoch on its way to the log.
type proof struct {
	waiting bool
	epoch   edgeagent.Epoch
	pause   time.Duration // after a refusal by the log
	until   time.Duration
}

var errRewound = errors.New("the epoch was proved to be put back, before this process began")

// distrust is called when a receiver's records of an epoch are not ours. Nothing that
// is said of it is believed again. What the destination still needs of an older epoch
// gets numbers of the newest one; the newest itself must be given up.
func (m *machine) distrust(e edgeagent.Epoch, newest bool, why error) {
	if m.rewound[e] != nil {
		return
	}
	m.rewound[e] = why
	maps.DeleteFunc(m.confirms.due, func(p place, _ edgeagent.Ranges) bool { return p.epoch == e })
	if newest {
		m.proof = proof{waiting: true, epoch: e}
		return
	}
	m.unsend(e)
}

// unsend makes everything of an epoch that was accepted unsent, so that it is read
// again.
func (m *machine) unsend(e edgeagent.Epoch) {
	m.accepted.entries = slices.DeleteFunc(m.accepted.entries, func(x entry) bool {
		if x.epoch == e {
			m.accepted.forget(x)
		}
		return x.epoch == e
	})
	for _, s := range edgeagent.Streams() {
		m.reopen[s] = true
	}
}

// nextProof returns what the log has to be told, if it is time.
func (m *machine) nextProof(now time.Duration) (action, bool) {
	if !m.proof.waiting || now < m.proof.until {
		return action{}, false
	}
	return action{kind: actProve, epoch: m.proof.epoch}, true
}

// proven is called when the log has taken the proof. The destination sends nothing
// more: in a moment the agent starts anew, or it must not go on like this.
func (m *machine) proven(restart bool) {
	m.proof.waiting = false
	m.halted = m.rewound[m.proof.epoch]
	m.restarting = restart
}

// proofFailed is called when it could not: it is asked again later.
func (m *machine) proofFailed(now time.Duration) {
	m.proof.pause = min(max(2*m.proof.pause, time.Second), time.Minute)
	m.proof.until = now + m.proof.pause
}

// proofIsOld is called when another epoch has begun meanwhile: the one that was put
// back is an older one now.
func (m *machine) proofIsOld() {
	m.proof.waiting = false
	m.unsend(m.proof.epoch)
}

// prove tells the log of a rewind, and then whoever wants to know.
func (e *engine) prove(ctx context.Context, a action) {
	if e.f.heads().epoch != a.epoch {
		e.m.proofIsOld()
		return
	}
	restart, err := e.log.ProveRewind(ctx, a.epoch)
	if err != nil {
		e.m.proofFailed(e.clock.Run())
		e.slog.Warn("buffer did not take note that it was put back", "error", err)
		return
	}
	e.m.proven(restart)
	why := e.m.halted
	e.slog.Error("the receiver holds records that this buffer never gave: it was put back to an older state",
		"receiver", e.m.cfg.Receiver, "epoch", a.epoch, "restart", restart, "error", why)
	if e.onRewind != nil {
		e.onRewind(Rewind{Epoch: a.epoch, Restart: restart, Err: why})
	}
}

// distrusts reports whether records of an older epoch cannot be sent as they are.
func (e *engine) distrusts(id, newest edgeagent.Epoch) bool {
	if id == newest {
		return false
	}
	if e.m.rewound[id] == nil && e.log.Rewound(id) {
		e.m.rewound[id] = errRewound
	}
	return e.m.rewound[id] != nil
}

// move gives records of an epoch that is not to be believed new numbers.
func (e *engine) move(ctx context.Context, l Lane, h edgeagent.BatchHeader) {
	if err := e.log.Reappend(ctx, h.Epoch, h.Stream, []edgeagent.Range{h.Range()}); err != nil {
		e.m.reopen[h.Stream] = true
		e.m.failed(e.clock.Run(), l, err)
		e.slog.Warn("lane paused: records cannot be appended anew", "lane", l.String(), "error", err)
		return
	}
	e.m.count.moved += uint64(h.Count)
}
