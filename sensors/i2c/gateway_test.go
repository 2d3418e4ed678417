package i2c

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sim/bus"
)

// lateness collects by how much two readings of a series are more or less than an
// interval apart.
type lateness struct {
	interval time.Duration

	mu   sync.Mutex
	last map[edgeagent.Series]int64
	off  map[string][]time.Duration // by sensor
	bad  map[string]int             // readings that are not good
}

func (l *lateness) Put(_ context.Context, rs []edgeagent.Reading) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range rs {
		sensor := r.Series.Key().Sensor
		if r.Quality != edgeagent.Good {
			l.bad[sensor]++
			continue
		}
		if was, ok := l.last[r.Series]; ok {
			l.off[sensor] = append(l.off[sensor], (time.Duration(r.At.Run-was) - l.interval).Abs())
		}
		l.last[r.Series] = r.At.Run
	}
	return nil
}

// p99 returns the 99th percentile of all sensors but those named, and the worst.
func (l *lateness) p99(but ...string) (p99, worst time.Duration, n int) {
	var all []time.Duration
	for name, off := range l.off {
		if !slices.Contains(but, name) {
			all = append(all, off...)
		}
	}
	slices.Sort(all)
	return all[len(all)*99/100], all[len(all)-1], len(all)
}

// gateway has 20 sensors on one bus.
type gateway struct {
	specs []sensors.Spec
	chips map[string]bus.Breakable
}

func newGateway(t *testing.T) gateway {
	t.Helper()
	w := defaultWorld()
	g := gateway{chips: map[string]bus.Breakable{}}
	var chips []bus.Chip
	configs := map[string]sensors.DriverConfig{}
	add := func(name string, chip bus.Breakable, c sensors.DriverConfig) {
		chips = append(chips, chip)
		g.chips[name], configs[name] = chip, c
	}
	add("dead", bus.NewBME280(0x76, w.air), &BMxx80{Bus: "1", Address: 0x76, Oversampling: 4})
	add("gone", bus.NewSHT3x(0x45, w.air), &SHT3x{Bus: "1", Address: 0x45, Precision: high})
	add("bme280", bus.NewBME280(0x77, w.air), &BMxx80{Bus: "1", Address: 0x77, Oversampling: 4})
	add("sht4x", bus.NewSHT4x(0x44, w.air), &SHT4x{Bus: "1", Address: 0x44, Precision: high})
	add("aht20", bus.NewAHT20(w.air), &AHT20{Bus: "1", Address: 0x38})
	add("bh1750", bus.NewBH1750(0x23, of(&w.lux)), &BH1750{Bus: "1", Address: 0x23})
	add("ina219", bus.NewINA219(0x40, 0.1, of(&w.volts), of(&w.amps)), &INA219{Bus: "1", Address: 0x40, Shunt: 0.1, Average: 16})
	add("ads1115", bus.NewADS1115(0x48, func(i int) float64 { return w.inputs[i] }),
		&ADS1x15{Bus: "1", Address: 0x48, Chip: "ads1115", Range: 4.096, Rate: 128})
	for i := range uint16(3) {
		add(fmt.Sprintf("tmp102-%d", i), bus.NewTMP102(0x49+i, w.air), &TMP102{Bus: "1", Address: 0x49 + i})
		add(fmt.Sprintf("lm75-%d", i), bus.NewLM75(0x4D+i, w.air), &LM75{Bus: "1", Address: 0x4D + i, Resolution: 9})
	}
	for i := range uint16(6) {
		add(fmt.Sprintf("mcp9808-%d", i), bus.NewMCP9808(0x18+i, w.air), &MCP9808{Bus: "1", Address: 0x18 + i})
	}
	env := on(t, bus.New(chips...))
	for name, c := range configs {
		g.specs = append(g.specs, sensors.NewSpec(sensors.Config{Name: name, Driver: "i2c", Interval: time.Second, Options: c}, env))
	}
	return g
}

// run runs the gateway for ten minutes; spoil is called after the first ten seconds.
func (g gateway) run(t *testing.T, spoil func(ctx context.Context)) *lateness {
	t.Helper()
	l := &lateness{interval: time.Second, last: map[edgeagent.Series]int64{}, off: map[string][]time.Duration{}, bad: map[string]int{}}
	s := sensors.NewScheduler(g.specs, l, sensors.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	time.Sleep(10 * time.Second)
	l.mu.Lock()
	clear(l.off) // the first interval is jittered
	l.mu.Unlock()
	spoil(ctx)
	time.Sleep(10 * time.Minute)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return l
}

// One chip whose bus reads 0xFF and one that is unplugged, and 18 others that keep
// their interval.
func TestDeadChipsStopNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t)
		if len(g.specs) != 20 {
			t.Fatalf("%d sensors", len(g.specs))
		}
		l := g.run(t, func(context.Context) {
			g.chips["dead"].SetFault(bus.AllOnes)
			g.chips["gone"].SetFault(bus.Unplugged)
		})
		p99, worst, n := l.p99("dead", "gone")
		t.Logf("lateness of 18 sensors: p99 %v, worst %v of 1s, over %d intervals", p99, worst, n)
		if p99 > l.interval/10 {
			t.Errorf("p99 lateness %v, want at most a tenth of %v", p99, l.interval)
		}
		for name := range g.chips {
			switch off := len(l.off[name]); {
			case name == "dead" || name == "gone":
				if off > 3 || l.bad[name] == 0 {
					t.Errorf("%s: %d good intervals, %d stale readings", name, off, l.bad[name])
				}
			case off < 590 || l.bad[name] != 0:
				t.Errorf("%s: %d intervals in 10 minutes, %d doubtful readings", name, off, l.bad[name])
			}
		}
	})
}

// The measure above can fail: a chip that hangs on the bus for 1.5 s again and again
// delays everybody, as it would on a real one.
func TestChipThatHangsDelaysOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t)
		l := g.run(t, func(ctx context.Context) {
			go func() {
				for ctx.Err() == nil {
					g.chips["dead"].SetFault(bus.Stuck)
					time.Sleep(1500 * time.Millisecond)
					g.chips["dead"].SetFault(bus.None)
					time.Sleep(3500 * time.Millisecond)
				}
			}()
		})
		if p99, _, n := l.p99("dead"); p99 <= l.interval/10 {
			t.Errorf("p99 lateness %v over %d intervals: nobody waited", p99, n)
		}
		time.Sleep(10 * time.Second) // the call left behind comes to its end
	})
}

// instant is a chip on a bus that takes no time.
type instant struct{ *bus.Bus }

func (i instant) Tx(addr uint16, w, r []byte) error { return i.Chip(addr).Tx(w, r) }

// BenchmarkSample is what a sample costs beside the bus and the chip's own time: of
// chips that need no wait, the driver, the guard, and the simulated registers.
func BenchmarkSample(b *testing.B) {
	for _, r := range rigs() {
		switch r.name {
		case "tmp102", "lm75", "mcp9808", "ina219":
		default:
			continue // these wait for the chip
		}
		b.Run(r.name, func(b *testing.B) {
			w := defaultWorld()
			s, err := r.config(b).Open(b.Context(), on(b, instant{bus.New(r.chip(w))}))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
			defer cancel()
			var dst []edgeagent.Reading
			readings := 0
			b.ReportAllocs()
			for b.Loop() {
				if dst, err = s.Sample(ctx, dst[:0]); err != nil {
					b.Fatal(err)
				}
				readings += len(dst)
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)*1e6, "s/million-samples")
			b.ReportMetric(float64(readings)/b.Elapsed().Seconds(), "readings/s")
		})
	}
}
