package hub

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

const telemetry, rollup, alarm = edgeagent.StreamTelemetry, edgeagent.StreamRollup, edgeagent.StreamAlarm

func rng(from, to edgeagent.Seq) edgeagent.Range { return edgeagent.Range{From: from, To: to} }

func reread(t testing.TB, ack edgeagent.Ack) edgeagent.Ack {
	t.Helper()
	b, err := json.Marshal(ack)
	if err != nil {
		t.Fatal(err)
	}
	ack, err = edgeagent.ParseAck(b)
	if err != nil {
		t.Fatalf("agent cannot read the ack: %v\n%s", err, b)
	}
	return ack
}

// Random cuts of a known set, in any order, with repeats, series blocks late or
// lost and repeated, over runs: the sink holds each record once, and an ack never
// names one that the sink does not hold.
func TestAnyCutsAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const n = 150
		l := newLife("gw1", 0x9f02)
		runEvery := edgeagent.Seq(rapid.IntRange(1, 200).Draw(rt, "records a run"))
		l.runOf = func(s edgeagent.Seq) edgeagent.Run { return edgeagent.Run(s / runEvery) }
		m := checked(t, l)
		h := newBench(t, Options{Sink: m})
		step := func(msg []byte) {
			h.give(t, l.topic(), msg)
			for _, s := range []edgeagent.Stream{telemetry, rollup, alarm} {
				if diff := cmp.Diff(m.Ranges("acme", "gw1", l.epoch, s), h.Held("acme", "gw1", l.epoch, s)); diff != "" {
					rt.Fatalf("hub and sink differ on %s (-sink +hub):\n%s", s, diff)
				}
			}
			if h.devices[deviceKey{"acme", "gw1"}].find(l.epoch) == nil {
				return
			}
			for s, have := range h.tell(t, l).Have {
				stored := m.Ranges("acme", "gw1", l.epoch, s)
				for _, r := range have {
					if missing := stored.Missing(r); len(missing) > 0 {
						rt.Fatalf("ack names %v of %s, sink lacks %v", r, s, missing)
					}
				}
			}
		}
		for range rapid.IntRange(0, 60).Draw(rt, "messages") {
			var msg []byte
			for range rapid.IntRange(1, 3).Draw(rt, "blocks") {
				from := rapid.IntRange(1, n).Draw(rt, "from")
				to := rapid.IntRange(from, min(n, from+50)).Draw(rt, "to")
				switch r := rng(edgeagent.Seq(from), edgeagent.Seq(to)); rapid.IntRange(0, 5).Draw(rt, "kind") {
				case 0:
					lo := rapid.IntRange(1, l.series).Draw(rt, "lowest id")
					msg = append(msg, l.names(lo, rapid.IntRange(lo, l.series).Draw(rt, "highest id"))...)
				case 1:
					msg = append(msg, l.records(alarm, r)...)
				case 2:
					msg = append(msg, l.records(rollup, r)...)
				default:
					msg = append(msg, l.records(telemetry, r)...)
				}
			}
			step(msg)
		}
		// In the end the agent sends all of it.
		step(slices.Concat(l.records(telemetry, rng(1, n)), l.records(rollup, rng(1, n)), l.records(alarm, rng(1, n))))
		step(l.names(1, l.series))
		if m.Count() != 3*n || m.Duplicates() != 0 {
			rt.Fatalf("sink holds %d records, %d twice; want %d once", m.Count(), m.Duplicates(), 3*n)
		}
		if gaps := h.Gaps(); len(gaps) != 0 {
			rt.Fatalf("gaps in a complete set: %v", gaps)
		}
		if st := h.Stats(); st.QuarantineBytes != 0 || st.Records != 3*n {
			rt.Fatalf("stats %+v", st)
		}
	})
}

