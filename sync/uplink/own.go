package uplink

import (
	"fmt"

	"github.com/edgeagent/edgeagent"
)

// ownRun is what this run has given out: the numbers of one epoch from start up
// were appended since the engine was made, so a receiver that has them has them
// from here or, when the buffer was put back to an older state, from another life
// of it. Numbers are only believed to be held once they were sent from here.
type ownRun struct {
	epoch edgeagent.Epoch
	run   edgeagent.Run // 0 until something of it was sent
	// By stream: the first number of this run, the one up to which all were sent,
	// and what was sent above.
	start [5]edgeagent.Seq
	floor [5]edgeagent.Seq
	sent  [5]edgeagent.Ranges
}

// maxSentRanges bounds the memory of what was sent. It is one range while all is
// well, and one more for each hole that eviction has torn.
const maxSentRanges = 256

func newOwnRun(h heads) ownRun { return ownRun{epoch: h.epoch, start: h.next, floor: h.next} }

// note takes down that records were handed to the session.
func (o *ownRun) note(h edgeagent.BatchHeader) {
	if h.Count == 0 || h.Epoch != o.epoch || h.Last() < o.start[h.Stream] {
		return
	}
	o.run = h.Run
	floor, sent := &o.floor[h.Stream], &o.sent[h.Stream]
	if h.Last() < *floor {
		return
	}
	sent.Add(edgeagent.Range{From: max(h.First, *floor), To: h.Last()})
	if len(*sent) > maxSentRanges {
		// The lowest hole is forgotten: from here on it is believed to be sent.
		*sent = (*sent)[1:]
		*floor = (*sent)[0].From
	}
	for len(*sent) > 0 && (*sent)[0].From <= *floor {
		*floor = (*sent)[0].To + 1
		*sent = (*sent)[1:]
	}
}

// believed returns what of have may be confirmed.
func (o *ownRun) believed(e edgeagent.Epoch, s edgeagent.Stream, have edgeagent.Ranges) edgeagent.Ranges {
	if e != o.epoch {
		return have
	}
	var out edgeagent.Ranges
	floor := o.floor[s]
	for _, r := range have {
		if r.From < floor {
			out.Add(edgeagent.Range{From: r.From, To: min(r.To, floor-1)})
		}
		if r.To < floor {
			continue
		}
		for _, sent := range o.sent[s] {
			if both := (edgeagent.Range{From: max(r.From, sent.From), To: min(r.To, sent.To)}); both.From <= both.To {
				out.Add(both)
			}
		}
	}
	return out
}

// contradicts returns why an acknowledgement proves that the receiver's records are
// of another life of this buffer, or nil.
func (o *ownRun) contradicts(a edgeagent.Ack) error {
	for _, c := range a.Conflict {
		if c.Stream.Valid() {
			return fmt.Errorf("the receiver holds %s %d to %d under another run than %s", c.Stream, c.From, c.To, c.Run)
		}
	}
	if a.Epoch != o.epoch || o.run == 0 {
		return nil
	}
	for s, top := range a.Top {
		if s.Valid() && top.Seq >= o.start[s] && top.Run != 0 && top.Run != o.run {
			return fmt.Errorf("the receiver holds %s %d under run %s, but it is of run %s", s, top.Seq, top.Run, o.run)
		}
	}
	return nil
}
