package uplink

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

// What is believed to be held is what was sent, in any epoch.
func TestSentSetAgainstASet(t *testing.T) {
	const tele = edgeagent.StreamTelemetry
	o := sentSet{}
	sent := map[edgeagent.Seq]bool{}
	give := func(from, to edgeagent.Seq) {
		o.note(edgeagent.BatchHeader{Stream: tele, Epoch: 7, Run: 3, First: from, Count: int(to - from + 1)})
		for s := from; s <= to; s++ {
			sent[s] = true
		}
		var want edgeagent.Ranges
		for s := edgeagent.Seq(1); s <= 400; s++ {
			if sent[s] {
				want.Add(edgeagent.Range{From: s, To: s})
			}
		}
		if diff := cmp.Diff(want, o.believed(7, tele, edgeagent.Ranges{{From: 1, To: 150}, {From: 151, To: 400}})); diff != "" {
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
	if got := o.believed(8, tele, edgeagent.Ranges{{From: 1, To: 400}}); len(got) != 0 {
		t.Errorf("of another epoch %v is believed", got)
	}
}

func TestSentSetIsBounded(t *testing.T) {
	const tele = edgeagent.StreamTelemetry
	o := sentSet{}
	for i := range 10_000 {
		first := edgeagent.Seq(10 * (i + 1))
		o.note(edgeagent.BatchHeader{Stream: tele, Epoch: 7, Run: 3, First: first, Count: 1})
		if n := len(o[place{7, tele}]); n > maxSentRanges {
			t.Fatalf("%d ranges are remembered", n)
		}
		if got := o.believed(7, tele, edgeagent.Ranges{{From: first, To: first}}); len(got) != 1 {
			t.Fatalf("%d was sent and is not believed", first)
		}
	}
}