func TestReadingsBeforeTheirNames(t *testing.T) {
	l := newLife("gw1", 1)
	m := checked(t, l)
	h := newBench(t, Options{Sink: m})
	h.give(t, l.topic(), l.names(1, 3))
	h.give(t, l.topic(), l.records(telemetry, rng(1, 20)))
	h.give(t, l.topic(), l.records(telemetry, rng(1, 20))) // comes again
	h.give(t, l.topic(), l.records(telemetry, rng(11, 30)))
	if m.Count() != 0 {
		t.Errorf("%d records stored without names", m.Count())
	}
	ack := h.tell(t, l)
	if diff := cmp.Diff([]uint32{4, 5}, ack.Need.Series); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	if len(ack.Have) != 0 {
		t.Errorf("ack names %v out of quarantine", ack.Have)
	}
	st := h.Stats()
	if st.Quarantined[CauseSeries] != 2 || st.QuarantineBytes == 0 || st.Devices[0].Epochs[0].Waiting != 2 {
		t.Errorf("stats %+v, want two blocks in quarantine", st)
	}
	h.give(t, l.topic(), l.names(4, 4)) // not yet
	if m.Count() != 0 {
		t.Errorf("%d records stored without names", m.Count())
	}
	h.give(t, l.topic(), l.names(5, 5))
	ack = h.tell(t, l)
	if m.Count() != 30 || m.Duplicates() != 0 || len(ack.Need.Series) != 0 {
		t.Errorf("%d records stored, %d twice, still asking for %v", m.Count(), m.Duplicates(), ack.Need.Series)
	}
	if diff := cmp.Diff(edgeagent.Ranges{rng(1, 30)}, ack.Have[telemetry]); diff != "" {
		t.Errorf("have (-want +got):\n%s", diff)
	}
	if st := h.Stats(); st.QuarantineBytes != 0 || st.Released != 2 {
		t.Errorf("stats %+v, want an empty quarantine", st)
	}
}

// An id below the highest known one may still be unknown.
func TestNameMissingInTheMiddle(t *testing.T) {
	l := newLife("gw1", 1)
	m := checked(t, l)
	h := newBench(t, Options{Sink: m})
	h.give(t, l.topic(), slices.Concat(l.names(1, 2), l.names(4, 5), l.records(telemetry, rng(1, 10))))
	if m.Count() != 0 {
		t.Errorf("%d records stored", m.Count())
	}
	h.give(t, l.topic(), l.names(3, 3))
	if m.Count() != 10 {
		t.Errorf("%d records stored, want 10", m.Count())
	}
}

func TestConflict(t *testing.T) {
	l := newLife("gw1", 1)
	m := checked(t, l)
	h := newBench(t, Options{Sink: m})
	h.give(t, l.topic(), slices.Concat(l.names(1, 5), l.records(telemetry, rng(1, 10))))
	rewound := l.block(nil, telemetry, rng(8, 15), 99) // a copy of the buffer goes on under another run
	h.give(t, l.topic(), rewound)
	if m.Count() != 10 {
		t.Errorf("%d records stored, want 10: nothing of a conflicting block counts as held", m.Count())
	}
	want := edgeagent.Ack{
		By: "hub", Epoch: 1,
		Have:     map[edgeagent.Stream]edgeagent.Ranges{telemetry: {rng(1, 10)}},
		Top:      map[edgeagent.Stream]edgeagent.Top{telemetry: {Seq: 10, Run: 7}},
		Conflict: []edgeagent.Conflict{{Stream: telemetry, From: 8, To: 15, Run: 99}},
	}
	if diff := cmp.Diff(want, h.tell(t, l)); diff != "" {
		t.Errorf("ack (-want +got):\n%s", diff)
	}
	// Have names 8 to 10, too: whoever missed the first ack must hear it again.
	if diff := cmp.Diff(want, h.tell(t, l)); diff != "" {
		t.Errorf("next ack (-want +got):\n%s", diff)
	}
	q := h.Quarantine()
	if len(q) != 1 || q[0].Cause != CauseConflict || q[0].Range != rng(8, 15) || q[0].Run != 99 || q[0].Bytes != len(rewound) {
		t.Errorf("quarantine %+v", q)
	}
	// The honest records at these numbers still get in.
	h.give(t, l.topic(), l.records(telemetry, rng(8, 15)))
	if m.Count() != 15 {
		t.Errorf("%d records stored, want 15", m.Count())
	}
}

