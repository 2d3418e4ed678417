package buffer

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
)

// here is the identity of tests: always the same machine, boot and directory.
func here(dir string) (Identity, error) {
	return Identity{Machine: "m1", Hardware: "h1", Inode: "1", FS: "f1", Lock: "l1", Boot: "b1", Mount: "7"}, nil
}

// options are of a machine of their own. With BUFFER_TEST_KEY, the name of a key
// file, nearly all tests run on encrypted buffers: see the target test-encrypted.
func options() Options {
	return Options{
		Config: Config{MaxBytes: 16 << 20, Encryption: testKey()}, Device: "gw-1", Clock: clock.Go(), Identify: here,
		space: func(string) (uint64, uint64, bool) { return 0, 0, false },
	}
}

func testKey() Encryption { return Encryption{KeyFile: os.Getenv("BUFFER_TEST_KEY")} }

// plain are options without a key.
func plain() Options {
	o := options()
	o.Encryption = Encryption{}
	return o
}

// needsPlain skips a test that tells plain blocks by their bytes.
func needsPlain(t *testing.T) {
	t.Helper()
	if testKey() != (Encryption{}) {
		t.Skip("on plain buffers only")
	}
}

func open(t testing.TB, dir string, o Options) *Buffer {
	t.Helper()
	b, _ := openReport(t, dir, o)
	return b
}

func openReport(t testing.TB, dir string, o Options) (*Buffer, Report) {
	t.Helper()
	b, r, err := Open(context.Background(), dir, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { b.crash() })
	return b, r
}

// crash ends a buffer as kill -9 would: nothing is written any more.
func (b *Buffer) crash() {
	b.mu.Lock()
	closed := b.closed
	b.closed = true
	b.mu.Unlock()
	if !closed {
		b.head = nil // which would write how much it has synced
		_ = b.release(context.Background())
	}
}

