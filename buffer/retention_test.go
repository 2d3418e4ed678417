package buffer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
)

func TestDecide(t *testing.T) {
	const tel, roll, ev, al = edgeagent.StreamTelemetry, edgeagent.StreamRollup, edgeagent.StreamEvent, edgeagent.StreamAlarm
	over, disk := shortage{budget: 1}, shortage{disk: 1}
	tests := map[string]struct {
		policy Policy
		short  shortage
		list   []candidate
		want   action
		which  int
	}{
		"there is room":                        {DropOldest, shortage{-5, -5}, []candidate{{stream: tel, confirmed: true}}, enough, -1},
		"nothing there":                        {DropOldest, over, nil, refuse, -1},
		"copies of damaged files first":        {DropOldest, over, []candidate{{stream: tel, confirmed: true}, {quarantine: "b"}, {quarantine: "a"}}, discard, 2},
		"confirmed before unconfirmed":         {DropOldest, over, []candidate{{stream: tel, first: 1}, {stream: al, first: 9, confirmed: true}}, discard, 1},
		"confirmed: oldest by time":            {DropOldest, over, []candidate{{stream: tel, confirmed: true, maxTime: 9}, {stream: ev, confirmed: true, maxTime: 5}}, discard, 1},
		"open only when nothing else":          {DropOldest, over, []candidate{{stream: tel, confirmed: true, open: true}, {stream: al, confirmed: true, maxTime: 99}}, discard, 1},
		"readings before events":               {DropOldest, over, []candidate{{stream: ev, first: 1, bytes: 5}, {stream: tel, first: 7}}, discard, 1},
		"readings before rollups":              {DropOldest, over, []candidate{{stream: roll, first: 1}, {stream: tel, first: 7}}, discard, 1},
		"rollups before open readings":         {DropOldest, over, []candidate{{stream: tel, first: 7, open: true}, {stream: roll, first: 1}}, discard, 1},
		"older epoch first":                    {DropOldest, over, []candidate{{stream: tel, epoch: 1, first: 1}, {stream: tel, epoch: 0, first: 100}}, discard, 1},
		"oldest number first":                  {DropOldest, over, []candidate{{stream: tel, first: 8}, {stream: tel, first: 4}}, discard, 1},
		"too many events before readings":      {DropOldest, over, []candidate{{stream: tel, first: 1}, {stream: ev, first: 2, bytes: 11}}, discard, 1},
		"but not those still written to":       {DropOldest, over, []candidate{{stream: tel, first: 1}, {stream: ev, first: 2, bytes: 11, open: true}}, discard, 0},
		"open readings before any event":       {DropOldest, over, []candidate{{stream: tel, first: 1, open: true}, {stream: ev, first: 2, bytes: 5}}, discard, 0},
		"open rollups before any event":        {DropOldest, over, []candidate{{stream: roll, first: 1, open: true}, {stream: ev, first: 2, bytes: 5}}, discard, 0},
		"alarms last":                          {DropOldest, over, []candidate{{stream: al, first: 1, bytes: 5}, {stream: ev, first: 2, bytes: 5, open: true}}, discard, 1},
		"confirmed does not count in quota":    {DropOldest, over, []candidate{{stream: tel, first: 1}, {stream: ev, bytes: 5}, {stream: ev, bytes: 9, confirmed: true, open: true}}, discard, 2},
		"readings become rollups":              {DownsampleOldest, over, []candidate{{stream: tel, first: 9}, {stream: tel, first: 1}}, thin, 1},
		"confirmed readings do not":            {DownsampleOldest, over, []candidate{{stream: tel, first: 9}, {stream: tel, first: 20, confirmed: true}}, discard, 1},
		"nor those of a closed epoch":          {DownsampleOldest, over, []candidate{{stream: tel, first: 9, closed: true}}, discard, 0},
		"rollups go":                           {DownsampleOldest, over, []candidate{{stream: roll}, {stream: ev}}, discard, 0},
		"a storm of events before thinning":    {DownsampleOldest, over, []candidate{{stream: tel}, {stream: ev, bytes: 11}}, discard, 1},
		"drop-newest gives nothing up":         {DropNewest, over, []candidate{{stream: tel}, {stream: ev, bytes: 99}, {stream: al, bytes: 99}}, refuse, -1},
		"drop-newest lets go of the confirmed": {DropNewest, over, []candidate{{stream: tel}, {stream: ev, confirmed: true}}, discard, 1},
		"block gives nothing up":               {Block, over, []candidate{{stream: tel}}, refuse, -1},
		"a disk that others fill":              {DownsampleOldest, disk, []candidate{{stream: tel}, {stream: ev}}, refuse, -1},
		"such a disk: the confirmed goes":      {DownsampleOldest, disk, []candidate{{stream: tel}, {stream: ev, confirmed: true, open: true}}, discard, 1},
		"both":                                 {DownsampleOldest, shortage{1, 1}, []candidate{{stream: tel}}, thin, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got, i := decide(tt.policy, tt.list, tt.short, 10); got != tt.want || i != tt.which {
				t.Errorf("decided %d on %d, want %d on %d", got, i, tt.want, tt.which)
			}
		})
	}
}

