package uplink

import (
	"fmt"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
)

// heads is where each stream of the newest epoch ends: the numbers that the next
// records will get.
type heads struct {
	epoch edgeagent.Epoch
	next  [5]edgeagent.Seq // by stream
}

// needed is a range of series ids that the receiver asked for.
type needed struct {
	waiting bool
	epoch   edgeagent.Epoch
	from    uint32
	to      uint32
}

// askEvery bounds how often series are sent again on request.
const askEvery = 10 * time.Second

// ack is called with each end-to-end acknowledgement that could be parsed. An
// acknowledgement that is not for us, or that claims what was never sent, is ignored
// as a whole.
func (m *machine) ack(now time.Duration, a edgeagent.Ack, h heads, run runAt) {
	if err := m.judge(a, h, run); err != nil {
		m.count.acksIgnored++
		m.count.ackErr = err
		return
	}
	m.count.acks++
	m.accepted.lastAck = now
	m.count.lastAck = now
	m.epochs[a.Epoch] = true
	m.greeted = m.greeted || a.Epoch == h.epoch
	for s, have := range a.Have {
		have = sorted(have)
		m.replay.holds(a.Epoch, s, have)
		have = m.sentAs.believed(a.Epoch, s, have)
		if len(have) == 0 {
			continue
		}
		m.confirm(AckEndToEnd, a.Epoch, s, have...)
		m.settle(a.Epoch, s, have)
	}
	m.need(now, a)
	m.wantReplay(now, a)
}

// judge returns why an acknowledgement must be ignored, or nil. Once an epoch is
// proven to have been rewound no acknowledgement of it is believed again: what the
// receiver calls by our numbers is something else.
func (m *machine) judge(a edgeagent.Ack, h heads, run runAt) error {
	switch {
	case m.cfg.Ack != AckEndToEnd:
		return fmt.Errorf("an end-to-end ack, but the ack level is %s", m.cfg.Ack)
	case a.By != m.cfg.Receiver:
		return fmt.Errorf("an ack by %q, want %q", a.By, m.cfg.Receiver)
	case a.Epoch != h.epoch && !m.epochs[a.Epoch]:
		return fmt.Errorf("an ack of epoch %s, which was not sent", a.Epoch)
	case m.rewound[a.Epoch] != nil:
		return m.rewound[a.Epoch]
	}
	if err := contradicts(a, h, run); err != nil {
		m.distrust(a.Epoch, a.Epoch == h.epoch, err)
		return err
	}
	return nil
}

// sorted returns ranges as a set: an ack may list them in any order.
func sorted(rs edgeagent.Ranges) edgeagent.Ranges {
	rs = slices.Clone(rs)
	slices.SortFunc(rs, func(a, b edgeagent.Range) int {
		switch {
		case a.From < b.From:
			return -1
		case a.From > b.From:
			return 1
		}
		return 0
	})
	var out edgeagent.Ranges
	for _, r := range rs {
		out.Add(r)
	}
	return out
}

// settle takes what the receiver has out of what is accepted and in flight.
func (m *machine) settle(e edgeagent.Epoch, s edgeagent.Stream, have edgeagent.Ranges) {
	kept := m.accepted.entries[:0]
	for _, x := range m.accepted.entries {
		if x.epoch == e && x.stream == s {
			x.left = subtract(x.left, have)
		}
		if len(x.left) > 0 {
			kept = append(kept, x)
			continue
		}
		m.accepted.forget(x)
		m.count.confirmed.add(x.records, x.size)
		m.accepted.timeout = m.cfg.ConfirmTimeout
	}
	clear(m.accepted.entries[len(kept):])
	m.accepted.entries = kept
	for _, f := range m.flights {
		if f.head.Epoch == e && f.head.Stream == s {
			f.left = subtract(f.left, have)
		}
	}
}

// subtract returns the parts of ranges that are not in have.
func subtract(ranges []edgeagent.Range, have edgeagent.Ranges) []edgeagent.Range {
	var out []edgeagent.Range
	for _, r := range ranges {
		out = append(out, have.Missing(r)...)
	}
	return out
}

// need notes which series the receiver lacks.
func (m *machine) need(now time.Duration, a edgeagent.Ack) {
	ids := a.Need.Series
	if len(ids) == 0 || m.asked > 0 && now < m.asked+askEvery {
		return
	}
	from, to := slices.Min(ids), slices.Max(ids)
	if from == 0 || m.phase != up {
		return
	}
	m.needed = needed{true, a.Epoch, from, to}
}
