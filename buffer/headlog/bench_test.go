package headlog

import (
	"errors"
	"strconv"
	"testing"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// benchLog is a log on the machine's own disk that rotates when it is full; the
// time of that does not count.
type benchLog struct {
	b    *testing.B
	log  *Log
	next edgeagent.Seq
	rows []block.Row
	buf  []byte
}

func newBenchLog(b *testing.B, rows int) *benchLog {
	b.Helper()
	r, err := Recover(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	l, err := r.Start(b.Context(), Head{Epoch: testEpoch, Limits: Limits{0, 0, 0, 1 << 53, 0}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close(b.Context()) })
	return &benchLog{b: b, log: l, next: 1, rows: gatewayRows(rows)}
}

func (l *benchLog) append() {
	f := Frame{Kind: Readings, Stream: edgeagent.StreamTelemetry, First: l.next, Count: uint32(len(l.rows))}
	l.buf, f.Base, f.Resolution = AppendRows(l.buf[:0], l.rows, edgeagent.DefaultResolution)
	f.Payload = l.buf
	err := l.log.Append(f)
	if errors.Is(err, ErrFull) {
		l.b.StopTimer()
		if err = l.log.Rotate(l.b.Context(), nil); err == nil {
			err = l.log.Release(l.b.Context())
		}
		if err == nil {
			err = l.log.Append(f)
		}
		l.b.StartTimer()
	}
	if err != nil {
		l.b.Fatal(err)
	}
	l.next += edgeagent.Seq(len(l.rows))
	if len(l.rows) == 1 { // what comes one by one has times of its own
		l.rows[0].Time += 10_000_000
	}
}

// BenchmarkAppend is what intake pays: encoding rows and one write into the page
// cache.
func BenchmarkAppend(b *testing.B) {
	for _, rows := range []int{1, 10, 100} {
		b.Run(strconv.Itoa(rows), func(b *testing.B) {
			l := newBenchLog(b, rows)
			b.ReportAllocs()
			for b.Loop() {
				l.append()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(l.next-1), "ns/reading")
			b.ReportMetric(float64(l.log.Stats().Bytes)/float64(l.next-1), "B/reading")
		})
	}
}

// BenchmarkSecond is a second of 100 readings a second, one by one, and its
// sync. The bytes are whole pages, as the medium is given them.
func BenchmarkSecond(b *testing.B) {
	l := newBenchLog(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		for range 100 {
			l.append()
		}
		if err := l.log.Sync(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	st := l.log.Stats()
	b.ReportMetric(float64(st.Bytes+st.Padding)/float64(l.next-1), "disk-B/reading")
	b.ReportMetric(1000*float64(st.Syncs)/float64(l.next-1), "syncs/1000readings")
}

// BenchmarkRecover reads two full files.
func BenchmarkRecover(b *testing.B) {
	dir := b.TempDir()
	r, err := Recover(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	l, err := r.Start(b.Context(), Head{Epoch: testEpoch, Limits: Limits{0, 0, 0, 1 << 53, 0}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	rows := gatewayRows(10)
	f := Frame{Kind: Readings, Stream: edgeagent.StreamTelemetry, First: 1, Count: 10}
	f.Payload, f.Base, f.Resolution = AppendRows(nil, rows, edgeagent.DefaultResolution)
	for rotations := 0; rotations < 2; {
		err := l.Append(f)
		f.First += 10
		if errors.Is(err, ErrFull) {
			if rotations++; rotations < 2 {
				err = l.Rotate(b.Context(), nil)
			} else {
				err = nil
			}
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	frames := 0
	b.ReportAllocs()
	for b.Loop() {
		r, err := Recover(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		frames = 0
		for range r.Frames() {
			frames++
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
	if frames < 20_000 {
		b.Fatalf("%d frames", frames)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(frames), "ns/frame")
}

// TestAppendAllocatesNothing in steady state.
func TestAppendAllocatesNothing(t *testing.T) {
	r, err := Recover(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := r.Start(t.Context(), Head{Epoch: testEpoch, Limits: Limits{0, 0, 0, 1 << 53, 0}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	rows := gatewayRows(100)
	var buf []byte
	f := Frame{Kind: Readings, Stream: edgeagent.StreamTelemetry, First: 1, Count: 100}
	n := testing.AllocsPerRun(1000, func() {
		buf, f.Base, f.Resolution = AppendRows(buf[:0], rows, edgeagent.DefaultResolution)
		f.Payload = buf
		if err := l.Append(f); err != nil {
			t.Fatal(err)
		}
		f.First += 100
	})
	if n > 0 {
		t.Errorf("%v allocations per append", n)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
