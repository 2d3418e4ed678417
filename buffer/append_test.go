package buffer

import (
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

// skewed is a clock whose wall time tests move.
type skewed struct {
	mu       sync.Mutex
	began    time.Time
	wall     time.Duration // ahead of Go's
	unsynced bool
}

func newSkewed() *skewed { return &skewed{began: time.Now()} }

func (c *skewed) Wall() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.wall)
}
func (c *skewed) Run() time.Duration { return time.Since(c.began) }
func (c *skewed) Synced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.unsynced
}

func (c *skewed) set(wall time.Duration, unsynced bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.unsynced = wall, unsynced
}

// batchesOf returns what one read per batch gives.
func batchesOf(t *testing.T, b *Buffer) []edgeagent.Batch {
	t.Helper()
	r := &Reader{b: b, stream: edgeagent.StreamTelemetry, parts: []part{{epoch: b.Epoch(), pos: 1}}}
	_, batches := drain(t, r, edgeagent.Limit{})
	return batches
}

func TestBlocksAreCutAtClockSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSkewed()
		o := options()
		o.Clock = c
		b := open(t, t.TempDir(), o)
		c.set(0, true)
		if _, err := b.Append(t.Context(), taken(readings(0, 2))); err != nil {
			t.Fatal(err)
		}
		c.set(0, false)
		mustAppend(t, b, 2, 2) // synced now
		mustAppend(t, b, 4, 2)
		c.set(900*time.Millisecond, false)
		mustAppend(t, b, 6, 2) // no step
		c.set(3*time.Second, false)
		mustAppend(t, b, 8, 2) // a step
		type shape struct {
			Count    int
			Unsynced bool
		}
		var got []shape
		for _, x := range batchesOf(t, b) {
			got = append(got, shape{x.Count, x.Unsynced})
		}
		if diff := cmp.Diff([]shape{{2, true}, {6, false}, {2, false}}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAgentTimesRise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSkewed()
		o := options()
		o.Clock = c
		b := open(t, t.TempDir(), o)
		take := func(wall int64, recorded bool) {
			r := edgeagent.Reading{Series: series(1), At: edgeagent.Instant{Wall: wall}, Recorded: recorded}
			if _, err := b.Append(t.Context(), []edgeagent.Reading{r}); err != nil {
				t.Fatal(err)
			}
		}
		const ms = int64(time.Millisecond)
		take(1000*ms+400_000, false) // rounded down
		take(1000*ms+400_000, false) // pushed up
		take(1000*ms+600_000, true)  // the source's: rounded, kept
		take(400*ms, false)          // back by less than a second: pushed up
		take(-9000*ms, false)        // never pushed by more than a second
		c.set(-time.Hour, false)
		take(400*ms, false) // a step: the guard starts again
		var got []int64
		for _, x := range batchesOf(t, b) {
			rs, err := x.Readings(nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rs {
				got = append(got, r.At.Wall/ms)
			}
		}
		if diff := cmp.Diff([]int64{1000, 1001, 1001, 1002, -8000, 400}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestUnsyncedTimesFollowTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSkewed()
		c.set(0, true)
		o := options()
		o.Clock = c
		b := open(t, t.TempDir(), o)
		start := c.Wall().UnixNano()
		time.Sleep(5 * time.Second)
		c.set(10*time.Hour, true) // stepped, and still not right
		r := edgeagent.Reading{Series: series(1), At: edgeagent.Instant{Wall: c.Wall().UnixNano(), Run: int64(c.Run())}}
		if _, err := b.Append(t.Context(), []edgeagent.Reading{r}); err != nil {
			t.Fatal(err)
		}
		rs, err := batchesOf(t, b)[0].Readings(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Duration(rs[0].At.Wall - start); got != 5*time.Second {
			t.Errorf("%v after the start of the run, want 5s", got)
		}
	})
}

func TestRoundTime(t *testing.T) {
	tests := []struct {
		t    int64
		res  uint8
		want int64
	}{
		{0, 6, 0},
		{499_999, 6, 0},
		{500_000, 6, 1_000_000},
		{-499_999, 6, 0},
		{-500_000, 6, 0},
		{-500_001, 6, -1_000_000},
		{7, 0, 7},
		{math.MaxInt64, 9, 9223372036_000000000},
		{math.MinInt64, 9, -9223372036_000000000},
		{math.MaxInt64, 0, math.MaxInt64},
		{math.MinInt64, 0, math.MinInt64},
	}
	for _, tt := range tests {
		if got := roundTime(tt.t, tt.res); got != tt.want {
			t.Errorf("roundTime(%d, %d) = %d, want %d", tt.t, tt.res, got, tt.want)
		}
	}
}

func TestRefusedRecords(t *testing.T) {
	b := open(t, t.TempDir(), options())
	bad := map[string]edgeagent.Reading{
		"no series":  {},
		"quality":    {Series: series(1), Quality: 4},
		"slash":      {Series: edgeagent.NewSeries(edgeagent.SeriesKey{Metric: "a/b"})},
		"no metric":  {Series: edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "a"})},
		"resolution": {Series: edgeagent.NewSeries(edgeagent.SeriesKey{Metric: "a", Resolution: 10})},
		"not UTF-8":  {Series: edgeagent.NewSeries(edgeagent.SeriesKey{Metric: "a\xff"})},
		"too long":   {Series: edgeagent.NewSeries(edgeagent.SeriesKey{Metric: strings.Repeat("a", maxSeriesKey+1)})},
	}
	for name, r := range bad {
		if _, err := b.Append(t.Context(), append(readings(0, 1), r)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	events := map[string]edgeagent.Event{
		"no kind":  {},
		"severity": {Kind: "x", Severity: 3},
		"text":     {Kind: "x", Text: strings.Repeat("x", edgeagent.MaxEventText+1)},
		"attrs":    {Kind: "x", Attrs: map[string]string{"k": strings.Repeat("x", edgeagent.MaxEventAttrs)}},
		"id":       {Kind: "x", ID: strings.Repeat("x", maxEventName+1)},
	}
	for name, ev := range events {
		if _, err := b.AppendEvents(t.Context(), edgeagent.StreamEvent, []edgeagent.Event{{Kind: "ok"}, ev}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, s := range []edgeagent.Stream{0, edgeagent.StreamTelemetry, edgeagent.StreamRollup, 9} {
		if _, err := b.AppendEvents(t.Context(), s, []edgeagent.Event{{Kind: "x"}}); err == nil {
			t.Errorf("stream %s takes events", s)
		}
	}
	if n := b.Stats(); n.Commits != 0 || n.Series != 0 {
		t.Errorf("a refused call left %d commits, %d series", n.Commits, n.Series)
	}
	if last := mustAppend(t, b, 0, 1); last != 1 {
		t.Errorf("the first record is %d", last)
	}
}

func TestEventsAtTheirLimitsFit(t *testing.T) {
	b := open(t, t.TempDir(), options())
	ev := edgeagent.Event{
		Kind: strings.Repeat("k", maxEventName), ID: strings.Repeat("i", maxEventName), Series: strings.Repeat("s", maxEventName),
		Text: strings.Repeat("é", edgeagent.MaxEventText/2), Attrs: map[string]string{},
	}
	for i := range edgeagent.MaxEventAttrs / 4 {
		ev.Attrs[string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676))] = "v"
	}
	evs := make([]edgeagent.Event, 100)
	for i := range evs {
		evs[i] = ev
	}
	if last, err := b.AppendEvents(t.Context(), edgeagent.StreamEvent, evs); err != nil || last != 100 {
		t.Fatal(last, err)
	}
	r := &Reader{b: b, stream: edgeagent.StreamEvent, parts: []part{{epoch: b.Epoch(), pos: 1}}}
	n := 0
	for {
		batch, ok, err := r.Next(t.Context(), edgeagent.Limit{})
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		got, err := batch.Events(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range got {
			if diff := cmp.Diff(ev, g); diff != "" {
				t.Fatal(diff)
			}
		}
		n += len(got)
	}
	if n != 100 {
		t.Errorf("%d events came back", n)
	}
}

func TestTooManySeries(t *testing.T) {
	b := open(t, t.TempDir(), options())
	var rs []edgeagent.Reading
	for i := range maxSeries {
		rs = append(rs, edgeagent.Reading{Series: series(i), Recorded: true})
	}
	if _, err := b.Append(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
	_, err := b.Append(t.Context(), []edgeagent.Reading{{Series: series(0)}, {Series: series(maxSeries)}})
	var h edgeagent.Hinter
	if !errors.As(err, &h) || !strings.Contains(h.Hint(), "tag") {
		t.Errorf("the 10,001st series: %v", err)
	}
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	blocks, err := b.SeriesBlocks(b.Epoch(), 0, math.MaxUint32, 2000)
	if err != nil {
		t.Fatal(err)
	}
	next := uint32(0)
	for _, x := range blocks {
		if len(x.Encoded) > 2000 || x.MaxID <= next {
			t.Fatalf("block of %d bytes up to id %d after %d", len(x.Encoded), x.MaxID, next)
		}
		next = x.MaxID
	}
	if next != maxSeries {
		t.Errorf("series end at %d", next)
	}
}

// TestInvalidRecords: what no buffer will ever take is told apart from what it
// cannot take now, and nothing of the call is stored.
func TestInvalidRecords(t *testing.T) {
	b := open(t, t.TempDir(), options())
	good := edgeagent.Event{Kind: "test", Text: "fits"}
	for name, bad := range map[string]edgeagent.Event{
		"no kind":       {},
		"bad severity":  {Kind: "test", Severity: 9},
		"text too long": {Kind: "test", Text: strings.Repeat("x", edgeagent.MaxEventText+1)},
		"attributes":    {Kind: "test", Attrs: map[string]string{"a": strings.Repeat("x", edgeagent.MaxEventAttrs)}},
		"name too long": {Kind: "test", ID: strings.Repeat("x", 10_000)},
	} {
		if _, err := b.AppendEvents(t.Context(), edgeagent.StreamAlarm, []edgeagent.Event{good, bad}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.Append(t.Context(), []edgeagent.Reading{{}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a reading without a series: %v", err)
	}
	if s := b.Stats().Streams[edgeagent.StreamAlarm]; s.Appended != 0 {
		t.Errorf("%d records of refused calls were stored", s.Appended)
	}
}

// TestReadingsLeaveRoomForEvents: a head file that is full of readings which no
// segment takes has room for events, whatever the last refused call left.
func TestReadingsLeaveRoomForEvents(t *testing.T) {
	o := options()
	o.MaxBytes, o.Policy = 4<<20, DropNewest
	b := open(t, t.TempDir(), o)
	register(t, b, "cloud")
	for _, n := range []int{4000, 100, 1} { // to the last reading that fits
		for i := 0; ; i++ {
			if _, err := b.Append(t.Context(), noise(i*n, n)); errors.Is(err, ErrFull) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 300 { // more than fit into the head file: they have segments of their own
		s := []edgeagent.Stream{edgeagent.StreamEvent, edgeagent.StreamAlarm}[i%2]
		if _, err := b.AppendEvents(t.Context(), s, []edgeagent.Event{{Kind: "x", N: uint32(i), Text: "something happened"}}); err != nil {
			t.Fatalf("%s %d: %v", s, i, err)
		}
	}
}
