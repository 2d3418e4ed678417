package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// together hands over messages that have arrived while a commit ran, and returns which
// were acknowledged.
func (b *bench) together(ctx context.Context, list ...Delivery) (acked []int) {
	for i := range list {
		list[i].Ack = func() { acked = append(acked, i) }
	}
	b.handle(ctx, list, b.a)
	return acked
}

func upTo(n int) (out []int) {
	for i := range n {
		out = append(out, i)
	}
	return out
}

// What has arrived together is one commit; one message that the store will never take, or
// whose numbers another run has, or that is no block, keeps nothing of the rest back.
func TestGroup(t *testing.T) {
	const devices = 20
	tests := []struct {
		name    string
		spoil   func(l *life) []byte // the message of the eighth
		cause   Cause
		held    uint64 // of the eighth
		commits int    // at most
	}{
		{"all well", func(l *life) []byte { return l.records(telemetry, rng(1, 10)) }, causes, 10, 1},
		{"refused", func(l *life) []byte { return l.records(telemetry, rng(1, 11)) }, CausePoison, 0, 12},
		{"conflict", func(l *life) []byte {
			return slices.Concat(l.records(telemetry, rng(1, 10)), l.block(nil, telemetry, rng(5, 9), 99))
		}, CauseConflict, 10, 3},
		{"no block", func(*life) []byte { return []byte("temperature value=21") }, CauseFormat, 0, 2},
		{"no names", func(l *life) []byte { return l.records(telemetry, rng(1, 10)) }, CauseSeries, 0, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := NewMemory(MemoryOptions{})
			store := newLedger(m)
			store.fail = func(c Change) error {
				if c.Cut != nil && c.Cut.Len() == 11 {
					return fmt.Errorf("%w: too many", ErrRefused)
				}
				return nil
			}
			h := newBench(t, Options{Store: store})
			var list []Delivery
			var lives []*life
			for i := range devices {
				l := newLife(fmt.Sprintf("gw%d", i), edgeagent.Epoch(i+1))
				lives = append(lives, l)
				msg := l.records(telemetry, rng(1, 10))
				if i == 8 {
					msg = tt.spoil(l)
				}
				if i != 8 || tt.cause != CauseSeries {
					h.give(t, l.topic(), l.names(1, l.series))
				} else {
					h.give(t, l.topic(), l.records(alarm, rng(1, 1)))
				}
				list = append(list, Delivery{Topic: l.topic(), Payload: msg})
			}
			before := store.commits
			if diff := cmp.Diff(upTo(devices), h.together(t.Context(), list...)); diff != "" {
				t.Errorf("acknowledged (-want +got):\n%s", diff)
			}
			for i, l := range lives {
				want := uint64(10)
				if i == 8 {
					want = tt.held
				}
				if got := h.Held("acme", l.device, l.epoch, telemetry).Count(); got != want {
					t.Errorf("%s: %d held, want %d", l.device, got, want)
				}
			}
			if n := store.commits - before; n > tt.commits {
				t.Errorf("%d commits, want %d at most", n, tt.commits)
			}
			if st := h.Stats(); tt.cause != causes && st.Quarantined[tt.cause] != 1 || m.Duplicates() != 0 {
				t.Errorf("quarantine %v, %d stored twice", st.Quarantined, m.Duplicates())
			}
		})
	}
}

// Nothing of a group is acknowledged, or told to anybody, before it is stored.
func TestGroupThatIsNotStored(t *testing.T) {
	store := newLedger(NewMemory(MemoryOptions{}))
	h := newBench(t, Options{Store: store})
	l := newLife("gw1", 1)
	h.give(t, l.topic(), l.names(1, l.series))
	ctx, cancel := context.WithCancel(t.Context())
	store.fail = func(Change) error {
		if n := h.Held("acme", "gw1", 1, telemetry).Count(); n > 0 || h.Stats().Records > 0 {
			t.Errorf("%d held before they are stored", n)
		}
		cancel()
		return errors.New("disk is full")
	}
	msg := func(r edgeagent.Range) Delivery { return Delivery{Topic: l.topic(), Payload: l.records(telemetry, r)} }
	if acked := h.together(ctx, msg(rng(1, 10)), msg(rng(5, 20))); len(acked) > 0 {
		t.Errorf("acknowledged %v", acked)
	}
	if len(h.group.parts)+len(h.group.done)+len(h.group.byHome) > 0 {
		t.Error("something is left of the group")
	}
	if len(h.a.devices) > 1 || len(h.Held("acme", "gw1", 1, telemetry)) > 0 {
		t.Error("told of what is not stored")
	}
	store.fail = nil
	if acked := h.together(t.Context(), msg(rng(1, 10)), msg(rng(5, 20)), msg(rng(1, 10))); len(acked) != 3 || store.most != 2 {
		t.Errorf("acknowledged %v, %d cuts in a commit", acked, store.most)
	}
	if s := h.Stats().Devices[0].Epochs[0].Streams[0]; s.Held != 20 || s.Resent != 6+10 {
		t.Errorf("%+v, want 20 held and 16 resent", s)
	}
}