func TestWhatCannotBeStored(t *testing.T) {
	l, other := newLife("gw1", 1), newLife("gw2", 1)
	good := l.records(alarm, rng(1, 3))
	broken := slices.Clone(good)
	broken[len(broken)-1] ^= 1
	later := slices.Clone(good)
	later[2] = 9 // version
	redefined := newLife("gw1", 1)
	redefined.device = "gw1"
	wrongNames, err := redefined.enc.Series(nil, "gw1", 1, []block.SeriesEntry{{ID: 1, Key: l.key(2)}})
	if err != nil {
		t.Fatal(err)
	}
	capture, err := l.enc.Readings(nil, block.ID{Epoch: 1}, []block.Row{{Series: 1}})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		payload []byte
		want    map[Cause]uint64
		stored  uint64
	}{
		{"empty", nil, map[Cause]uint64{CauseFormat: 1}, 0},
		{"text", []byte("temperature value=21"), map[Cause]uint64{CauseFormat: 1}, 0},
		{"one letter", []byte("E"), map[Cause]uint64{CauseFormat: 1}, 0},
		{"cut short", good[:len(good)-1], map[Cause]uint64{CausePoison: 1}, 0},
		{"broken checksum", broken, map[Cause]uint64{CausePoison: 1}, 0},
		{"later version", later, map[Cause]uint64{CauseFormat: 1}, 0},
		{"good before broken", slices.Concat(good, broken), map[Cause]uint64{CausePoison: 1}, 3},
		{"good after broken", slices.Concat(broken, good), map[Cause]uint64{CausePoison: 1}, 3},
		{"good before text", slices.Concat(good, []byte("text")), map[Cause]uint64{CauseFormat: 1}, 3},
		{"names of another device", other.names(1, 5), map[Cause]uint64{CausePoison: 1}, 0},
		{"a name given twice", slices.Concat(l.names(1, 5), wrongNames), map[Cause]uint64{CausePoison: 1}, 0},
		{"names repeated are fine", slices.Concat(l.names(1, 5), l.names(1, 5)), map[Cause]uint64{}, 0},
		{"readings without numbers", capture, map[Cause]uint64{CausePoison: 1}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := checked(t, l)
			h := newBench(t, Options{Sink: m})
			h.give(t, l.topic(), tt.payload)
			if diff := cmp.Diff(tt.want, h.Stats().Quarantined); diff != "" {
				t.Errorf("quarantined (-want +got):\n%s", diff)
			}
			if m.Count() != tt.stored {
				t.Errorf("%d records stored, want %d", m.Count(), tt.stored)
			}
			// Whatever came, the next message is stored.
			h.give(t, l.topic(), l.records(alarm, rng(101, 105)))
			if m.Count() != tt.stored+5 {
				t.Errorf("%d records stored afterwards, want %d", m.Count(), tt.stored+5)
			}
		})
	}
}

func TestTopics(t *testing.T) {
	l := newLife("gw1", 1)
	tests := []struct {
		topic string
		ok    bool
	}{
		{"ea/v1/acme/gw1/d/live", true},
		{"ea/v1/acme/gw1/d/lane-of-a-later-release", true},
		{"ea/v1/acme/gw1/d/", false},
		{"ea/v1/acme/gw1/d", false},
		{"ea/v1/acme/gw1/ack", false},
		{"ea/v1/acme/gw1/d/live/x", false},
		{"ea/v1//gw1/d/live", false},
		{"ea/v2/acme/gw1/d/live", false},
		{"ea/v1/acme/gw\x00/d/live", false},
		{"ea/v1/acme/gw\xff/d/live", false},
		{"ea/v1/acme/gw\x1b[2J/d/live", false},
		{"", false},
	}
	for _, tt := range tests {
		t.Run(tt.topic, func(t *testing.T) {
			m := checked(t, l)
			h := newBench(t, Options{Sink: m})
			h.give(t, tt.topic, l.records(alarm, rng(1, 3)))
			if (m.Count() == 3) != tt.ok || (h.Stats().BadTopics == 0) != tt.ok {
				t.Errorf("stored %d, stats %+v", m.Count(), h.Stats())
			}
		})
	}
}