func TestHeld(t *testing.T) {
	const tel, ev, al = edgeagent.StreamTelemetry, edgeagent.StreamEvent, edgeagent.StreamAlarm
	list := []candidate{{stream: tel, bytes: 500}, {stream: al, bytes: 30}, {stream: al, bytes: 99, confirmed: true}, {stream: ev, bytes: 120}}
	for _, tt := range []struct {
		policy Policy
		stream edgeagent.Stream
		want   int64
	}{
		{DropOldest, tel, 0}, {DownsampleOldest, tel, 0}, {DropNewest, tel, 70}, {Block, tel, 70}, {DropNewest, ev, 70}, {DropNewest, al, 0},
	} {
		if got := held(tt.policy, list, tt.stream, 100); got != tt.want {
			t.Errorf("%s, %s: %d held, want %d", tt.policy, tt.stream, got, tt.want)
		}
	}
	if got := held(DropNewest, nil, tel, 100); got != 200 {
		t.Errorf("%d held of an empty buffer, want 200", got)
	}
}

// appendUntilFull appends noise until the buffer refuses it.
func appendUntilFull(t *testing.T, b *Buffer) (records int) {
	t.Helper()
	for i := 0; ; i += 4000 {
		_, err := b.Append(t.Context(), noise(i, 4000))
		switch {
		case errors.Is(err, ErrFull):
			return i
		case err != nil:
			t.Fatal(err)
		}
	}
}

func TestDropNewest(t *testing.T) {
	t.Parallel()
	o := options()
	o.MaxBytes, o.Policy = 4<<20, DropNewest
	b := open(t, t.TempDir(), o)
	register(t, b, "cloud")
	n := appendUntilFull(t, b)
	if stored, lost, _ := account(t, b, edgeagent.StreamTelemetry); stored != uint64(n) || lost != 0 || n == 0 {
		t.Errorf("%d stored, %d lost of %d", stored, lost, n)
	}
	if h := b.Health(); h.Code != "buffer-full" {
		t.Errorf("health %+v", h)
	}
	// Alarms and events have room of their own.
	for _, s := range []edgeagent.Stream{edgeagent.StreamAlarm, edgeagent.StreamEvent} {
		for i := range 20 {
			if _, err := b.AppendEvents(t.Context(), s, []edgeagent.Event{{Kind: "x", N: uint32(i), Text: "something happened"}}); err != nil {
				t.Fatalf("%s %d: %v", s, i, err)
			}
		}
	}
	if used := diskBytes(t, b.dir); used > int64(o.MaxBytes) {
		t.Errorf("%d bytes on the disk", used)
	}
	// What is confirmed makes room.
	all := []edgeagent.Range{{From: 1, To: edgeagent.Seq(n)}}
	if err := b.Ack(t.Context(), "cloud", b.Epoch(), edgeagent.StreamTelemetry, all); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Append(t.Context(), noise(n, 4000)); err != nil {
		t.Error(err)
	}
}

func TestBlockWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.MaxBytes, o.Policy = 4<<20, Block
		b := open(t, t.TempDir(), o)
		register(t, b, "cloud")
		n := 0
		for {
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			_, err := b.Append(ctx, noise(n, 4000))
			stop()
			if err != nil {
				if !errors.Is(err, ErrFull) || !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("append: %v", err)
				}
				break
			}
			n += 4000
		}
		done := make(chan error, 1)
		go func() {
			_, err := b.Append(t.Context(), noise(n, 4000))
			done <- err
		}()
		time.Sleep(10 * time.Second)
		select {
		case err := <-done:
			t.Fatalf("append did not wait: %v", err)
		default:
		}
		all := []edgeagent.Range{{From: 1, To: edgeagent.Seq(n)}}
		if err := b.Ack(t.Context(), "cloud", b.Epoch(), edgeagent.StreamTelemetry, all); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, lost, _ := account(t, b, edgeagent.StreamTelemetry); lost != 0 {
			t.Errorf("%d lost", lost)
		}
	})
}

