package hub

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
)

func TestTooManyDevices(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	h := newBench(t, Options{Sink: m})
	h.lim.devices = 3
	for i := range 5 {
		l := newLife(fmt.Sprintf("gw%d", i), 1)
		h.give(t, l.topic(), l.records(alarm, rng(1, 10)))
	}
	l := newLife("gw0", 1)
	h.give(t, l.topic(), l.records(alarm, rng(11, 20)))
	if st := h.Stats(); m.Count() != 40 || st.Refused != 2 || len(st.Devices) != 3 {
		t.Errorf("stored %d, stats %+v", m.Count(), st)
	}
}

// A stream that is full of ranges takes what touches them and refuses the rest,
// without an ack and without forgetting.
func TestTooManyRanges(t *testing.T) {
	tests := []struct {
		name string
		set  func(*limits)
	}{
		{"in a stream", func(l *limits) { l.ranges = 4 }},
		{"in all", func(l *limits) { l.allRanges = 4 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLife("gw1", 1)
			m := checked(t, l)
			h := newBench(t, Options{Sink: m})
			tt.set(&h.lim)
			for i := range edgeagent.Seq(6) {
				h.give(t, l.topic(), l.records(alarm, rng(10*i+10, 10*i+12)))
			}
			want := edgeagent.Ranges{rng(10, 12), rng(20, 22), rng(30, 32), rng(40, 42)}
			if diff := cmp.Diff(want, h.Held("acme", "gw1", 1, alarm)); diff != "" {
				t.Fatalf("held (-want +got):\n%s", diff)
			}
			if h.Stats().Refused != 2 {
				t.Errorf("stats %+v", h.Stats())
			}
			for _, r := range []edgeagent.Range{rng(43, 44), rng(9, 9), rng(13, 19), rng(21, 25)} {
				h.give(t, l.topic(), l.records(alarm, r))
			}
			want = edgeagent.Ranges{rng(9, 25), rng(30, 32), rng(40, 44)}
			if diff := cmp.Diff(want, h.Held("acme", "gw1", 1, alarm)); diff != "" {
				t.Errorf("held (-want +got):\n%s", diff)
			}
			h.give(t, l.topic(), l.records(alarm, rng(60, 62))) // there is room again
			if h.Stats().Refused != 2 || m.Count() != 28 || m.Duplicates() != 0 {
				t.Errorf("stored %d, stats %+v", m.Count(), h.Stats())
			}
		})
	}
}

func TestTooManySeries(t *testing.T) {
	l := newLife("gw1", 1)
	h := newBench(t, Options{Sink: checked(t, l)})
	h.lim.series = 3
	h.give(t, l.topic(), l.names(1, 3))
	h.give(t, l.topic(), l.names(4, 5))
	h.give(t, l.topic(), l.names(1, 3))
	if st := h.Stats(); st.Refused != 1 || st.Devices[0].Epochs[0].Series != 3 {
		t.Errorf("stats %+v", st)
	}
}

// Ids far out must neither take memory for those in between nor get lost.
func TestFarSeriesIDs(t *testing.T) {
	var n names
	want := map[uint32]edgeagent.Series{}
	for _, id := range []uint32{0, 1, 2, 1 << 31, 70, 3, 65, 1<<32 - 1, 200, 4, 5, 6, 150} {
		s := edgeagent.NewSeries(edgeagent.SeriesKey{Metric: strconv.FormatUint(uint64(id), 10)})
		n.put(id, s)
		want[id] = s
	}
	for id, s := range want {
		if n.get(id) != s {
			t.Errorf("id %d is %q", id, n.get(id))
		}
	}
	if !n.get(7).IsZero() || n.count != len(want) || len(n.direct) > 2*n.count+65 {
		t.Errorf("count %d, %d in the slice", n.count, len(n.direct))
	}
}