// Two tenants may have devices of the same name, and two devices the same epoch.
func TestDevicesAreKeptApart(t *testing.T) {
	l := newLife("gw1", 1)
	m := checked(t, l)
	h := newBench(t, Options{Sink: m})
	for _, topic := range []string{"ea/v1/a/gw1/d/alarm", "ea/v1/b/gw1/d/alarm", "ea/v1/b/gw2/d/alarm"} {
		h.give(t, topic, l.records(alarm, rng(1, 5)))
	}
	if m.Count() != 15 || m.Duplicates() != 0 {
		t.Errorf("%d records stored, %d twice, want 15 once", m.Count(), m.Duplicates())
	}
}

func TestGapsAndStats(t *testing.T) {
	l := newLife("gw1", 1)
	m := checked(t, l)
	now := time.Unix(100, 0)
	h := newBench(t, Options{Sink: m, Now: func() time.Time { return now }})
	for _, r := range []edgeagent.Range{rng(3, 5), rng(9, 9), rng(8, 12)} {
		h.give(t, l.topic(), l.records(alarm, r))
	}
	want := []Gap{{Tenant: "acme", Device: "gw1", Epoch: 1, Stream: alarm, Range: rng(1, 2)}, {Tenant: "acme", Device: "gw1", Epoch: 1, Stream: alarm, Range: rng(6, 7)}}
	if diff := cmp.Diff(want, h.Gaps()); diff != "" {
		t.Errorf("gaps (-want +got):\n%s", diff)
	}
	st := h.Stats()
	wantStream := StreamStats{
		Stream: alarm, Held: 8, Ranges: 2, Top: 12, Missing: 4, Resent: 1,
		Seen: now, Newest: time.Unix(12, 0), Lag: 88 * time.Second,
	}
	if diff := cmp.Diff(wantStream, st.Devices[0].Epochs[0].Streams[0]); diff != "" {
		t.Errorf("stream (-want +got):\n%s", diff)
	}
	if st.Messages != 3 || st.Records != 8 || st.Resent != 1 {
		t.Errorf("stats %+v", st)
	}
	last := m.Last()
	if len(last) != 8 || last[0].Event.Seq != 3 || last[7].Event.Seq != 12 {
		t.Errorf("last records %+v", last)
	}
}

func TestRollupsAreKept(t *testing.T) {
	l := newLife("gw1", 1)
	m := checked(t, l)
	h := newBench(t, Options{Sink: m})
	h.give(t, l.topic(), l.records(rollup, rng(1, 7)))
	if diff := cmp.Diff([]uint32{1, 2, 3, 4, 5}, h.tell(t, l).Need.Series); diff != "" || m.Count() != 0 {
		t.Errorf("%d stored, asked for (-want +got):\n%s", m.Count(), diff)
	}
	h.give(t, l.topic(), l.names(1, 5))
	if diff := cmp.Diff(edgeagent.Ranges{rng(1, 7)}, h.tell(t, l).Have[rollup]); diff != "" {
		t.Errorf("have (-want +got):\n%s", diff)
	}
	last := m.Last()
	if len(last) != 7 || last[6].Rollup == nil || last[6].Rollup.Seq != 7 || last[6].Stream != rollup {
		t.Errorf("last records %+v", last)
	}
}

// flaky is a sink that fails on demand.
type flaky struct {
	*Memory
	mu   sync.Mutex
	fail bool
}

func (f *flaky) set(fail bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *flaky) Commit(ctx context.Context, c Cut) error {
	f.mu.Lock()
	fail := f.fail
	f.mu.Unlock()
	if fail {
		return errors.New("disk is full")
	}
	return f.Memory.Commit(ctx, c)
}

// feed is an input that a test drives: messages are handed over one after the
// other, acks are recorded.
type feed struct {
	messages chan Delivery
	mu       sync.Mutex
	acks     []told
	fail     error
}

type told struct {
	at    time.Duration // since the feed was made
	topic string
	ack   edgeagent.Ack
}

func newFeed() *feed { return &feed{messages: make(chan Delivery, 10_000)} }