// Whatever is appended, confirmed and policed: the budget holds after every step, each
// number is explained, and alarms stay as long as anything below them is there.
func TestRetentionKeepsItsWord(t *testing.T) {
	t.Parallel()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		if run++; run > 12 { // each fills a disk
			return
		}
		o := options()
		o.MaxBytes = 4 << 20
		o.Policy = rapid.SampledFrom([]Policy{DownsampleOldest, DropOldest, DropNewest}).Draw(rt, "policy")
		dir := t.TempDir()
		b, _, err := Open(t.Context(), dir, o)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { b.crash() }()
		if err := b.Register(Destination{Name: "cloud"}); err != nil {
			rt.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		value := 0
		for range rapid.IntRange(30, 120).Draw(rt, "steps") {
			var err error
			switch what := rng.IntN(20); {
			case what < 14:
				n := 1 + rng.IntN(8000)
				_, err = b.Append(t.Context(), noise(value, n))
				value += n
			case what < 16:
				_, err = b.AppendEvents(t.Context(), edgeagent.StreamEvent, storm(rng, 40))
			case what < 17:
				_, err = b.AppendEvents(t.Context(), edgeagent.StreamAlarm, storm(rng, 10))
			case what < 19:
				confirmSome(t, b, rng)
			default:
				if rng.IntN(2) == 0 {
					b.crash()
				} else if err := b.Close(t.Context()); err != nil {
					rt.Fatal(err)
				}
				if b, _, err = Open(t.Context(), dir, o); err == nil {
					err = b.Register(Destination{Name: "cloud"})
				}
			}
			if refused := errors.Is(err, ErrFull) && o.Policy == DropNewest; err != nil && !refused {
				rt.Fatalf("%s: %v", o.Policy, err)
			}
			if used := diskBytes(t, dir); used > int64(o.MaxBytes) || used > b.usedBytes() {
				rt.Fatalf("%s: %d bytes on the disk, %d counted", o.Policy, used, b.usedBytes())
			}
			checkExplained(rt, b)
		}
	})
}

func storm(rng *rand.Rand, n int) []edgeagent.Event {
	evs := make([]edgeagent.Event, 1+rng.IntN(n))
	for i := range evs {
		text := make([]byte, 900)
		for k := range text {
			text[k] = byte(33 + rng.IntN(90))
		}
		evs[i] = edgeagent.Event{Kind: "noise", Text: string(text)}
	}
	return evs
}

func confirmSome(t *testing.T, b *Buffer, rng *rand.Rand) {
	for _, s := range edgeagent.Streams() {
		next := b.newest().streams[s].next
		if next == 1 {
			continue
		}
		from := 1 + edgeagent.Seq(rng.Uint64N(uint64(next-1)))
		r := edgeagent.Range{From: from, To: min(next-1, from+edgeagent.Seq(rng.IntN(30_000)))}
		if err := b.Ack(t.Context(), "cloud", b.Epoch(), s, []edgeagent.Range{r}); err != nil {
			t.Fatal(err)
		}
	}
}

// checkExplained holds that every number is stored, or gone for a reason, and that
// the streams gave way in their order.
func checkExplained(rt *rapid.T, b *Buffer) {
	evicted := map[edgeagent.Stream]uint64{}
	for _, s := range edgeagent.Streams() {
		ch := b.newest().streams[s]
		known := ch.lostRanges()
		for _, r := range ch.released {
			known.Add(r)
		}
		for _, sg := range ch.segs {
			if sg.records > 0 {
				known.Add(sg.rng())
			}
		}
		for i := range ch.tail.spans {
			known.Add(ch.tail.rng(i))
		}
		if missing := known.Missing(edgeagent.Range{From: 1, To: ch.next - 1}); len(missing) > 0 {
			rt.Fatalf("%s: nothing explains %v", s, missing)
		}
		for _, g := range ch.gaps {
			if g.Reason == Evicted {
				evicted[s] += g.AtMost
			}
			if g.Reason == RolledUp && (s != edgeagent.StreamTelemetry || g.Rollup.Len() == 0) {
				rt.Fatalf("gap %+v of %s", g, s)
			}
		}
	}
	if b.o.Policy == DropNewest && len(evicted) > 0 {
		rt.Fatalf("evicted %v", evicted)
	}
	if evicted[edgeagent.StreamAlarm] > 0 {
		rt.Fatal(fmt.Sprint("alarms went, although there were readings: ", evicted))
	}
}
