package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// ledger is a store in memory that outlives a hub, as a file would: what it keeps of a
// stream goes through JSON. It can fail, before and after the fact.
type ledger struct {
	mu      sync.Mutex
	order   []EpochID
	epochs  map[EpochID]*Saved
	kept    map[uint64]Kept
	records *Memory // of a store that keeps records
	fail    func(c Change) error
	commits int
	most    int // cuts in a commit
	stale   int
}

func newLedger(records *Memory) *ledger {
	return &ledger{epochs: map[EpochID]*Saved{}, kept: map[uint64]Kept{}, records: records}
}

func (l *ledger) Epochs(context.Context) ([]EpochID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.order), nil
}

func (l *ledger) Load(_ context.Context, id EpochID, names bool) (Saved, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.epochs[id]
	if s == nil {
		return Saved{}, nil
	}
	out := *s
	out.Streams = map[edgeagent.Stream]StreamState{}
	for k, v := range s.Streams {
		out.Streams[k] = reborn(v)
	}
	out.Series, out.Clock, out.Pending = slices.Clone(s.Series), slices.Clone(s.Clock), slices.Clone(s.Pending)
	if !names {
		out.Series = nil
	}
	for _, k := range l.kept {
		if k.Cause == CauseSeries && (EpochID{k.Tenant, k.Device, k.Epoch}) == id {
			out.Waiting = append(out.Waiting, k)
		}
	}
	return out, nil
}

// reborn is what is left of a state after a journey through JSON.
func reborn(s StreamState) (out StreamState) {
	b, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		panic(err)
	}
	out.Version, out.Gaps = s.Version, slices.Clone(s.Gaps)
	return out
}

func (l *ledger) Kept(context.Context) (out []Kept, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.kept {
		k.Block = nil
		out = append(out, k)
	}
	return out, nil
}

func (l *ledger) Commit(ctx context.Context, changes []Change) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range changes { // all of them or none
		if l.fail != nil {
			if err := l.fail(c); err != nil {
				return err
			}
		}
		if l.behind(c) {
			l.stale++
			return ErrStale
		}
	}
	cuts := 0
	for _, c := range changes {
		if err := l.commit(ctx, c); err != nil {
			return err
		}
		if c.Cut != nil || c.Pending != nil {
			cuts++
		}
	}
	l.commits++
	l.most = max(l.most, cuts)
	return nil
}

// behind reports whether a change was planned on another state.
func (l *ledger) behind(c Change) bool {
	s := l.epochs[c.EpochID]
	for _, x := range c.Streams {
		if s == nil && x.State.Version != 0 || s != nil && s.Streams[x.Stream].Version != x.State.Version {
			return true
		}
	}
	return false
}

func (l *ledger) commit(ctx context.Context, c Change) error {
	s := l.epochs[c.EpochID]
	for _, k := range c.Keep {
		k.Block = slices.Clone(k.Block)
		l.kept[k.ID] = k
	}
	for _, id := range c.Drop {
		delete(l.kept, id)
	}
	if c.Epoch == 0 {
		return nil
	}
	if s == nil {
		s = &Saved{Streams: map[edgeagent.Stream]StreamState{}}
		l.epochs[c.EpochID] = s
		l.order = append(l.order, c.EpochID)
	}
	s.Ended = s.Ended || c.Ended
	s.Series = append(s.Series, c.Series...)
	s.Clock = append(s.Clock, c.Clock...)
	for _, x := range c.Streams {
		was := s.Streams[x.Stream]
		x.State = reborn(x.State)
		if !x.Gaps {
			x.State.Gaps = was.Gaps
		}
		x.State.Version++
		s.Streams[x.Stream] = x.State
	}
	if c.Done != 0 {
		s.Pending = slices.DeleteFunc(s.Pending, func(p Pending) bool { return p.Stream == c.Done })
	}
	if c.Pending != nil {
		p := *c.Pending
		p.Block = slices.Clone(p.Block)
		s.Pending = append(s.Pending, p)
	}
	if c.Cut != nil {
		return l.records.Commit(ctx, *c.Cut)
	}
	return nil
}

// A hub that begins anew on the store of another knows all that it knew: what is held,
// names, what waits, conflicts, gaps, corrections. Nothing is stored twice, whatever
// comes again.
func TestRestart(t *testing.T) {
	for name, sinks := range map[string]bool{"records in the store": false, "records in a sink": true} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { testRestart(rt, t, sinks) })
		})
	}
}