func (f *feed) Run(ctx context.Context, handle func(Delivery)) error {
	for {
		select {
		case d := <-f.messages:
			handle(d)
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *feed) Publish(_ context.Context, topic string, payload []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	ack, err := edgeagent.ParseAck(payload)
	if err != nil {
		return err
	}
	f.acks = append(f.acks, told{time.Since(bubbleStart), topic, ack})
	return nil
}

func (f *feed) setFail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

func (f *feed) told() []told {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.acks)
}

// bubbleStart is when every synctest bubble begins.
var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// running runs h on f and returns a function that ends it.
func running(t *testing.T, h *Hub, f *feed) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.Run(ctx, f); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return func() { cancel(); wg.Wait() }
}

func TestFailingSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLife("gw1", 1)
		sink := &flaky{Memory: checked(t, l), fail: true}
		h, err := New(Options{Sink: sink})
		if err != nil {
			t.Fatal(err)
		}
		f := newFeed()
		stop := running(t, h, f)
		var acked []int
		send := func(i int, r edgeagent.Range) {
			f.messages <- Delivery{Topic: l.topic(), Payload: l.records(alarm, r), Ack: func() { acked = append(acked, i) }}
		}
		send(1, rng(1, 10))
		send(2, rng(5, 20))
		send(3, rng(21, 30))
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(acked) != 0 || len(f.told()) != 0 || len(h.Held("acme", "gw1", 1, alarm)) != 0 {
			t.Errorf("acked %v, told %v while nothing is stored", acked, f.told())
		}
		if st := h.Stats(); st.SinkError != "disk is full" || st.SinkErrors < 8 || st.SinkErrors > 30 {
			t.Errorf("stats %+v", st)
		}
		sink.set(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff([]int{1, 2, 3}, acked); diff != "" {
			t.Errorf("acked (-want +got):\n%s", diff)
		}
		if sink.Count() != 30 || sink.Duplicates() != 0 || h.Stats().SinkError != "" {
			t.Errorf("stored %d, twice %d, stats %+v", sink.Count(), sink.Duplicates(), h.Stats())
		}
		// Ended in the middle of a failing commit: nothing is promised.
		sink.set(true)
		send(4, rng(31, 40))
		time.Sleep(time.Second)
		stop()
		if len(acked) != 3 || h.Held("acme", "gw1", 1, alarm).Count() != 30 {
			t.Errorf("acked %v, held %v after the end", acked, h.Held("acme", "gw1", 1, alarm))
		}
	})
}

func TestAckPace(t *testing.T) {
	tests := []struct {
		name     string
		messages int           // in all
		every    time.Duration // between two
		size     int           // of a message, at least
		within   time.Duration
		acks     [2]int // least and most
	}{
		{"one message is acked at once", 1, 0, 0, time.Second, [2]int{1, 1}},
		{"a trickle is acked each time", 10, time.Second, 0, 20 * time.Second, [2]int{10, 10}},
		{"a stream is acked five times a second", 100, 10 * time.Millisecond, 0, 2 * time.Second, [2]int{5, 7}},
		{"256 messages do not wait", 600, 0, 0, 150 * time.Millisecond, [2]int{2, 3}},
		{"1 MiB does not wait", 40, 0, 64 << 10, 150 * time.Millisecond, [2]int{2, 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLife("gw1", 1)
				h, err := New(Options{Sink: checked(t, l)})
				if err != nil {
					t.Fatal(err)
				}
				f := newFeed()
				stop := running(t, h, f)
				for i := range tt.messages {
					payload := l.records(alarm, rng(edgeagent.Seq(i+1), edgeagent.Seq(i+1)))
					for len(payload) < tt.size {
						payload = append(payload, payload...)
					}
					f.messages <- Delivery{Topic: l.topic(), Payload: payload, Ack: func() {}}
					if tt.every > 0 {
						time.Sleep(tt.every)
					} else if i%16 == 15 {
						synctest.Wait() // let the acker have its turn
					}
				}
				time.Sleep(tt.within)
				acks := f.told()
				if len(acks) < tt.acks[0] || len(acks) > tt.acks[1] {
					t.Errorf("%d acks, want %v: %v", len(acks), tt.acks, acks)
				}
				time.Sleep(time.Minute)
				last := f.told()[len(f.told())-1]
				if diff := cmp.Diff(edgeagent.Ranges{rng(1, edgeagent.Seq(tt.messages))}, last.ack.Have[alarm]); diff != "" {
					t.Errorf("last ack (-want +got):\n%s", diff)
				}
				if last.topic != "ea/v1/acme/gw1/ack" || last.ack.By != "hub" {
					t.Errorf("last ack %+v", last)
				}
				stop()
			})
		})
	}
}

