package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

const telemetry = edgeagent.StreamTelemetry

func cursorOf(t testing.TB, b *Buffer, name string) *Cursor {
	t.Helper()
	c, err := b.Cursor(name, telemetry)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func counts(batches []edgeagent.Batch) (out []int) {
	for _, b := range batches {
		out = append(out, b.Count)
	}
	return out
}

// flush moves everything from the head log into segments, a block for each border.
func flush(t testing.TB, b *Buffer) {
	t.Helper()
	b.disk.Lock()
	defer b.disk.Unlock()
	if err := b.checkpoint(context.Background(), true); err != nil {
		t.Fatalf("checkpoint: %v", err)
	}
}

func TestSmallBlocksAreMerged(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		t.Run(fmt.Sprintf("sealed %v", sealed), func(t *testing.T) {
			b := open(t, t.TempDir(), options())
			register(t, b, "cloud")
			for i := range 30 {
				mustAppend(t, b, i*10, 10)
				if sealed {
					flush(t, b)
				}
			}
			want := []int{105, 105, 90}
			if sealed { // blocks go whole
				want = []int{100, 100, 100}
			}
			got, batches := drain(t, cursorOf(t, b, "cloud").Live(1), edgeagent.Limit{Records: 105})
			if diff := cmp.Diff(want, counts(batches)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(counted(300), got); diff != "" {
				t.Error(diff)
			}
			_, batches = drain(t, cursorOf(t, b, "cloud").Live(1), edgeagent.Limit{})
			if diff := cmp.Diff([]int{300}, counts(batches)); diff != "" {
				t.Error(diff)
			}
			if h, err := block.Check(batches[0].Encoded); err != nil || h.Batch() != batches[0].BatchHeader {
				t.Errorf("encoded header %+v, batch %+v, %v", h, batches[0].BatchHeader, err)
			}
		})
	}
}

func TestFullBlocksGoVerbatim(t *testing.T) {
	b := open(t, t.TempDir(), options())
	register(t, b, "cloud")
	mustAppend(t, b, 0, 4096)
	mustAppend(t, b, 4096, 4096)
	flush(t, b)
	var first []byte
	sg := b.newest().streams[telemetry].segs[0]
	err := b.contents(sg.path, sg.epoch, sg.stream, func(blk segment.Block) error {
		if blk.First == 1 {
			first = bytes.Clone(blk.Encoded)
		}
		return nil
	}, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	_, batches := drain(t, cursorOf(t, b, "cloud").Live(1), edgeagent.Limit{})
	if diff := cmp.Diff([]int{4096, 4096}, counts(batches)); diff != "" {
		t.Fatal(diff)
	}
	if !bytes.Equal(first, batches[0].Encoded) {
		t.Error("a full block was encoded anew")
	}
	// A batch owns its memory.
	clear(batches[0].Encoded)
	_, again := drain(t, cursorOf(t, b, "cloud").Live(1), edgeagent.Limit{})
	if !bytes.Equal(first, again[0].Encoded) {
		t.Error("a batch shares its memory")
	}
}

func TestLimitOfOneByteStillGivesRecords(t *testing.T) {
	b := open(t, t.TempDir(), options())
	register(t, b, "cloud")
	mustAppend(t, b, 0, 20)
	got, batches := drain(t, cursorOf(t, b, "cloud").Live(1), edgeagent.Limit{Bytes: 1})
	if diff := cmp.Diff(counted(20), got); diff != "" {
		t.Error(diff)
	}
	if len(batches) != 20 {
		t.Errorf("%d batches", len(batches))
	}
}

func TestBatchesStayWithinARun(t *testing.T) {
	dir := t.TempDir()
	var runs []edgeagent.Run
	for i := range 3 {
		b := open(t, dir, options())
		mustAppend(t, b, i*10, 10)
		runs = append(runs, b.RunID())
		closeBuffer(t, b)
	}
	b := open(t, dir, options())
	register(t, b, "cloud")
	_, batches := drain(t, cursorOf(t, b, "cloud").Live(1), edgeagent.Limit{})
	for i, x := range batches {
		if x.Count != 10 || x.Run != runs[i] {
			t.Errorf("batch %d: %+v, want 10 of run %s", i, x.BatchHeader, runs[i])
		}
	}
}

func TestLiveGoesOnForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, t.TempDir(), options())
		register(t, b, "cloud")
		r := cursorOf(t, b, "cloud").Live(1)
		var seen uint64
		var wg sync.WaitGroup
		got := 0
		wg.Go(func() {
			for got < 500 {
				n, err := b.Wait(t.Context(), seen)
				if err != nil {
					t.Error(err)
					return
				}
				seen = n
				for {
					x, ok, err := r.Next(t.Context(), edgeagent.Limit{Records: 64})
					if err != nil {
						t.Error(err)
						return
					}
					if !ok {
						break
					}
					got += x.Count
				}
			}
		})
		for i := range 50 {
			mustAppend(t, b, i*10, 10)
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		if got != 500 {
			t.Errorf("%d readings", got)
		}
	})
}

