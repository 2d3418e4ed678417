package buffer

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
)

// gateway makes rounds of n readings as a gateway's sensors give them: two
// decimals, a random walk, one sample of each sensor a second.
type gateway struct {
	rnd    *rand.Rand
	series []edgeagent.Series
	value  []float64
	at     int64
}

func newGateway(n int) *gateway {
	g := &gateway{rnd: rand.New(rand.NewPCG(1, 2)), at: 1_700_000_000e9}
	for i := range n {
		g.series = append(g.series, series(i))
		g.value = append(g.value, 20)
	}
	return g
}

func (g *gateway) round(dst []edgeagent.Reading) []edgeagent.Reading {
	g.at += int64(time.Second)
	for i, s := range g.series {
		g.value[i] += float64(g.rnd.IntN(11)-5) / 100
		dst = append(dst, edgeagent.Reading{Series: s, Value: float64(int(g.value[i]*100)) / 100, At: edgeagent.Instant{Wall: g.at}})
	}
	return dst
}

func benchOpen(b *testing.B) *Buffer {
	o := options()
	o.MaxBytes = 256 << 20
	return open(b, b.TempDir(), o)
}

// BenchmarkAppend is one appender that waits for the disk every 100 readings.
func BenchmarkAppend(b *testing.B) {
	buf, g := benchOpen(b), newGateway(100)
	var rs []edgeagent.Reading
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		rs = g.round(rs[:0])
		if _, err := buf.Append(context.Background(), rs); err != nil {
			b.Fatal(err)
		}
		n += len(rs)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "readings/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/reading")
	st := buf.Stats()
	b.ReportMetric(float64(st.Streams[telemetry].Bytes)/float64(n), "disk-B/reading")
	b.ReportMetric(float64(st.Syncs)/float64(n)*1000, "syncs/1000-readings")
}

// BenchmarkAppendBeside is Append alone: Run does the rest.
func BenchmarkAppendBeside(b *testing.B) {
	buf, g := benchOpen(b), newGateway(100)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = buf.Run(ctx) })
	defer func() { stop(); wg.Wait() }()
	rs := g.round(nil)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if _, err := buf.Append(context.Background(), rs); err != nil {
			b.Fatal(err)
		}
		n += len(rs)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/reading")
	b.ReportMetric(float64(buf.Stats().Waits), "waits")
}

// BenchmarkAppendParallel is eight appenders that share commits.
func BenchmarkAppendParallel(b *testing.B) {
	o := options()
	o.MaxBytes = 256 << 20
	buf := open(b, b.TempDir(), o)
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		g := newGateway(100)
		var rs []edgeagent.Reading
		for pb.Next() {
			rs = g.round(rs[:0])
			if _, err := buf.Append(context.Background(), rs); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "readings/s")
}

// BenchmarkDrain reads a backlog from the disk, of full blocks or of small ones
// that are merged on the way; decoded, as text formats want it.
func BenchmarkDrain(b *testing.B) {
	for _, tc := range []struct {
		name  string
		size  int
		limit edgeagent.Limit
	}{
		{"full-blocks", 4096, edgeagent.Limit{}},
		{"blocks-of-100", 100, edgeagent.Limit{}},
		{"full-blocks-decoded", 4096, edgeagent.Limit{Decoded: true}},
		{"blocks-of-100-decoded", 100, edgeagent.Limit{Decoded: true}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			buf, g := benchOpen(b), newGateway(100)
			if err := buf.Register(Destination{Name: "cloud"}); err != nil {
				b.Fatal(err)
			}
			const total = 409_600
			var rs []edgeagent.Reading
			for range total / 100 {
				if rs = g.round(rs); len(rs) < tc.size {
					continue
				}
				if _, err := buf.Append(context.Background(), rs); err != nil {
					b.Fatal(err)
				}
				rs = rs[:0]
			}
			flush(b, buf)
			c, err := buf.Cursor("cloud", telemetry)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			n, bytes := 0, 0
			var list []edgeagent.Reading
			for b.Loop() {
				r := c.Live(1)
				for {
					x, ok, err := r.Next(context.Background(), tc.limit)
					if err != nil {
						b.Fatal(err)
					}
					if !ok {
						break
					}
					n, bytes = n+x.Count, bytes+len(x.Encoded)
					if tc.limit.Decoded {
						if list, err = x.Readings(list[:0]); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "readings/s")
			if bytes > 0 {
				b.ReportMetric(float64(bytes)/float64(n), "B/reading")
			}
		})
	}
}

// BenchmarkOpen is the start of the agent with a million readings stored.
func BenchmarkOpen(b *testing.B) {
	o := options()
	o.MaxBytes = 256 << 20
	dir := b.TempDir()
	buf, g := open(b, dir, o), newGateway(100)
	var rs []edgeagent.Reading
	for range 10_000 {
		if rs = g.round(rs); len(rs) == 5000 {
			if _, err := buf.Append(context.Background(), rs); err != nil {
				b.Fatal(err)
			}
			rs = rs[:0]
		}
	}
	for _, clean := range []bool{true, false} {
		name := "killed"
		if clean {
			name = "clean"
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if clean {
					closeBuffer(b, buf)
				} else {
					buf.crash()
				}
				buf = open(b, dir, o)
			}
		})
	}
}
