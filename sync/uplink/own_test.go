package uplink

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

// What is believed to be held is what is below the run's start and what was sent.
func TestOwnRunAgainstASet(t *testing.T) {
	const tele = edgeagent.StreamTelemetry
	h := heads{epoch: 7}
	h.next[tele] = 100
	o := newOwnRun(h)
	sent := map[edgeagent.Seq]bool{}
	give := func(from, to edgeagent.Seq) {
		o.note(edgeagent.BatchHeader{Stream: tele, Epoch: 7, Run: 3, First: from, Count: int(to - from + 1)})
		for s := from; s <= to; s++ {
			sent[s] = true
		}
		var want edgeagent.Ranges
		for s := edgeagent.Seq(1); s <= 400; s++ {
			if s < 100 || sent[s] {
				want.Add(edgeagent.Range{From: s, To: s})
			}
		}
		if diff := cmp.Diff(want, o.believed(7, tele, edgeagent.Ranges{{From: 1, To: 400}})); diff != "" {
			t.Fatalf("after %d to %d (-want +got):\n%s", from, to, diff)
		}
	}
	give(300, 320)
	give(50, 105)
	give(90, 95)
	give(200, 210)
	give(106, 150)
	give(120, 160)
	give(161, 299)
	if len(o.sent[tele]) != 0 || o.floor[tele] != 321 {
		t.Errorf("holes that are closed are remembered: %v above %d", o.sent[tele], o.floor[tele])
	}
	if got := o.believed(8, tele, edgeagent.Ranges{{From: 1, To: 400}}); len(got) != 1 || got[0].To != 400 {
		t.Errorf("of another epoch %v is believed", got)
	}
}

func TestOwnRunIsBounded(t *testing.T) {
	const tele = edgeagent.StreamTelemetry
	o := newOwnRun(heads{epoch: 7, next: [5]edgeagent.Seq{1, 1, 1, 1, 1}})
	for i := range 10_000 {
		first := edgeagent.Seq(10 * (i + 1))
		o.note(edgeagent.BatchHeader{Stream: tele, Epoch: 7, Run: 3, First: first, Count: 1})
		if n := len(o.sent[tele]); n > maxSentRanges {
			t.Fatalf("%d ranges are remembered", n)
		}
		if got := o.believed(7, tele, edgeagent.Ranges{{From: first, To: first}}); len(got) != 1 {
			t.Fatalf("%d was sent and is not believed", first)
		}
	}
}