func TestLiveFrom(t *testing.T) {
	b := open(t, t.TempDir(), options())
	register(t, b, "cloud")
	mustAppend(t, b, 0, 100) // at 0 s … 99 s
	c := cursorOf(t, b, "cloud")
	ack := func(from, to edgeagent.Seq) {
		if err := b.Ack(t.Context(), "cloud", b.Epoch(), telemetry, []edgeagent.Range{{From: from, To: to}}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(since int64, want edgeagent.Seq) {
		t.Helper()
		if got := c.LiveFrom(since * 1e9); got != want {
			t.Errorf("since %d s: %d, want %d", since, got, want)
		}
	}
	check(0, 1)
	check(50, 51)
	check(100, 101)
	ack(51, 60)
	check(50, 61)
	check(40, 41)
	ack(1, 100)
	check(0, 101)
}

func TestStartNow(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	mustAppend(t, b, 0, 50)
	if err := b.Register(Destination{Name: "new", Start: StartNow}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, b, 50, 5)
	if n := cursorOf(t, b, "new").Unconfirmed(); n != 5 {
		t.Errorf("%d unconfirmed, want what came after", n)
	}
	closeBuffer(t, b)
	b = open(t, dir, options())
	if err := b.Register(Destination{Name: "new", Start: StartOldest}); err != nil {
		t.Fatal(err)
	}
	if n := cursorOf(t, b, "new").Unconfirmed(); n != 5 {
		t.Errorf("%d unconfirmed after a reopen: the place is lost", n)
	}
}

func TestDestinationBounds(t *testing.T) {
	dir := t.TempDir()
	for round := range 7 {
		b := open(t, dir, options())
		for i := range maxDestinations {
			register(t, b, fmt.Sprintf("d%d-%d", round, i))
		}
		err := b.Register(Destination{Name: "one more"})
		if _, ok := errors.AsType[edgeagent.Hinter](err); !ok {
			t.Errorf("a ninth destination: %v", err)
		}
		if n := len(b.dests); n > 2*maxDestinations+maxReleased {
			t.Errorf("%d destinations are remembered", n)
		}
		closeBuffer(t, b)
	}
	b := open(t, dir, options())
	if b.dests["d0-0"] != nil || b.dests["d6-0"] == nil {
		t.Error("the wrong destinations were forgotten")
	}
	for _, name := range []string{"", "a\x00b", string(make([]byte, 100))} {
		if err := b.Register(Destination{Name: name}); err == nil {
			t.Errorf("destination %q was taken", name)
		}
	}
	if err := b.Register(Destination{Name: "x", Start: "later"}); err == nil {
		t.Error("an unknown start was taken")
	}
}

func TestAckRefusesWhatWasNeverAppended(t *testing.T) {
	b := open(t, t.TempDir(), options())
	register(t, b, "cloud")
	mustAppend(t, b, 0, 10)
	bad := map[string]error{
		"beyond":      b.Ack(t.Context(), "cloud", b.Epoch(), telemetry, []edgeagent.Range{{From: 1, To: 5}, {From: 6, To: 11}}),
		"zero":        b.Ack(t.Context(), "cloud", b.Epoch(), telemetry, []edgeagent.Range{{From: 0, To: 5}}),
		"backwards":   b.Ack(t.Context(), "cloud", b.Epoch(), telemetry, []edgeagent.Range{{From: 5, To: 4}}),
		"epoch":       b.Ack(t.Context(), "cloud", b.Epoch()+1, telemetry, []edgeagent.Range{{From: 1, To: 5}}),
		"stream":      b.Ack(t.Context(), "cloud", b.Epoch(), 9, []edgeagent.Range{{From: 1, To: 5}}),
		"destination": b.Ack(t.Context(), "nobody", b.Epoch(), telemetry, []edgeagent.Range{{From: 1, To: 5}}),
	}
	for name, err := range bad {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if n := cursorOf(t, b, "cloud").Unconfirmed(); n != 10 {
		t.Errorf("%d unconfirmed: a refused ack confirmed something", n)
	}
}

func TestBacklogDrainsOldEpochsFirst(t *testing.T) {
	dir := t.TempDir()
	var epochs []edgeagent.Epoch
	for i := range 3 {
		o := options()
		o.Identify = elsewhere(func(id *Identity) { id.Inode = strconv.Itoa(i) })
		b := open(t, dir, o)
		mustAppend(t, b, i*10, 10)
		epochs = append(epochs, b.Epoch())
		closeBuffer(t, b)
	}
	o := options()
	o.Identify = elsewhere(func(id *Identity) { id.Inode = "2" })
	b := open(t, dir, o)
	register(t, b, "cloud")
	var skip edgeagent.Ranges
	skip.Add(edgeagent.Range{From: 3, To: 4})
	r := cursorOf(t, b, "cloud").Backlog(6, map[edgeagent.Epoch]edgeagent.Ranges{epochs[1]: skip})
	type piece struct {
		Epoch       edgeagent.Epoch
		First, Last edgeagent.Seq
	}
	var got []piece
	for {
		x, ok, err := r.Next(t.Context(), edgeagent.Limit{})
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		got = append(got, piece{x.Epoch, x.First, x.Last()})
	}
	want := []piece{{epochs[0], 1, 10}, {epochs[1], 1, 2}, {epochs[1], 5, 10}, {epochs[2], 1, 5}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := cursorOf(t, b, "cloud").Unconfirmed(); n != 30 {
		t.Errorf("%d unconfirmed", n)
	}
}

func TestSeriesBlocksDefineWhatIsUsed(t *testing.T) {
	b := open(t, t.TempDir(), options())
	mustAppend(t, b, 0, 3)
	mustAppend(t, b, 3, 4)
	if blocks, err := b.SeriesBlocks(b.Epoch(), 0, 9, 0); err != nil || len(blocks) != 0 {
		t.Errorf("ids that a power cut would take: %v, %v", blocks, err)
	}
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	var dec block.Decoder
	blocks, err := b.SeriesBlocks(b.Epoch(), 2, 5, 0)
	if err != nil || len(blocks) != 1 || blocks[0].MaxID != 5 {
		t.Fatal(blocks, err)
	}
	device, epoch, list, _, err := dec.Series(blocks[0].Encoded)
	if err != nil || device != "gw-1" || epoch != b.Epoch() {
		t.Errorf("%s, %s, %v", device, epoch, err)
	}
	for i, e := range list {
		if int(e.ID) != i+3 || e.Key != series(i+2).Key() {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
	if blocks, err := b.SeriesBlocks(b.Epoch(), 7, 9, 0); err != nil || len(blocks) != 0 {
		t.Errorf("ids that were never given: %v, %v", blocks, err)
	}
	if _, err := b.SeriesBlocks(b.Epoch(), 0, 7, 80); err == nil {
		t.Error("a definition fits into 80 bytes")
	}
}

// Each segment names all series that its blocks use, so that it can be read alone.
func TestSegmentsStandAlone(t *testing.T) {
	b := open(t, t.TempDir(), options())
	for i := range 5 {
		mustAppend(t, b, i*3, 3)
		flush(t, b)
		if i == 2 {
			b.disk.Lock()
			b.seal(b.newest().streams[telemetry])
			b.disk.Unlock()
		}
	}
	for _, sg := range b.newest().streams[telemetry].segs {
		f, err := b.inspect(sg.path, sg.epoch, sg.stream, 0)
		if err != nil {
			t.Fatal(err)
		}
		for s := f.ranges[0].From; s <= f.last; s++ {
			id := b.newest().series.ids[series(int(s-1)%7)]
			if !f.named.has(id) {
				t.Errorf("segment of %d does not name series %d of reading %d", sg.first, id, s)
			}
		}
	}
}