func TestTooManyEpochs(t *testing.T) {
	now := time.Unix(0, 0)
	m := NewMemory(MemoryOptions{})
	h := newBench(t, Options{Sink: m, Now: func() time.Time { now = now.Add(time.Second); return now }})
	h.lim.epochs = 3
	give := func(e edgeagent.Epoch) {
		l := newLife("gw1", e)
		// Names 2 to 5 are unknown: the readings wait.
		h.give(t, l.topic(), slices.Concat(l.names(1, 1), l.records(alarm, rng(1, 10)), l.records(telemetry, rng(1, 9))))
	}
	for _, e := range []edgeagent.Epoch{1, 2, 3, 1, 4} { // 2 is the oldest now
		give(e)
	}
	st := h.Stats()
	var got []edgeagent.Epoch
	for _, e := range st.Devices[0].Epochs {
		got = append(got, e.Epoch)
	}
	if diff := cmp.Diff([]edgeagent.Epoch{1, 3, 4}, got); diff != "" {
		t.Errorf("epochs (-want +got):\n%s", diff)
	}
	if st.Forgotten != 1 || len(h.Quarantine()) != 3 || h.ranges != 3 || h.series != 3 {
		t.Errorf("stats %+v, %d ranges, %d series, quarantine %v", st, h.ranges, h.series, h.Quarantine())
	}
}

func TestQuarantineMakesRoom(t *testing.T) {
	q := newQuarantine(3000, 5000)
	id := uint64(0)
	put := func(tenant string, size int) *entry {
		id++
		e := &entry{id: id, Quarantined: Quarantined{Tenant: tenant, Bytes: size}, blk: make([]byte, size)}
		out, ok := q.plan(e)
		q.put(e, out, ok)
		return q.ids[id]
	}
	a := put("a", 1000)
	put("a", 1000)
	put("a", 1000) // the first gives way
	if a == nil || q.bytes != 2*(1000+entryOverhead) || q.dropped != 1 {
		t.Errorf("%d bytes kept, %d dropped", q.bytes, q.dropped)
	}
	if put("a", 3000) != nil || q.bytes != 0 {
		t.Errorf("a block over the bound was kept, or %d bytes with it", q.bytes)
	}
	put("a", 2500)
	if put("b", 2500) != nil {
		t.Error("kept over the bound of all tenants")
	}
	if len(q.list()) != 1 || q.list()[0].Tenant != "a" {
		t.Errorf("a tenant paid for another: %v", q.list())
	}
	if put("b", 1500) == nil || q.bytes != 4000+2*entryOverhead {
		t.Errorf("%d bytes kept", q.bytes)
	}
}

// A flood of rubbish takes no more memory than its share, and the hub goes on.
func TestFloodOfRubbish(t *testing.T) {
	l := newLife("gw1", 1)
	m := checked(t, l)
	h := newBench(t, Options{Sink: m})
	h.kept = newQuarantine(1<<20, 1<<20)
	rubbish := make([]byte, 10_000)
	for range 1000 {
		h.give(t, l.topic(), rubbish)
	}
	h.give(t, l.topic(), l.records(alarm, rng(1, 10)))
	st := h.Stats()
	if st.QuarantineBytes > 1<<20 || st.Quarantined[CauseFormat] != 1000 || st.QuarantineDropped < 800 || m.Count() != 10 {
		t.Errorf("stored %d, stats %+v", m.Count(), st)
	}
}

// spans against a map of numbers.
func TestSpansModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s spans
		var held edgeagent.Ranges
		model := map[edgeagent.Seq]edgeagent.Run{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			from := edgeagent.Seq(rapid.IntRange(1, 80).Draw(t, "from"))
			r := rng(from, from+edgeagent.Seq(rapid.IntRange(0, 15).Draw(t, "more")))
			run := edgeagent.Run(rapid.IntRange(1, 3).Draw(t, "run"))
			clash := false
			for q := r.From; q <= r.To; q++ {
				if had, ok := model[q]; ok && had != run {
					clash = true
				}
			}
			if got := s.conflicts(r, run); got != clash {
				t.Fatalf("conflict of %v under %d is %v, want %v in %v", r, run, got, clash, s)
			}
			if clash {
				continue
			}
			for _, part := range held.Missing(r) {
				held.Add(part)
				s.add(part, run)
				for q := part.From; q <= part.To; q++ {
					model[q] = run
				}
			}
		}
		var numbers int
		for i, x := range s {
			for q := x.From; q <= x.To; q++ {
				if model[q] != x.Run {
					t.Fatalf("%d is under run %d, want %d", q, x.Run, model[q])
				}
				numbers++
			}
			if i > 0 && (s[i-1].To >= x.From || s[i-1].joins(x)) {
				t.Fatalf("spans %v and %v overlap or belong together", s[i-1], x)
			}
		}
		if numbers != len(model) {
			t.Fatalf("%d numbers in spans, want %d", numbers, len(model))
		}
		before := len(s)
		s.fold(5)
		var after edgeagent.Ranges
		for _, x := range s {
			after.Add(x.Range)
		}
		if diff := cmp.Diff(held, after); diff != "" {
			t.Fatalf("folding changed what is held (-want +got):\n%s", diff)
		}
		if len(s) > max(5, len(held)) || len(s) > before {
			t.Fatalf("%d spans after folding to 5, %d ranges", len(s), len(held))
		}
	})
}

