package hub

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

func (l *life) marks(t *testing.T, m block.Marks) []byte {
	t.Helper()
	m.Epoch, m.Run = l.epoch, 7
	blk, err := l.enc.Marks(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return blk
}

func said(s edgeagent.Stream, low, next edgeagent.Seq, gaps ...block.Gap) block.Marks {
	return block.Marks{Streams: map[edgeagent.Stream]block.MarkStream{s: {Low: low, Next: next, Gaps: gaps}}}
}

func TestMarksExplainHoles(t *testing.T) {
	l := newLife("gw1", 1)
	h := newBench(t, Options{Sink: checked(t, l)})
	for _, r := range []edgeagent.Range{rng(1, 2), rng(5, 6), rng(9, 9)} {
		h.give(t, l.topic(), l.records(alarm, r))
	}
	stats := func() StreamStats { return h.Stats().Devices[0].Epochs[0].Streams[0] }
	if s := stats(); s.Complete || s.Missing != 4 {
		t.Errorf("before marks: %+v", s)
	}
	// One part of the first hole is lost, of the second nothing is said.
	h.give(t, l.topic(), l.marks(t, said(alarm, 1, 10, block.Gap{From: 2, To: 4, Reason: "evicted", AtMost: 3})))
	want := []Gap{
		{Tenant: "acme", Device: "gw1", Epoch: 1, Stream: alarm, Range: rng(3, 4), Reason: "evicted", AtMost: 2},
		{Tenant: "acme", Device: "gw1", Epoch: 1, Stream: alarm, Range: rng(7, 8)},
	}
	if diff := cmp.Diff(want, h.Gaps()); diff != "" {
		t.Errorf("gaps (-want +got):\n%s", diff)
	}
	if s := stats(); s.Complete || s.Missing != 2 || s.Next != 10 {
		t.Errorf("after marks: %+v", s)
	}
	h.give(t, l.topic(), l.records(alarm, rng(7, 8)))
	if s := stats(); !s.Complete || s.Missing != 0 || s.Held != 7 {
		t.Errorf("when the rest has come: %+v", s)
	}
	// There is more than has arrived.
	h.give(t, l.topic(), l.marks(t, said(alarm, 1, 12)))
	if s := stats(); s.Complete || s.Missing != 0 {
		t.Errorf("with two on their way: %+v", s)
	}
	// The epoch has ended: what has not come is a hole, until low passes it.
	end := said(alarm, 1, 12)
	end.Successor = 2
	h.give(t, l.topic(), l.marks(t, end))
	if s := stats(); s.Complete || s.Missing != 2 {
		t.Errorf("after the end: %+v", s)
	}
	h.give(t, l.topic(), l.marks(t, said(alarm, 12, 12)))
	if s := stats(); !s.Complete || s.Missing != 0 || s.Held != 9-2 || s.Ranges != 1 {
		t.Errorf("after low: %+v", s)
	}
}

func TestMarksAreAnswered(t *testing.T) {
	l := newLife("gw1", 1)
	h := newBench(t, Options{Sink: checked(t, l)})
	dev := h.arrive(l.topic(), 0)
	if ep, ok := h.block(t.Context(), dev, l.marks(t, said(alarm, 1, 1))); !ok || ep == nil {
		t.Error("marks are not answered by an ack")
	}
	if !h.flush(t.Context()) {
		t.Error("marks are not stored")
	}
	bad := l.marks(t, said(alarm, 1, 1))
	bad = append(slices.Clone(bad[:len(bad)-1]), bad[len(bad)-1]^1)
	if ep, _ := h.block(t.Context(), dev, bad); ep != nil || h.Stats().Marks != 1 {
		t.Error("damaged marks are believed")
	}
}

func TestTooManyGapsAreRefused(t *testing.T) {
	l := newLife("gw1", 1)
	h := newBench(t, Options{Sink: checked(t, l)})
	h.lim.gaps = 3
	gap := func(at edgeagent.Seq) block.Gap { return block.Gap{From: at, To: at, Reason: "damaged", AtMost: 1} }
	h.give(t, l.topic(), l.marks(t, said(alarm, 1, 100, gap(1), gap(3))))
	h.give(t, l.topic(), l.marks(t, said(alarm, 1, 200, gap(1), gap(5), gap(7))))
	s := h.Stats()
	if st := s.Devices[0].Epochs[0].Streams[0]; s.Refused != 1 || st.Lost != 2 || st.Next != 100 {
		t.Errorf("refused %d, %+v", s.Refused, st)
	}
}

// Times that were taken without a clock are corrected once the agent knows by how
// much; others never are.
func TestClockCorrection(t *testing.T) {
	l := newLife("gw1", 1)
	m := &eventTimes{}
	h := newBench(t, Options{Sink: m})
	give := func(first edgeagent.Seq, run edgeagent.Run, unsynced bool) {
		id := block.ID{Stream: edgeagent.StreamAlarm, Epoch: 1, First: first, Run: run, Unsynced: unsynced}
		blk, err := l.enc.Events(nil, id, []edgeagent.Event{{At: edgeagent.Instant{Wall: 5e9}, Kind: "alarm"}})
		if err != nil {
			t.Fatal(err)
		}
		h.give(t, l.topic(), blk)
	}
	give(1, 7, true)
	marks := said(alarm, 1, 2)
	marks.Clock = []block.Correction{{Run: 7, Add: int64(time.Hour), Err: 1e6}}
	h.give(t, l.topic(), l.marks(t, marks))
	marks.Clock[0].Add *= 2 // the first counts
	h.give(t, l.topic(), l.marks(t, marks))
	give(2, 7, true)
	give(3, 7, false)
	give(4, 8, true)
	want := eventTimes{"5 true", "3605 false", "5 false", "5 true"}
	if diff := cmp.Diff(want, *m); diff != "" {
		t.Errorf("times (-want +got):\n%s", diff)
	}
}

// eventTimes is a sink that notes times and whether they are doubtful.
type eventTimes []string

func (s *eventTimes) Commit(_ context.Context, c Cut) error {
	for _, e := range c.Events {
		*s = append(*s, fmt.Sprint(e.At.Wall/1e9, c.Unsynced))
	}
	return nil
}

// Whatever comes in whatever order: complete means that each number is held, in a
// gap, or below low.
func TestCompleteness(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := &stream{}
		held, named := map[edgeagent.Seq]bool{}, map[edgeagent.Seq]bool{}
		low, next := edgeagent.Seq(1), edgeagent.Seq(1)
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			from := edgeagent.Seq(rapid.IntRange(1, 40).Draw(rt, "from"))
			r := edgeagent.Range{From: from, To: from + edgeagent.Seq(rapid.IntRange(0, 9).Draw(rt, "more"))}
			if rapid.Bool().Draw(rt, "data") {
				s.hold(s.held.Missing(r), 1, 4096)
				for n := r.From; n <= r.To; n++ {
					held[n] = true
				}
				next = max(next, r.To+1)
			} else {
				low = max(low, edgeagent.Seq(rapid.IntRange(1, int(next)).Draw(rt, "low")))
				for n := r.From; n <= r.To; n++ {
					named[n] = true
				}
				s.said.take(block.MarkStream{Low: low, Next: next, Gaps: []block.Gap{{From: r.From, To: r.To, AtMost: r.Len()}}}, 4096)
				s.fold()
			}
			want := s.said.next > 0
			for n := edgeagent.Seq(1); n < next; n++ {
				want = want && (held[n] || named[n] || n < s.said.low)
			}
			if got := s.complete(); got != want {
				rt.Fatalf("complete %v, want %v: %+v", got, want, s)
			}
			if got := s.held.Count() - s.lost; got > uint64(len(held)) {
				rt.Fatalf("%d held, %d came", got, len(held))
			}
		}
	})
}