func closeBuffer(t testing.TB, b *Buffer) {
	t.Helper()
	if err := b.Close(context.Background()); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func series(i int) edgeagent.Series {
	return edgeagent.NewSeries(edgeagent.SeriesKey{
		Sensor: fmt.Sprintf("plant/bme280-%02d", i), Metric: "temperature", Unit: "Cel", Resolution: edgeagent.DefaultResolution,
	})
}

// taken says that the agent took the times itself.
func taken(rs []edgeagent.Reading) []edgeagent.Reading {
	for i := range rs {
		rs[i].Recorded = false
	}
	return rs
}

// readings makes n readings whose values count up from first.
func readings(first, n int) []edgeagent.Reading {
	out := make([]edgeagent.Reading, n)
	for i := range out {
		out[i] = edgeagent.Reading{
			Series: series((first + i) % 7), Value: float64(first + i), Recorded: true,
			At: edgeagent.Instant{Wall: int64(first+i) * 1e9},
		}
	}
	return out
}

func mustAppend(t testing.TB, b *Buffer, first, n int) edgeagent.Seq {
	t.Helper()
	last, err := b.Append(context.Background(), readings(first, n))
	if err != nil {
		t.Fatalf("append %d from %d: %v", n, first, err)
	}
	return last
}

func register(t testing.TB, b *Buffer, name string) {
	t.Helper()
	if err := b.Register(Destination{Name: name}); err != nil {
		t.Fatal(err)
	}
}

// drain reads a reader to its end and returns the values by number, and the
// batches.
func drain(t testing.TB, r *Reader, limit edgeagent.Limit) (map[edgeagent.Seq]float64, []edgeagent.Batch) {
	t.Helper()
	got := map[edgeagent.Seq]float64{}
	var batches []edgeagent.Batch
	for {
		b, ok, err := r.Next(context.Background(), limit)
		if err != nil {
			t.Fatalf("next: %v", err)
		}
		if !ok {
			return got, batches
		}
		batches = append(batches, b)
		rs, err := b.Readings(nil)
		if err != nil {
			t.Fatalf("readings of %v: %v", b.BatchHeader, err)
		}
		if len(rs) != b.Count {
			t.Fatalf("batch of %d holds %d", b.Count, len(rs))
		}
		for i, r := range rs {
			n := b.First + edgeagent.Seq(i)
			if _, twice := got[n]; twice {
				t.Fatalf("number %d came twice", n)
			}
			got[n] = r.Value
		}
	}
}

func readAll(t testing.TB, b *Buffer, e edgeagent.Epoch) map[edgeagent.Seq]float64 {
	t.Helper()
	r := &Reader{b: b, stream: edgeagent.StreamTelemetry, parts: []part{{epoch: e, pos: 1}}}
	got, _ := drain(t, r, edgeagent.Limit{})
	return got
}

// counted is what n appended readings are by number.
func counted(n int) map[edgeagent.Seq]float64 {
	m := map[edgeagent.Seq]float64{}
	for i := range n {
		m[edgeagent.Seq(i+1)] = float64(i)
	}
	return m
}

func diskBytes(t testing.TB, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			n += allocated(fi)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func copyDir(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func TestAppendAndReadBack(t *testing.T) {
	b := open(t, t.TempDir(), options())
	if last := mustAppend(t, b, 0, 10); last != 10 {
		t.Errorf("last = %d, want 10", last)
	}
	if last := mustAppend(t, b, 10, 9000); last != 9010 {
		t.Errorf("last = %d, want 9010", last)
	}
	if diff := cmp.Diff(counted(9010), readAll(t, b, b.Epoch())); diff != "" {
		t.Error(diff)
	}
}

func TestReopen(t *testing.T) {
	ends := map[string]func(testing.TB, *Buffer){
		"closed": closeBuffer,
		"killed": func(_ testing.TB, b *Buffer) { b.crash() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir, options())
			epoch := b.Epoch()
			mustAppend(t, b, 0, 100)
			end(t, b)
			b, report := openReport(t, dir, options())
			if b.Epoch() != epoch || !report.Clean || len(report.Gaps) != 0 || report.NewEpoch != "" {
				t.Errorf("epoch %s, was %s; report %+v", b.Epoch(), epoch, report)
			}
			mustAppend(t, b, 100, 50)
			if diff := cmp.Diff(counted(150), readAll(t, b, epoch)); diff != "" {
				t.Error(diff)
			}
			run, ok := b.RunAt(epoch, edgeagent.StreamTelemetry, 101)
			if !ok || run != b.RunID() {
				t.Errorf("run of 101 is %s, %v, want %s", run, ok, b.RunID())
			}
			if run, ok := b.RunAt(epoch, edgeagent.StreamTelemetry, 100); !ok || run == b.RunID() {
				t.Errorf("run of 100 is %s, %v, want the run before", run, ok)
			}
		})
	}
}

func TestValuesAreKeptBitByBit(t *testing.T) {
	b := open(t, t.TempDir(), options())
	bits := []uint64{0, 1 << 63, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000001, 0x7ff000000000dead, 1, math.MaxUint64}
	var rs []edgeagent.Reading
	for i, v := range bits {
		rs = append(rs, edgeagent.Reading{
			Series: series(1), Value: math.Float64frombits(v), Quality: edgeagent.Quality(i % 4),
			At: edgeagent.Instant{Wall: int64(i) * 1e6}, Recorded: true,
		})
	}
	if _, err := b.Append(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
	batch, ok, err := b.Read(t.Context(), b.Epoch(), edgeagent.StreamTelemetry, 1, edgeagent.Limit{})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	got, err := batch.Readings(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rs {
		want := rs[i]
		if math.Float64bits(got[i].Value) != bits[i] || got[i].Quality != want.Quality || got[i].At.Wall != want.At.Wall || got[i].Series != want.Series {
			t.Errorf("reading %d: got %v, want %v", i, got[i], want)
		}
	}
}

func TestEvents(t *testing.T) {
	b := open(t, t.TempDir(), options())
	long := string(bytes.Repeat([]byte("x"), edgeagent.MaxEventText))
	want := []edgeagent.Event{
		{At: edgeagent.Instant{Wall: 5e6}, Kind: edgeagent.KindAlarm, Severity: edgeagent.Critical, ID: "r/i/1-2", N: 3, Series: "a/b", Text: long, Attrs: map[string]string{"state": "firing"}},
		{At: edgeagent.Instant{Wall: 6e6}, Kind: "gap", Text: "bad \xff byte"},
	}
	if last, err := b.AppendEvents(t.Context(), edgeagent.StreamAlarm, want); err != nil || last != 2 {
		t.Fatal(last, err)
	}
	batch, ok, err := b.Read(t.Context(), b.Epoch(), edgeagent.StreamAlarm, 1, edgeagent.Limit{})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	got, err := batch.Events(nil)
	if err != nil {
		t.Fatal(err)
	}
	want[1].Text = "bad \uFFFD byte"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := batch.Readings(nil); err == nil {
		t.Error("a batch of events gave readings")
	}
}

func TestWaitCountsAppends(t *testing.T) {
	b := open(t, t.TempDir(), options())
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := b.Wait(ctx, 0); err == nil {
		t.Error("wait returned although nothing was appended")
	}
	mustAppend(t, b, 0, 1)
	n, err := b.Wait(t.Context(), 0)
	if err != nil || n == 0 {
		t.Errorf("wait: %d, %v", n, err)
	}
	closeBuffer(t, b)
	if _, err := b.Wait(t.Context(), n); err == nil {
		t.Error("wait goes on after close")
	}
}