// A device that restarts more often than its runs can be remembered goes on.
func TestManyRuns(t *testing.T) {
	l := newLife("gw1", 1)
	l.runOf = func(s edgeagent.Seq) edgeagent.Run { return edgeagent.Run(s) }
	m := checked(t, l)
	h := newBench(t, Options{Sink: m})
	h.lim.ranges = 50
	for i := range edgeagent.Seq(500) {
		h.give(t, l.topic(), l.records(alarm, rng(i+1, i+1)))
	}
	if m.Count() != 500 || h.ranges > 50 {
		t.Errorf("stored %d, %d spans", m.Count(), h.ranges)
	}
	h.give(t, l.topic(), l.block(nil, alarm, rng(490, 490), 9999))
	if h.Stats().Quarantined[CauseConflict] != 1 {
		t.Errorf("a recent run was forgotten: %+v", h.Stats())
	}
}

// An ack that cannot name every range names each within a few turns, and stays
// readable.
func TestShortenedAcks(t *testing.T) {
	s := &stream{}
	for i := range edgeagent.Seq(4096) {
		r := rng(1<<52+i*10, 1<<52+i*10+3)
		s.held.Add(r)
		s.runs.add(r, 7)
	}
	e := &epoch{id: 1, need: map[uint32]struct{}{}}
	for _, id := range edgeagent.Streams() {
		e.streams[id] = s
	}
	var told edgeagent.Ranges
	for range 40 {
		ack := reread(t, e.ack("hub", defaultLimits()))
		if n := len(ack.Have[alarm]); n > 256 {
			t.Fatalf("%d ranges in one ack", n)
		}
		for _, r := range ack.Have[alarm] {
			if len(s.held.Missing(r)) > 0 {
				t.Fatalf("ack names %v, which is not held", r)
			}
			told.Add(r)
		}
	}
	if diff := cmp.Diff(s.held, told); diff != "" {
		t.Errorf("never told (-held +told):\n%s", diff)
	}
}

// A conflict's block comes again and again: the agent hears of it each time, and
// the hub remembers no more than a few.
func TestConflictsAreBounded(t *testing.T) {
	l := newLife("gw1", 1)
	h := newBench(t, Options{Sink: checked(t, l)})
	h.give(t, l.topic(), l.records(alarm, rng(1, 100)))
	for i := range 100 {
		h.give(t, l.topic(), l.block(nil, alarm, rng(edgeagent.Seq(i+1), edgeagent.Seq(i+1)), 99))
	}
	ack := h.tell(t, l)
	if len(ack.Conflict) != 16 || ack.Conflict[15].From != 100 {
		t.Errorf("%d conflicts told: %v", len(ack.Conflict), ack.Conflict)
	}
	h.give(t, l.topic(), l.block(nil, alarm, rng(5, 5), 99))
	if got := h.tell(t, l).Conflict; len(got) != 16 || got[15].From != 5 {
		t.Errorf("told %v", got)
	}
}

func TestMemoryFindsWhatTheHubShouldNotDo(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	cut := Cut{Device: "d", Stream: alarm, Ranges: []edgeagent.Range{rng(1, 2)}, Events: make([]Event, 2)}
	for range 2 {
		if err := m.Commit(t.Context(), cut); err != nil {
			t.Fatal(err)
		}
	}
	if m.Count() != 2 || m.Duplicates() != 2 {
		t.Errorf("count %d, duplicates %d, want 2 and 2", m.Count(), m.Duplicates())
	}
	cut.Ranges[0].To = 3
	if err := m.Commit(t.Context(), cut); err == nil {
		t.Error("two records in a range of three")
	}
}