func testRestart(rt *rapid.T, t *testing.T, sinks bool) {
	const n = 120
	l := newLife("gw1", 0x9f02)
	m := NewMemory(MemoryOptions{})
	store := newLedger(m)
	begin := func() *bench {
		o := Options{Store: store, Now: func() time.Time { return time.Unix(100, 0) }}
		if sinks {
			o.Sink = m
		}
		return newBench(t, o)
	}
	h := begin()
	step := func(msg []byte) {
		h.give(t, l.topic(), msg)
		if rapid.IntRange(0, 3).Draw(rt, "restart") > 0 {
			return
		}
		next := begin()
		if err := next.Restore(t.Context()); err != nil {
			t.Fatal(err)
		}
		a, b := h.Stats().Devices, next.Stats().Devices
		for _, d := range slices.Concat(a, b) { // what came again is noted with the next change
			for _, e := range d.Epochs {
				for i := range e.Streams {
					e.Streams[i].Resent, e.Streams[i].Seen = 0, time.Time{}
				}
			}
		}
		if diff := cmp.Diff(lasting(a), lasting(b)); diff != "" {
			rt.Fatalf("a new hub knows otherwise (-before +after):\n%s", diff)
		}
		if diff := cmp.Diff(h.Gaps(), next.Gaps()); diff != "" {
			rt.Fatalf("gaps (-before +after):\n%s", diff)
		}
		if diff := cmp.Diff(sizes(h.Quarantine()), sizes(next.Quarantine())); diff != "" {
			rt.Fatalf("quarantine (-before +after):\n%s", diff)
		}
		h = next
	}
	for range rapid.IntRange(0, 30).Draw(rt, "messages") {
		from := rapid.IntRange(1, n).Draw(rt, "from")
		r := rng(edgeagent.Seq(from), edgeagent.Seq(rapid.IntRange(from, min(n, from+40)).Draw(rt, "to")))
		switch rapid.IntRange(0, 6).Draw(rt, "kind") {
		case 0:
			step(l.names(1, rapid.IntRange(1, l.series).Draw(rt, "names")))
		case 1:
			step(l.records(alarm, r))
		case 2:
			step(l.records(rollup, r))
		case 3:
			step(l.block(nil, alarm, r, 99)) // perhaps a conflict
		case 4:
			step(l.marks(t, said(telemetry, r.From, n+1, block.Gap{From: r.From, To: r.To, Reason: "evicted", AtMost: r.Len()})))
		default:
			step(l.records(telemetry, r))
		}
	}
	if m.Duplicates() != 0 {
		rt.Fatalf("%d records stored twice", m.Duplicates())
	}
}

// lasting leaves out streams that only what never was stored has made.
func lasting(list []DeviceStats) (out []EpochStats) {
	for _, d := range list {
		for _, e := range d.Epochs {
			e.Seen = time.Time{}
			e.Streams = slices.DeleteFunc(slices.Clone(e.Streams), func(s StreamStats) bool { return s.Held == 0 && s.Next == 0 && s.Conflicts == 0 })
			if len(e.Streams) == 0 {
				e.Streams = nil
			}
			if len(e.Streams) > 0 || e.Series > 0 || e.Waiting > 0 {
				out = append(out, e)
			}
		}
	}
	return out
}

