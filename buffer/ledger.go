package buffer

import (
	"slices"

	"github.com/edgeagent/edgeagent"
)

// Reason says why records cannot be delivered any more.
type Reason string

// The reasons that this version gives.
const (
	Evicted  Reason = "evicted"   // gave way to newer records, unconfirmed
	RolledUp Reason = "rolled_up" // gave way to rollups of them
	Damaged  Reason = "damaged"   // the file they were in is damaged
	Missing  Reason = "missing"   // not there, and nothing says why
	PowerCut Reason = "power_cut" // numbers left out after a power cut
	Expired  Reason = "expired"   // confirmed and unlinked before this destination asked for it
	// DeadLettered: this destination refuses it for ever; see [Buffer.DeadLetter].
	DeadLettered Reason = "dead_letter"
)

// Gap is a range of numbers that the buffer can no longer deliver. Whatever a
// receiver holds of it stays valid.
type Gap struct {
	Epoch  edgeagent.Epoch  `json:"-"`
	Stream edgeagent.Stream `json:"-"`
	edgeagent.Range
	Reason Reason `json:"reason"`
	// AtMost bounds how many records were lost; most numbers of a power_cut
	// were never given to a record.
	AtMost uint64 `json:"at_most"`
	TFrom  int64  `json:"t_from"` // Unix ns, 0 if unknown
	TTo    int64  `json:"t_to"`
	// Rollup is the numbers of the rollups that were made of records that were
	// rolled up; zero for every other reason.
	Rollup edgeagent.Range `json:"rollup,omitzero"`
	// Destination is set when the gap is one destination's alone.
	Destination string `json:"destination,omitempty"`
}

// gapJSON is Gap as it is stored: the range by name, not as a pair.
type gapJSON struct {
	From   edgeagent.Seq `json:"from"`
	To     edgeagent.Seq `json:"to"`
	Reason Reason        `json:"reason"`
	AtMost uint64        `json:"at_most"`
	TFrom  int64         `json:"t_from,omitempty"`
	TTo    int64         `json:"t_to,omitempty"`
	// Rollup: see Gap.
	Rollup edgeagent.Range `json:"rollup,omitzero"`
}

func (g Gap) stored() gapJSON {
	return gapJSON{g.From, g.To, g.Reason, g.AtMost, g.TFrom, g.TTo, g.Rollup}
}

func (x gapJSON) gap(e edgeagent.Epoch, s edgeagent.Stream) Gap {
	return Gap{
		Epoch: e, Stream: s, Range: edgeagent.Range{From: x.From, To: x.To},
		Reason: x.Reason, AtMost: x.AtMost, TFrom: x.TFrom, TTo: x.TTo, Rollup: x.Rollup,
	}
}

// maxLedger bounds the gaps of a stream. Beyond it the oldest are folded into low:
// nothing below low can be delivered.
const maxLedger = 1024

// addGap puts the part of g that gaps do not cover into them, which are sorted
// and disjoint, and merges neighbours of the same reason.
func addGap(gaps []Gap, g Gap) []Gap {
	var covered edgeagent.Ranges
	for _, x := range gaps {
		covered.Add(x.Range)
	}
	for _, part := range covered.Missing(g.Range) {
		p := g
		p.Range, p.AtMost = part, min(g.AtMost, part.Len())
		i, _ := slices.BinarySearchFunc(gaps, p.From, func(x Gap, from edgeagent.Seq) int {
			if x.From < from {
				return -1
			}
			return 1
		})
		gaps = slices.Insert(gaps, i, p)
	}
	return mergeGaps(gaps)
}

func mergeGaps(gaps []Gap) []Gap {
	out := gaps[:0]
	for _, g := range gaps {
		if n := len(out); n > 0 && out[n-1].follows(g) {
			last := &out[n-1]
			last.To, last.Rollup.To = g.To, g.Rollup.To
			last.AtMost += g.AtMost
			last.TFrom, last.TTo = joinTimes(last.TFrom, last.TTo, g.TFrom, g.TTo)
			continue
		}
		out = append(out, g)
	}
	return out
}

// follows reports whether h continues g: its rollups follow as well as its records.
func (g Gap) follows(h Gap) bool {
	return g.To+1 == h.From && g.Reason == h.Reason && (g.Reason != RolledUp || g.Rollup.To+1 == h.Rollup.From)
}

// joinTimes returns the extent of two spans of time of which either may be unknown.
func joinTimes(from, to, from2, to2 int64) (int64, int64) {
	switch {
	case from == 0 && to == 0:
		return from2, to2
	case from2 == 0 && to2 == 0:
		return from, to
	}
	return min(from, from2), max(to, to2)
}

// foldGaps drops gaps from the front until at most maxLedger are left, and raises
// low past what it dropped.
func foldGaps(gaps []Gap, low edgeagent.Seq) ([]Gap, edgeagent.Seq) {
	for len(gaps) > maxLedger || len(gaps) > 0 && gaps[0].To < low {
		low = max(low, gaps[0].To+1)
		gaps = gaps[1:]
	}
	return gaps, low
}