// An ack that cannot be sent is sent later, although no further message comes.
func TestAckIsSentLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLife("gw1", 1)
		h, err := New(Options{Sink: checked(t, l), Name: "hub-eu"})
		if err != nil {
			t.Fatal(err)
		}
		f := newFeed()
		f.setFail(errors.New("offline"))
		stop := running(t, h, f)
		f.messages <- Delivery{Topic: l.topic(), Payload: l.records(alarm, rng(1, 10)), Ack: func() {}}
		time.Sleep(time.Minute)
		if st := h.Stats(); st.AckErrors < 50 || st.AckErrors > 70 || st.Acks != 0 {
			t.Errorf("stats %+v, want about one try a second", st)
		}
		f.setFail(nil)
		time.Sleep(2 * time.Second)
		acks := f.told()
		if len(acks) != 1 || acks[0].ack.Have[alarm].Count() != 10 || acks[0].ack.By != "hub-eu" {
			t.Errorf("acks %+v", acks)
		}
		stop()
	})
}

// Each epoch has acks of its own.
func TestAcksOfTwoEpochs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newLife("gw1", 1), newLife("gw1", 2)
		h, err := New(Options{Sink: checked(t, one, two)})
		if err != nil {
			t.Fatal(err)
		}
		f := newFeed()
		stop := running(t, h, f)
		payload := slices.Concat(one.records(alarm, rng(1, 3)), two.records(alarm, rng(1, 5)))
		f.messages <- Delivery{Topic: one.topic(), Payload: payload, Ack: func() {}}
		time.Sleep(time.Second)
		got := map[edgeagent.Epoch]uint64{}
		for _, a := range f.told() {
			got[a.ack.Epoch] = a.ack.Have[alarm].Count()
		}
		if diff := cmp.Diff(map[edgeagent.Epoch]uint64{1: 3, 2: 5}, got); diff != "" {
			t.Errorf("acks (-want +got):\n%s", diff)
		}
		stop()
	})
}

func TestNewNeedsASink(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("a hub without a sink")
	}
}

func FuzzMessage(f *testing.F) {
	l := newLife("gw1", 1)
	f.Add("ea/v1/acme/gw1/d/live", slices.Concat(l.names(1, 5), l.records(telemetry, rng(1, 40))))
	f.Add("ea/v1/acme/gw1/d/alarm", l.records(alarm, rng(1, 4)))
	f.Add("ea/v1/acme/gw1/ack", []byte(`{"by":"hub"}`))
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		m := NewMemory(MemoryOptions{Keep: 10})
		h := newBench(t, Options{Sink: m})
		h.give(t, topic, payload)
		h.give(t, topic, payload)
		h.give(t, l.topic(), slices.Concat(l.names(1, 5), l.records(telemetry, rng(1, 40))))
		h.give(t, topic, payload)
		h.Stats()
		h.Gaps()
		if m.Duplicates() != 0 {
			t.Errorf("%d records stored twice", m.Duplicates())
		}
	})
}

// BenchmarkDecodeDedupe is a hub without a database.
func BenchmarkDecodeDedupe(b *testing.B) {
	l := newLife("gw1", 1)
	h := newBench(b, Options{Sink: NewMemory(MemoryOptions{})})
	h.give(b, l.topic(), l.names(1, 5))
	const per = 4000
	var enc block.Encoder
	rows := make([]block.Row, per)
	for i := range rows {
		rows[i] = l.row(edgeagent.Seq(i))
	}
	next := edgeagent.Seq(1)
	var payload []byte
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		payload, _ = enc.Readings(payload[:0], block.ID{Stream: telemetry, Epoch: 1, First: next, Run: 7, Resolution: 6}, rows)
		next += per
		b.StartTimer()
		h.give(b, l.topic(), payload)
		n += per
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds()/1e6, "Mreadings/s")
}