func sizes(list []Quarantined) (out []Quarantined) {
	out = slices.Clone(list)
	slices.SortFunc(out, func(a, b Quarantined) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return out
}

// killed ends everything, as a crash would.
var errKilled = errors.New("killed")

// A hub dies before or after the sink has taken a cut. The next one hands over the very
// same cut before it takes anything else of the stream, also when the agent has cut
// its buffer otherwise meanwhile.
func TestCrashAroundTheSink(t *testing.T) {
	for name, after := range map[string]bool{"before the sink": false, "after the sink": true} {
		t.Run(name, func(t *testing.T) {
			l := newLife("gw1", 1)
			m := checked(t, l)
			store := newLedger(nil)
			var cuts []string
			dead, kill := context.WithCancel(t.Context())
			sink := sinkFunc(func(ctx context.Context, c Cut) error {
				cuts = append(cuts, c.ID())
				if len(cuts) != 2 {
					return m.Commit(ctx, c)
				}
				if kill(); !after {
					return errKilled
				}
				store.fail = func(Change) error { return errKilled }
				return m.Commit(ctx, c)
			})
			h := newBench(t, Options{Sink: sink, Store: store})
			h.give(t, l.topic(), l.names(1, 5))
			h.give(t, l.topic(), l.records(telemetry, rng(1, 10)))
			if h.take(dead, l.topic(), l.records(telemetry, rng(5, 30)), h.a) {
				t.Fatal("acknowledged")
			}
			store.fail = nil
			h = newBench(t, Options{Sink: sink, Store: store})
			h.give(t, l.topic(), l.records(telemetry, rng(20, 40)))
			want := []string{
				"acme/gw1/0000000000000001/telemetry/1-10",
				"acme/gw1/0000000000000001/telemetry/11-30",
				"acme/gw1/0000000000000001/telemetry/11-30",
				"acme/gw1/0000000000000001/telemetry/31-40",
			}
			if diff := cmp.Diff(want, cuts); diff != "" {
				t.Errorf("cuts (-want +got):\n%s", diff)
			}
			if wantTwice := map[bool]uint64{false: 0, true: 20}[after]; m.Count() != 40 || m.Duplicates() != wantTwice {
				t.Errorf("%d stored, %d twice, want 40 and %d", m.Count(), m.Duplicates(), wantTwice)
			}
		})
	}
}

type sinkFunc func(context.Context, Cut) error

func (f sinkFunc) Commit(ctx context.Context, c Cut) error { return f(ctx, c) }

// Two hubs on one store, each with a memory of its own that is behind the store's:
// overlapping cuts, names that only one hears, blocks that wait at the other.
func TestTwoWorkers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const n = 120
		l := newLife("gw1", 0x9f02)
		m := checked(t, l)
		store := newLedger(m)
		var hubs []*bench
		for range 2 {
			hubs = append(hubs, newBench(t, Options{Store: store, Shared: true}))
		}
		give := func(msg []byte) { hubs[rapid.IntRange(0, 1).Draw(rt, "worker")].give(t, l.topic(), msg) }
		for range rapid.IntRange(0, 30).Draw(rt, "messages") {
			from := rapid.IntRange(1, n).Draw(rt, "from")
			r := rng(edgeagent.Seq(from), edgeagent.Seq(rapid.IntRange(from, min(n, from+40)).Draw(rt, "to")))
			switch rapid.IntRange(0, 4).Draw(rt, "kind") {
			case 0:
				lo := rapid.IntRange(1, l.series).Draw(rt, "lowest id")
				give(l.names(lo, rapid.IntRange(lo, l.series).Draw(rt, "highest id")))
			case 1:
				give(l.records(alarm, r))
			case 2:
				give(l.marks(t, said(alarm, 1, n+1)))
			default:
				give(l.records(telemetry, r))
			}
		}
		give(slices.Concat(l.records(telemetry, rng(1, n)), l.records(alarm, rng(1, n))))
		give(l.names(1, l.series))
		if m.Count() != 2*n || m.Duplicates() != 0 {
			rt.Fatalf("%d stored, %d twice, want %d once", m.Count(), m.Duplicates(), 2*n)
		}
		for i, h := range hubs {
			dev := h.device(deviceKey{"acme", "gw1"})
			if dev.find(l.epoch) == nil {
				continue
			}
			h.refresh(t.Context(), dev, l.epoch)
			if diff := cmp.Diff(edgeagent.Ranges{rng(1, n)}, h.tell(t, l).Have[telemetry]); diff != "" {
				rt.Fatalf("worker %d tells (-want +got):\n%s", i, diff)
			}
		}
	})
}

// A store that was put back from a backup has less than the hub thinks: the hub takes the
// store's word, and asks anew for names that are gone.
func TestStorePutBack(t *testing.T) {
	l := newLife("gw1", 1)
	m := NewMemory(MemoryOptions{})
	store := newLedger(m)
	h := newBench(t, Options{Store: store})
	h.give(t, l.topic(), l.names(1, 5))
	h.give(t, l.topic(), slices.Concat(l.records(telemetry, rng(1, 10)), l.records(alarm, rng(1, 10))))
	store.epochs, store.order = map[EpochID]*Saved{}, nil
	h.give(t, l.topic(), slices.Concat(l.records(telemetry, rng(11, 20)), l.records(alarm, rng(11, 20))))
	ack := h.tell(t, l)
	if diff := cmp.Diff(map[edgeagent.Stream]edgeagent.Ranges{alarm: {rng(11, 20)}}, ack.Have); diff != "" {
		t.Errorf("have (-want +got):\n%s", diff)
	}
	if len(ack.Need.Series) != 5 || h.ranges != 1 || h.series != 0 {
		t.Errorf("needs %v; %d ranges, %d series", ack.Need.Series, h.ranges, h.series)
	}
	h.give(t, l.topic(), l.names(1, 5))
	if diff := cmp.Diff(edgeagent.Ranges{rng(11, 20)}, h.tell(t, l).Have[telemetry]); diff != "" {
		t.Errorf("have (-want +got):\n%s", diff)
	}
}

