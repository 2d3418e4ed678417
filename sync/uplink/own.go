package uplink

import (
	"fmt"
	"slices"

	"github.com/edgeagent/edgeagent"
)

// sentSet is what this process has handed to sessions, in every epoch. A receiver's
// word for a number is only taken when the number is in here: a buffer that was put
// back to an older state gives numbers a second time, and whoever holds the first
// ones must not confirm the second ones before they were sent. After a start what an
// earlier process sent and nobody confirmed is therefore sent once more.
type sentSet map[place]edgeagent.Ranges

// maxSentRanges bounds the memory of what was sent in a stream. It is one range for
// the backlog and one for live while all is well, and one more for each hole that
// eviction has torn. On overflow the smallest range is forgotten: those records are
// sent again, and none is lost.
const maxSentRanges = 256

// note takes down that records were handed to the session.
func (o sentSet) note(h edgeagent.BatchHeader) {
	if h.Count == 0 {
		return
	}
	p := place{h.Epoch, h.Stream}
	sent := o[p]
	sent.Add(h.Range())
	if len(sent) > maxSentRanges {
		smallest := -1
		for i, r := range sent {
			if !r.Contains(h.First) && (smallest < 0 || r.Len() < sent[smallest].Len()) {
				smallest = i
			}
		}
		sent = slices.Delete(sent, smallest, smallest+1)
	}
	o[p] = sent
}

// believed returns what of have may be confirmed.
func (o sentSet) believed(e edgeagent.Epoch, s edgeagent.Stream, have edgeagent.Ranges) edgeagent.Ranges {
	return intersect(o[place{e, s}], have)
}

// intersect returns what is in both sets.
func intersect(a, b edgeagent.Ranges) edgeagent.Ranges {
	var out edgeagent.Ranges
	for len(a) > 0 && len(b) > 0 {
		if both := (edgeagent.Range{From: max(a[0].From, b[0].From), To: min(a[0].To, b[0].To)}); both.From <= both.To {
			out.Add(both)
		}
		if a[0].To < b[0].To {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// runAt says which run gave a number, if that is known.
type runAt func(edgeagent.Epoch, edgeagent.Stream, edgeagent.Seq) (edgeagent.Run, bool)

// contradicts returns why an acknowledgement proves that the receiver's records are
// of another life of this buffer, or nil. h is where the newest epoch ends.
func contradicts(a edgeagent.Ack, h heads, run runAt) error {
	for _, c := range a.Conflict {
		if c.Stream.Valid() {
			return fmt.Errorf("the receiver holds %s %d to %d under another run than %s", c.Stream, c.From, c.To, c.Run)
		}
	}
	for _, s := range edgeagent.Streams() {
		top := a.Top[s]
		if ours, known := run(a.Epoch, s, top.Seq); known && top.Run != 0 && top.Run != ours {
			return fmt.Errorf("the receiver holds %s %d under run %s, but it is of run %s", s, top.Seq, top.Run, ours)
		}
		highest := top.Seq
		for _, r := range a.Have[s] {
			highest = max(highest, r.To)
		}
		if a.Epoch == h.epoch && highest > 0 && highest >= h.next[s] {
			return fmt.Errorf("the receiver holds %s up to %d, but only numbers below %d were given", s, highest, h.next[s])
		}
	}
	return nil
}