// Whatever comes together, with a store that refuses, that others change and that fails: in
// the end a hub holds the same as one that is given the messages one by one.
func TestGroupsModel(t *testing.T) {
	for name, sinks := range map[string]bool{"records in the store": false, "records in a sink": true} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { testGroups(rt, t, sinks) })
		})
	}
}

func testGroups(rt *rapid.T, t *testing.T, sinks bool) {
	const n = 60
	lives := []*life{newLife("gw1", 1), newLife("gw1", 2), newLife("gw2", 1)}
	m := NewMemory(MemoryOptions{OnCommit: func(c Cut, _ time.Time) {
		for _, l := range lives {
			if l.device == c.Device && l.epoch == c.Epoch && c.Run != 99 {
				l.check(t, c)
			}
		}
	}})
	refuses := func(c *Cut) bool { // a record that cannot be stored
		return c.Stream == rollup && slices.ContainsFunc(c.Rollups, func(r Rollup) bool { return r.Seq%10 == 3 })
	}
	begin := func(m *Memory) (*bench, *ledger) {
		store := newLedger(m)
		o := Options{Store: store}
		if sinks {
			o.Sink = sinkFunc(func(ctx context.Context, c Cut) error {
				if refuses(&c) {
					return ErrRefused
				}
				return m.Commit(ctx, c)
			})
		}
		store.fail = func(c Change) error {
			if c.Cut != nil && refuses(c.Cut) {
				return ErrRefused
			}
			return nil
		}
		return newBench(t, o), store
	}
	h, store := begin(m)
	calm, _ := begin(NewMemory(MemoryOptions{}))
	refuse := store.fail
	store.fail = func(c Change) error {
		if len(c.Streams) > 0 && rapid.IntRange(0, 9).Draw(rt, "another was here") == 0 {
			s := store.epochs[c.EpochID]
			if s == nil {
				return refuse(c)
			}
			if x, ok := s.Streams[c.Streams[0].Stream]; ok {
				x.Version++
				s.Streams[c.Streams[0].Stream] = x
			}
		}
		return refuse(c)
	}
	for range rapid.IntRange(1, 8).Draw(rt, "groups") {
		var list []Delivery
		for range rapid.IntRange(1, 12).Draw(rt, "messages") {
			l := lives[rapid.IntRange(0, len(lives)-1).Draw(rt, "epoch")]
			from := rapid.IntRange(1, n).Draw(rt, "from")
			r := rng(edgeagent.Seq(from), edgeagent.Seq(rapid.IntRange(from, min(n, from+20)).Draw(rt, "to")))
			var msg []byte
			for range rapid.IntRange(1, 2).Draw(rt, "blocks") {
				switch rapid.IntRange(0, 8).Draw(rt, "kind") {
				case 0, 1:
					msg = append(msg, l.names(1, rapid.IntRange(1, l.series).Draw(rt, "names"))...)
				case 2:
					msg = append(msg, l.records(alarm, r)...)
				case 3:
					msg = append(msg, l.records(rollup, r)...)
				case 4:
					msg = l.block(msg, alarm, r, 99) // perhaps a conflict
				case 5:
					marks := said(telemetry, 1, n+1, block.Gap{From: r.From, To: r.To, Reason: "evicted", AtMost: r.Len()})
					marks.Epoch = l.epoch
					msg = append(msg, l.marks(t, marks)...)
				default:
					msg = append(msg, l.records(telemetry, r)...)
				}
			}
			list = append(list, Delivery{Topic: l.topic(), Payload: msg})
		}
		for _, d := range list {
			calm.give(t, d.Topic, d.Payload)
		}
		if acked := h.together(t.Context(), list...); len(acked) != len(list) {
			rt.Fatalf("acknowledged %v of %d", acked, len(list))
		}
	}
	for _, l := range lives {
		for _, s := range edgeagent.Streams() {
			want, got := calm.Held("acme", l.device, l.epoch, s), h.Held("acme", l.device, l.epoch, s)
			if diff := cmp.Diff(want, got); diff != "" {
				rt.Fatalf("%s %s %s held (-one by one +together):\n%s", l.device, l.epoch, s, diff)
			}
		}
	}
	for _, d := range h.Stats().Devices {
		for _, e := range d.Epochs {
			for _, s := range e.Streams {
				if have := m.Ranges("acme", d.Device, e.Epoch, s.Stream).Count(); have != s.Held {
					rt.Fatalf("%s %s %s: %d stored, %d held", d.Device, e.Epoch, s.Stream, have, s.Held)
				}
			}
		}
	}
	if diff := cmp.Diff(calm.Gaps(), h.Gaps()); diff != "" {
		rt.Fatalf("gaps (-one by one +together):\n%s", diff)
	}
	if a, b := strings.Join(causesOf(calm), " "), strings.Join(causesOf(h), " "); a != b {
		rt.Fatalf("quarantine\n%s\none by one\n%s", b, a)
	}
	if m.Duplicates() != 0 {
		rt.Fatalf("%d records stored twice", m.Duplicates())
	}
}