// TestNoVersions is the control: a store that takes every change lets two workers store
// records twice.
func TestNoVersions(t *testing.T) {
	l := newLife("gw1", 1)
	m := checked(t, l)
	store := careless{newLedger(m)}
	one, two := newBench(t, Options{Store: store, Shared: true}), newBench(t, Options{Store: store, Shared: true})
	one.give(t, l.topic(), l.records(alarm, rng(1, 5)))
	two.give(t, l.topic(), l.records(alarm, rng(1, 5)))
	one.give(t, l.topic(), l.records(alarm, rng(6, 10)))
	two.give(t, l.topic(), l.records(alarm, rng(6, 10)))
	if m.Duplicates() == 0 {
		t.Error("two workers without versions stored nothing twice: the test of two workers proves nothing")
	}
}

type careless struct{ *ledger }

func (c careless) Commit(ctx context.Context, changes []Change) error {
	for i := range changes {
		for j := range changes[i].Streams {
			x := &changes[i].Streams[j]
			x.State.Version = 0
			if s := c.epochs[changes[i].EpochID]; s != nil {
				x.State.Version = s.Streams[x.Stream].Version
			}
		}
	}
	return c.ledger.Commit(ctx, changes)
}

// Of more spans below low than may be kept one is made, and nothing held is forgotten.
func TestSpansBelowLow(t *testing.T) {
	l := newLife("gw1", 1)
	h := newBench(t, Options{Sink: checked(t, l)})
	h.lim.ranges = 20
	for i := range edgeagent.Seq(100) {
		if i%10 == 9 {
			h.give(t, l.topic(), l.marks(t, said(alarm, 10*i, 10*i+100)))
		}
		h.give(t, l.topic(), l.records(alarm, rng(10*i+10, 10*i+12)))
	}
	if h.Stats().Refused != 0 || h.ranges > 40 {
		t.Errorf("%d refused, %d spans", h.Stats().Refused, h.ranges)
	}
	if st := h.Stats().Devices[0].Epochs[0].Streams[0]; st.Held != 300 {
		t.Errorf("%d held, want 300", st.Held)
	}
}

// What a sink or store refuses for good goes into quarantine, is not held, and does not
// stop the rest; a hub that begins anew does not try it again.
func TestRefusedForGood(t *testing.T) {
	for name, sinks := range map[string]bool{"by a store": false, "by a sink": true} {
		t.Run(name, func(t *testing.T) {
			l := newLife("gw1", 1)
			m := checked(t, l)
			store := newLedger(m)
			o := Options{Store: store}
			unfit := fmt.Errorf("too large: %w", ErrRefused)
			if sinks {
				o.Sink = sinkFunc(func(ctx context.Context, c Cut) error {
					if c.Ranges[0].From == 11 {
						return unfit
					}
					return m.Commit(ctx, c)
				})
			} else {
				store.fail = func(c Change) error {
					if c.Cut != nil && c.Cut.Ranges[0].From == 11 || len(c.Series) == 2 {
						return unfit
					}
					return nil
				}
			}
			h := newBench(t, o)
			if !sinks {
				h.give(t, l.topic(), l.names(4, 5))
			}
			for _, r := range []edgeagent.Range{rng(1, 10), rng(11, 20), rng(21, 30)} {
				h.give(t, l.topic(), l.records(alarm, r))
			}
			h = newBench(t, o)
			h.give(t, l.topic(), l.records(alarm, rng(31, 40)))
			want := edgeagent.Ranges{rng(1, 10), rng(21, 40)}
			if diff := cmp.Diff(want, h.Held("acme", "gw1", 1, alarm)); diff != "" {
				t.Errorf("held (-want +got):\n%s", diff)
			}
			var kept int
			for _, q := range h.Quarantine() {
				if q.Cause == CausePoison {
					kept++
				}
			}
			if wantKept := map[bool]int{true: 1, false: 2}[sinks]; kept != wantKept || m.Count() != 30 {
				t.Errorf("%d in quarantine, want %d; %d stored", kept, wantKept, m.Count())
			}
		})
	}
}
