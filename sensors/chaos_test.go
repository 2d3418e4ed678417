package sensors_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sensors"
)

// chaotic is a source that does whatever comes to its mind.
type chaotic struct {
	*fake
	rnd     *rand.Rand
	release <-chan struct{}
	closed  *int
}

func (c *chaotic) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	for range c.rnd.IntN(4) {
		dst = c.reading(dst, c.rnd.Float64())
	}
	switch c.rnd.IntN(12) {
	case 0:
		return dst, errors.New("bad channel")
	case 1:
		panic("chaos")
	case 2:
		<-ctx.Done()
		return dst, ctx.Err()
	case 3:
		time.Sleep(time.Duration(c.rnd.IntN(5000)) * time.Millisecond)
	case 4:
		return c.reading(dst, math.NaN()), nil
	case 5:
		return nil, errors.New("nothing")
	case 6:
		if c.rnd.IntN(20) == 0 {
			<-c.release
		}
	case 7:
		if c.rnd.IntN(50) == 0 {
			return dst, sensors.ErrEnd
		}
	}
	return dst, nil
}

func (c *chaotic) Close() error { *c.closed++; return nil }

func (c *chaotic) Next() time.Duration { return time.Duration(c.rnd.IntN(100)) * time.Millisecond }

// unpaced hides Next.
type unpaced struct{ sensors.Source }

func TestWhateverSourcesDoTakenIsPut(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			c, rnd := clock.Go(), rand.New(rand.NewPCG(seed, 1))
			release := make(chan struct{})
			var mu sync.Mutex
			returned, late, slow := false, false, rand.New(rand.NewPCG(seed, 9))
			k := &sink{put: func(context.Context, []edgeagent.Reading) error {
				mu.Lock()
				d := time.Duration(slow.IntN(1000)) * time.Millisecond
				mu.Unlock()
				time.Sleep(d)
				mu.Lock()
				defer mu.Unlock()
				late = late || returned
				return nil
			}}
			var specs []sensors.Spec
			opened, closed := make([]int, 5), make([]int, 5)
			for i := range 5 {
				src := &chaotic{fake: &fake{}, rnd: rand.New(rand.NewPCG(seed, uint64(i)+2)), release: release, closed: &closed[i]}
				spec := src.spec(string(rune('a'+i)), time.Duration(10+rnd.IntN(1000))*time.Millisecond, c)
				spec.Open = func(context.Context) (sensors.Source, error) {
					switch src.rnd.IntN(6) {
					case 0:
						return nil, errors.New("no bus")
					case 1:
						panic("open")
					}
					opened[i]++
					if i%2 == 0 {
						return unpaced{src}, nil
					}
					return src, nil
				}
				specs = append(specs, spec)
			}
			var stopped time.Time
			s := bench(t, k, sensors.Options{Clock: c}, specs, func(*sensors.Scheduler) {
				time.Sleep(time.Duration(rnd.IntN(120_000)) * time.Millisecond)
				stopped = time.Now()
			})
			mu.Lock()
			returned = true
			mu.Unlock()
			if took := time.Since(stopped); took > 6*time.Second {
				t.Errorf("seed %d: Run took %v to return", seed, took)
			}
			close(release)
			time.Sleep(time.Minute)
			synctest.Wait()
			if late {
				t.Errorf("seed %d: a Put came after Run", seed)
			}
			var readings uint64
			for i, st := range s.Stats() {
				readings += st.Readings
				if opened[i] != closed[i] {
					t.Errorf("seed %d: source %d was opened %d times and closed %d times", seed, i, opened[i], closed[i])
				}
			}
			if s.Taken() != uint64(len(k.got)) || readings != s.Taken() {
				t.Errorf("seed %d: taken %d, by source %d, put %d", seed, s.Taken(), readings, len(k.got))
			}
		})
	}
}

// eager is a source that always has a reading.
type eager struct{ *fake }

func (e eager) Next() time.Duration { return 0 }

func (e eager) Sample(_ context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	return append(dst, edgeagent.Reading{Series: series, Value: 1}), nil
}

var series = edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "s", Metric: "v"})

// tally is a sink that ends the run after n puts.
type tally struct {
	n    int
	stop func()
}

func (k *tally) Put(context.Context, []edgeagent.Reading) error {
	if k.n--; k.n == 0 {
		k.stop()
	}
	return nil
}

func BenchmarkScheduler(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	src := eager{&fake{}}
	spec := src.spec("s", time.Second, clock.Go())
	spec.Open = func(context.Context) (sensors.Source, error) { return src, nil }
	s := sensors.NewScheduler([]sensors.Spec{spec}, &tally{b.N, cancel}, sensors.Options{})
	b.ReportAllocs()
	b.ResetTimer() // not b.Loop: the scheduler is the loop
	if err := s.Run(ctx); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "samples/s")
}