func causesOf(b *bench) (out []string) {
	for _, q := range b.Quarantine() {
		out = append(out, fmt.Sprint(q.Device, q.Epoch, q.Cause, q.Stream, q.Range, q.Run))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// What arrives while a commit runs goes into the next one, all of it, and nothing waits for
// anything else when the hub is idle. An input that ends has its messages dealt with.
func TestCommitsWhileOthersArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sizes []int
		gate := make(chan struct{})
		m := NewMemory(MemoryOptions{})
		store := gated{newLedger(m), func(changes []Change) {
			<-gate
			mu.Lock()
			defer mu.Unlock()
			sizes = append(sizes, len(changes))
		}}
		h, err := New(Options{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		f := newFeed()
		stop := running(t, h, f)
		acked := 0
		l := newLife("gw1", 1)
		send := func(s edgeagent.Stream, r edgeagent.Range) {
			f.messages <- Delivery{Topic: l.topic(), Payload: l.records(s, r), Ack: func() { acked++ }}
		}
		send(alarm, rng(1, 2))
		synctest.Wait()
		for i := range edgeagent.Seq(groupMessages + 10) {
			send(alarm, rng(2*i+3, 2*i+4))
		}
		synctest.Wait()
		if st := h.Stats(); acked != 0 || st.Queued != groupMessages {
			t.Errorf("%d acknowledged, %d queued, want 0 and %d", acked, st.Queued, groupMessages)
		}
		for _, want := range []int{1, 1 + groupMessages, 1 + groupMessages + 10} {
			gate <- struct{}{}
			synctest.Wait()
			if acked != want {
				t.Errorf("%d acknowledged, want %d", acked, want)
			}
		}
		send(alarm, rng(5000, 5001)) // idle: at once
		synctest.Wait()
		gate <- struct{}{}
		synctest.Wait()
		stop()
		if diff := cmp.Diff([]int{1, groupMessages, 10, 1}, sizes); diff != "" || acked != groupMessages+12 {
			t.Errorf("cuts of commits (-want +got):\n%s\n%d acknowledged", diff, acked)
		}
	})
}

// gated is a store that is slow.
type gated struct {
	*ledger
	before func([]Change)
}

func (g gated) Commit(ctx context.Context, changes []Change) error {
	g.before(changes)
	return g.ledger.Commit(ctx, changes)
}

// An input that ends by itself has handed over what is dealt with all the same.
func TestInputThatEnds(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	h, err := New(Options{Store: newLedger(m)})
	if err != nil {
		t.Fatal(err)
	}
	l := newLife("gw1", 1)
	acked := 0
	err = h.Run(t.Context(), inputFunc(func(handle func(Delivery)) {
		for i := range edgeagent.Seq(2 * groupMessages) {
			handle(Delivery{Topic: l.topic(), Payload: l.records(alarm, rng(i+1, i+1)), Ack: func() { acked++ }})
		}
	}))
	if err != nil || acked != 2*groupMessages || m.Count() != 2*groupMessages {
		t.Errorf("%v, %d acknowledged, %d stored", err, acked, m.Count())
	}
}

type inputFunc func(handle func(Delivery))

func (f inputFunc) Run(_ context.Context, handle func(Delivery)) error {
	f(handle)
	return nil
}
func (inputFunc) Publish(context.Context, string, []byte) error { return nil }
