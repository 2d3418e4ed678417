package i2c

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	periph "periph.io/x/conn/v3/i2c"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/sensortest"
	"github.com/edgeagent/edgeagent/sim/bus"
)

// world is what there is to measure.
type world struct {
	celsius, pascal, percent, lux, ppm float64
	volts, amps                        float64
	inputs                             [4]float64
}

func (w *world) air() (celsius, pascal, percent float64) { return w.celsius, w.pascal, w.percent }

func of(x *float64) bus.Quantity { return func() float64 { return *x } }

// rig is a chip with the driver that reads it.
type rig struct {
	name   string
	driver string
	keys   func(c sensors.DriverConfig) // beyond the bus
	chip   func(w *world) bus.Breakable
	// reads are the values to be expected, in the driver's order, and how far they
	// may be off.
	reads func(w *world) []float64
	near  []float64

	checksum bool // a wrong bit does not get through
	pauses   bool // there is not a reading in each sample
}

func rigs() []rig {
	thermo := func(w *world) []float64 { return []float64{w.celsius} }
	air := func(w *world) []float64 { return []float64{w.celsius, w.percent} }
	return []rig{
		{
			name: "bme280", driver: "bmxx80", chip: func(w *world) bus.Breakable { return bus.NewBME280(0x76, w.air) },
			reads: func(w *world) []float64 { return []float64{w.celsius, w.percent, w.pascal} }, near: []float64{0.011, 0.03, 1},
		},
		{
			name: "bmp280", driver: "bmxx80", chip: func(w *world) bus.Breakable { return bus.NewBMP280(0x76, w.air) },
			reads: func(w *world) []float64 { return []float64{w.celsius, w.pascal} }, near: []float64{0.011, 1},
		},
		{name: "tmp102", driver: "tmp102", chip: func(w *world) bus.Breakable { return bus.NewTMP102(0x48, w.air) }, reads: thermo, near: []float64{0.032}},
		{name: "lm75", driver: "lm75", chip: func(w *world) bus.Breakable { return bus.NewLM75(0x48, w.air) }, reads: thermo, near: []float64{0.26}},
		{
			name: "tmp105", driver: "lm75", chip: func(w *world) bus.Breakable { return bus.NewTMP105(0x48, w.air) },
			keys:  func(c sensors.DriverConfig) { c.(*LM75).Resolution = 12 },
			reads: thermo, near: []float64{0.032},
		},
		{name: "mcp9808", driver: "mcp9808", chip: func(w *world) bus.Breakable { return bus.NewMCP9808(0x18, w.air) }, reads: thermo, near: []float64{0.032}},
		{name: "aht20", driver: "aht20", chip: func(w *world) bus.Breakable { return bus.NewAHT20(w.air) }, reads: air, near: []float64{0.006, 0.006}, checksum: true},
		{name: "sht3x", driver: "sht3x", chip: func(w *world) bus.Breakable { return bus.NewSHT3x(0x44, w.air) }, reads: air, near: []float64{0.007, 0.006}, checksum: true},
		{
			name: "sht31-low", driver: "sht3x", chip: func(w *world) bus.Breakable { return bus.NewSHT3x(0x44, w.air) }, reads: air,
			keys: func(c sensors.DriverConfig) { c.(*SHT3x).Precision = low }, near: []float64{0.007, 0.006}, checksum: true,
		},
		{name: "sht4x", driver: "sht4x", chip: func(w *world) bus.Breakable { return bus.NewSHT4x(0x44, w.air) }, reads: air, near: []float64{0.007, 0.007}, checksum: true},
		{
			name: "scd41", driver: "scd4x", chip: func(w *world) bus.Breakable { return bus.NewSCD4x(w.air, of(&w.ppm)) },
			reads: func(w *world) []float64 { return []float64{w.ppm, w.celsius, w.percent} }, near: []float64{0.5, 0.007, 0.006}, checksum: true, pauses: true,
		},
		{
			name: "bh1750", driver: "bh1750", chip: func(w *world) bus.Breakable { return bus.NewBH1750(0x23, of(&w.lux)) },
			reads: func(w *world) []float64 { return []float64{w.lux} }, near: []float64{0.43},
		},
		{
			name: "ina219", driver: "ina219", chip: func(w *world) bus.Breakable { return bus.NewINA219(0x40, 0.1, of(&w.volts), of(&w.amps)) },
			reads: func(w *world) []float64 { return []float64{w.volts, w.amps, w.volts * w.amps} }, near: []float64{0.0021, 0.00006, 0.005},
		},
		{
			name: "ads1115", driver: "ads1x15", chip: func(w *world) bus.Breakable {
				return bus.NewADS1115(0x48, func(i int) float64 { return w.inputs[i] })
			},
			reads: func(w *world) []float64 { return w.inputs[:] }, near: []float64{0.00007, 0.00007, 0.00007, 0.00007},
		},
		{
			name: "ads1015", driver: "ads1x15", chip: func(w *world) bus.Breakable {
				return bus.NewADS1015(0x48, func(i int) float64 { return w.inputs[i] })
			},
			keys: func(c sensors.DriverConfig) {
				ads := c.(*ADS1x15)
				ads.Chip, ads.Rate, ads.Inputs, ads.Range = "ads1015", 1600, []string{"a0-a1", "a3"}, 6.144
			},
			reads: func(w *world) []float64 { return []float64{w.inputs[0] - w.inputs[1], w.inputs[3]} }, near: []float64{0.0016, 0.0016},
		},
	}
}

func defaultWorld() *world {
	return &world{
		celsius: 21.37, pascal: 101325, percent: 48.25, lux: 320, ppm: 612, volts: 12.04, amps: -0.731,
		inputs: [4]float64{0.5, 1.25, -0.01, 3.3},
	}
}

// config returns the driver's configuration for the rig.
func (r rig) config(t testing.TB) sensors.DriverConfig {
	t.Helper()
	for _, d := range Drivers() {
		if d.Name != r.driver {
			continue
		}
		c := d.New()
		setBus(c, "1")
		if r.keys != nil {
			r.keys(c)
		}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	t.Fatalf("no driver %s", r.driver)
	return nil
}

func setBus(c sensors.DriverConfig, name string) {
	switch c := c.(type) {
	case *BMxx80:
		c.Bus = name
	case *TMP102:
		c.Bus = name
	case *LM75:
		c.Bus = name
	case *MCP9808:
		c.Bus = name
	case *AHT20:
		c.Bus = name
	case *SHT3x:
		c.Bus = name
	case *SHT4x:
		c.Bus = name
	case *SCD4x:
		c.Bus = name
	case *BH1750:
		c.Bus = name
	case *INA219:
		c.Bus = name
	case *ADS1x15:
		c.Bus = name
	default:
		panic(fmt.Sprintf("%T is not known to this test", c))
	}
}

// on returns an environment in which i2c is the bus of every name.
func on(t testing.TB, i2c periph.BusCloser) sensors.Env {
	t.Helper()
	env := sensortest.Env("s")
	env.Root = t.TempDir()
	env.I2C = NewBuses(func(string) (periph.BusCloser, error) { return i2c, nil }).Open
	return env
}

// open opens the rig's driver on a bus with its chip.
func (r rig) open(t testing.TB, w *world) (sensors.Source, bus.Breakable) {
	t.Helper()
	chip := r.chip(w)
	s, err := r.config(t).Open(t.Context(), on(t, bus.New(chip)))
	if err != nil {
		t.Fatal(err)
	}
	return s, chip
}

// sample takes samples until one has readings or an error.
func sample(t testing.TB, s sensors.Source) ([]edgeagent.Reading, error) {
	t.Helper()
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		rs, err := s.Sample(ctx, nil)
		cancel()
		if len(rs) > 0 || err != nil {
			return rs, err
		}
		time.Sleep(time.Second)
	}
	t.Fatal("neither a reading nor an error in 20 samples")
	return nil, nil
}

// right compares readings with the world.
func (r rig) right(w *world, rs []edgeagent.Reading) error {
	want := r.reads(w)
	if len(rs) != len(want) {
		return fmt.Errorf("%d readings, want %d", len(rs), len(want))
	}
	for i := range want {
		if math.Abs(rs[i].Value-want[i]) > r.near[i] {
			return fmt.Errorf("%s = %v, want %v", rs[i].Series, rs[i].Value, want[i])
		}
	}
	return nil
}

func eachRig(t *testing.T, f func(t *testing.T, r rig)) {
	t.Helper()
	eachRigWith(t, func(rig) bool { return true }, f)
}

// eachRigWith is for what not every chip has.
func eachRigWith(t *testing.T, has func(rig) bool, f func(t *testing.T, r rig)) {
	t.Helper()
	for _, r := range rigs() {
		if !has(r) {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, r) })
		})
	}
}

func TestEveryDriverHasARig(t *testing.T) {
	have := map[string]bool{}
	for _, r := range rigs() {
		have[r.driver] = true
	}
	for _, d := range Drivers() {
		if !have[d.Name] {
			t.Errorf("driver %s has no simulated chip", d.Name)
		}
	}
}

func TestChipsConform(t *testing.T) {
	for _, r := range rigs() {
		t.Run(r.name, func(t *testing.T) {
			sensortest.Run(t, func(t *testing.T, env sensors.Env) sensors.Source {
				env.I2C = bus.New(r.chip(defaultWorld())).Open
				s, err := r.config(t).Open(t.Context(), env)
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

func TestChipsReadTheWorld(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		w := defaultWorld()
		s, _ := r.open(t, w)
		for _, celsius := range []float64{21.37, -9.98, 0, -0.06, 37.5, 59.9, 0.06} {
			w.celsius = celsius
			w.percent = 50 + celsius/2
			w.ppm += 37
			w.amps = celsius / 20
			w.inputs[1] = celsius / 20
			w.lux = 10 + celsius*celsius
			time.Sleep(20 * time.Second)
			if r.pauses { // what it has measured before the change goes first
				if _, err := sample(t, s); err != nil {
					t.Fatal(err)
				}
			}
			rs, err := sample(t, s)
			if err != nil {
				t.Fatalf("at %v °C: %v", celsius, err)
			}
			if err := r.right(w, rs); err != nil {
				t.Errorf("at %v °C: %v", celsius, err)
			}
			for _, x := range rs {
				if x.Quality != edgeagent.Good {
					t.Errorf("at %v °C: %s = %v is %s", celsius, x.Series, x.Value, x.Quality)
				}
			}
		}
	})
}

// What the wire does is an error, and the readings are right again afterwards.
func TestFaultsOfTheWire(t *testing.T) {
	tests := []struct {
		fault bus.Fault
		is    error // nil: any
		// mute: what a chip without identity may give instead.
		mute edgeagent.Quality
	}{
		{fault: bus.NAK, is: syscall.ENXIO},
		{fault: bus.Unplugged, is: syscall.ENXIO},
		{fault: bus.AllOnes, mute: edgeagent.Bad},
		{fault: bus.AllZeros, mute: edgeagent.Suspect},
	}
	eachRig(t, func(t *testing.T, r rig) {
		w := defaultWorld()
		s, chip := r.open(t, w)
		if _, err := sample(t, s); err != nil {
			t.Fatal(err)
		}
		for _, tt := range tests {
			chip.SetFault(tt.fault)
			for range 5 {
				time.Sleep(5 * time.Second)
				rs, err := sample(t, s)
				for _, x := range rs {
					if x.Quality != edgeagent.Stale && (r.name != "bh1750" || x.Quality != tt.mute || err != nil) {
						t.Errorf("%v: %s = %v is %s", tt.fault, x.Series, x.Value, x.Quality)
					}
				}
				if err == nil && r.name != "bh1750" {
					t.Errorf("%v: no error", tt.fault)
				}
				if err == nil {
					continue
				}
				if tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("%v: %v is not %v", tt.fault, err, tt.is)
				}
				if want := "sensor s: read " + r.driver + " at 0x"; !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), " on bus 1: ") {
					t.Errorf("%v: error %q names neither sensor, bus nor address", tt.fault, err)
				}
				var h edgeagent.Hinter
				if !errors.As(err, &h) || h.Hint() == "" {
					t.Errorf("%v: no hint", tt.fault)
				}
			}
			chip.SetFault(bus.None)
			time.Sleep(10 * time.Second)
			rs, err := sample(t, s)
			if err != nil {
				t.Fatalf("after %v: %v", tt.fault, err)
			}
			if err := r.right(w, rs); err != nil {
				t.Errorf("after %v: %v", tt.fault, err)
			}
		}
	})
}

// However a fault falls between the transactions of a sample, what comes out is
// right, doubtful, or an error.
func TestFaultsInTheMiddleOfASample(t *testing.T) {
	for _, fault := range []bus.Fault{bus.NAK, bus.Unplugged, bus.AllOnes, bus.AllZeros} {
		t.Run(fault.String(), func(t *testing.T) {
			eachRig(t, func(t *testing.T, r rig) {
				w := defaultWorld()
				chip := r.chip(w)
				b := &countdown{Bus: bus.New(chip)}
				s, err := r.config(t).Open(t.Context(), on(t, b))
				if err != nil {
					t.Fatal(err)
				}
				for after := 1; after < 20; after++ {
					w.celsius += 0.5
					time.Sleep(5500 * time.Millisecond)
					b.left, b.then = after, func() { chip.SetFault(fault) }
					rs, err := sample(t, s)
					fired := b.left == 0
					b.left = 0
					wrong := r.right(w, rs)
					for _, x := range rs {
						if err == nil && wrong != nil && x.Quality == edgeagent.Good {
							t.Errorf("after %d transactions: %v, and it is %s", after, wrong, x.Quality)
						}
					}
					chip.SetFault(bus.None)
					time.Sleep(5 * time.Second)
					rs, err = sample(t, s)
					if err != nil && r.pauses { // it is found to have stopped, and started anew
						rs, err = sample(t, s)
					}
					if err == nil {
						err = r.right(w, rs)
					}
					if err != nil {
						t.Errorf("after the fault: %v", err)
					}
					if !fired {
						return
					}
				}
			})
		})
	}
}

// countdown is a bus on which something happens after some transactions.
type countdown struct {
	*bus.Bus
	left int
	then func()
}

func (c *countdown) Tx(addr uint16, w, r []byte) error {
	err := c.Bus.Tx(addr, w, r)
	if c.left > 0 {
		if c.left--; c.left == 0 {
			c.then()
		}
	}
	return err
}

// A chip that was without power for an instant has lost its settings and answers as
// if nothing had happened. It is set up again, and nothing wrong comes out.
func TestPowerLostForAnInstant(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		w := defaultWorld()
		s, chip := r.open(t, w)
		for i := range 10 {
			time.Sleep(20 * time.Second)
			if i%2 == 1 {
				chip.PowerCycle()
			}
			rs, err := sample(t, s)
			if r.pauses && i%2 == 1 { // it says so by silence
				if err == nil {
					t.Error("a chip that does not measure: no error")
				}
				continue
			}
			if err != nil {
				t.Fatalf("sample %d: %v", i, err)
			}
			if err := r.right(w, rs); err != nil {
				t.Errorf("sample %d: %v", i, err)
			}
		}
	})
}

// A wrong bit does not get through a checksum.
func TestCorruptedAnswers(t *testing.T) {
	eachRigWith(t, func(r rig) bool { return r.checksum }, func(t *testing.T, r rig) {
		w := defaultWorld()
		s, chip := r.open(t, w)
		chip.SetFault(bus.Corrupt)
		failed := 0
		for range 200 {
			time.Sleep(6 * time.Second)
			rs, err := sample(t, s)
			if err != nil {
				failed++
				continue
			}
			if err := r.right(w, rs); err != nil {
				t.Error(err)
			}
		}
		if failed < 150 {
			t.Errorf("%d of 200 corrupted samples failed", failed)
		}
	})
}

// A chip that holds the clock is late, and right.
func TestSlowChips(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		w := defaultWorld()
		s, chip := r.open(t, w)
		chip.SetFault(bus.Slow)
		for range 3 {
			time.Sleep(10 * time.Second)
			rs, err := sample(t, s)
			if err != nil {
				continue // it did not make it in time
			}
			if err := r.right(w, rs); err != nil {
				t.Error(err)
			}
		}
	})
}

// What no transaction shows is told from what a quantity cannot do: too fast, or
// beyond the range. A value that does not change at all is a matter of rules.
func TestFaultsOfTheMeasurement(t *testing.T) {
	doubtful := func(t *testing.T, s sensors.Source, every time.Duration, samples int) map[string]int {
		n := map[string]int{}
		for range samples {
			time.Sleep(every)
			rs, err := sample(t, s)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range rs {
				if x.Quality != edgeagent.Good {
					n[x.Series.Key().Metric]++
				}
			}
		}
		return n
	}
	eachRig(t, func(t *testing.T, r rig) {
		s, chip := r.open(t, defaultWorld())
		src := s.(*source)
		every := time.Second
		if r.pauses {
			every = 6 * time.Second
		}
		if n := doubtful(t, s, every, 50); len(n) > 0 {
			t.Errorf("a good chip: %v", n)
		}
		// Two readings of a noisy chip are up to half its range apart, which is more
		// than a quantity can change meanwhile, but for the air's in an SCD4x.
		chip.SetFault(bus.Noisy)
		n := doubtful(t, s, every, 200)
		checked := 0
		for i, m := range src.metrics {
			if src.out.has[i] && m.MaxRate > 0 && m.MaxRate*every.Seconds() < (m.Max-m.Min)/3 {
				checked++
				if n[m.Name] < 20 {
					t.Errorf("noise: %d doubts about %s in 200 samples", n[m.Name], m.Name)
				}
			}
		}
		if checked == 0 && src.metrics[0].MaxRate > 0 {
			t.Error("nothing checked")
		}
		chip.SetFault(bus.None)
		_ = doubtful(t, s, every, 1)
		chip.SetFault(bus.Drifting)
		time.Sleep(2 * time.Hour)
		n = doubtful(t, s, every, 2)
		for _, m := range src.metrics {
			if m.Unit != "%" && n[m.Name] == 0 { // hygrometers end at 100 %
				t.Errorf("drift: no doubt about %s", m.Name)
			}
		}
	})
}

// The last values are given once more, as stale, when a chip is given up for now.
func TestLastValueGoesStale(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		w := defaultWorld()
		s, chip := r.open(t, w)
		if _, err := sample(t, s); err != nil {
			t.Fatal(err)
		}
		chip.SetFault(bus.Unplugged)
		var stale, others int
		for range 10 {
			time.Sleep(time.Second)
			rs, err := s.Sample(t.Context(), nil)
			if err == nil {
				t.Error("no error")
			}
			for _, x := range rs {
				if x.Quality == edgeagent.Stale {
					stale++
				} else {
					others++
				}
			}
			if stale > 0 && len(rs) > 0 {
				if err := r.right(w, rs); err != nil {
					t.Errorf("stale: %v", err)
				}
			}
		}
		if want := len(r.reads(w)); stale != want || others != 0 {
			t.Errorf("%d stale readings and %d others, want %d and 0", stale, others, want)
		}
	})
}

// An agent that stops cancels a sample. The chip has not failed then, and its last
// values are not stale.
func TestCancelledSampleIsNoFailure(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		s, _ := r.open(t, defaultWorld())
		if _, err := sample(t, s); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 2 * staleAfter {
			if rs, err := s.Sample(ctx, nil); len(rs) > 0 || err == nil {
				t.Errorf("%d readings, %v", len(rs), err)
			}
		}
	})
}

// One value that cannot be is bad; the next one is not taken for a jump.
func TestValueAfterABadOneIsGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := defaultWorld()
		s, err := (&TMP102{Bus: "1", Address: 0x48}).Open(t.Context(), on(t, bus.New(bus.NewTMP102(0x48, w.air))))
		if err != nil {
			t.Fatal(err)
		}
		var got []edgeagent.Quality
		for _, celsius := range []float64{20, 127, 21, 60, 61} {
			w.celsius = celsius
			time.Sleep(time.Second)
			rs, err := sample(t, s)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, rs[0].Quality)
		}
		want := []edgeagent.Quality{edgeagent.Good, edgeagent.Bad, edgeagent.Good, edgeagent.Suspect, edgeagent.Good}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("qualities (-want +got):\n%s", diff)
		}
	})
}

// byteChip is a chip of one byte at register 0.
type byteChip struct{}

func (byteChip) setUp(*guard) error { return nil }
func (byteChip) measure(g *guard, v *values) error {
	r, err := g.command(1, 0)
	if err == nil {
		v.set(0, float64(r[0]))
	}
	return err
}

// muteChip may say nothing but 0x00 or 0xFF.
type muteChip struct{ byteChip }

func (muteChip) mute() {}

// A sample that read nothing but 0x00 or 0xFF is an error for any chip but those
// that have nothing else to say.
func TestSilenceIsNoReading(t *testing.T) {
	for _, level := range []byte{0x00, 0x7F, 0xFF} {
		for _, c := range []chip{byteChip{}, muteChip{}} {
			env := on(t, nil)
			env.I2C = func(string) (periph.BusCloser, error) { return &script{bytes: []byte{level}}, nil }
			s, err := open(t.Context(), env, place{"byte", "1", 0x10}, []sensors.Metric{{Name: "byte", Max: 255}}, c)
			if err != nil {
				t.Fatal(err)
			}
			_, mute := c.(muteChip)
			rs, err := s.Sample(t.Context(), nil)
			if good := level == 0x7F || mute; good != (err == nil) || good != (len(rs) == 1) || (err != nil && !errors.Is(err, errSilent)) {
				t.Errorf("%T, 0x%02x: %d readings, %v", c, level, len(rs), err)
			}
		}
	}
}

// Sampling allocates nothing but in periph's driver.
func TestSamplingAllocatesNothing(t *testing.T) {
	eachRigWith(t, func(r rig) bool { return r.driver != "bmxx80" }, func(t *testing.T, r rig) {
		s, _ := r.open(t, defaultWorld())
		dst := make([]edgeagent.Reading, 0, 16)
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		n := testing.AllocsPerRun(50, func() {
			time.Sleep(time.Second)
			var err error
			if dst, err = s.Sample(ctx, dst[:0]); err != nil {
				t.Error(err)
			}
		})
		if n != 0 {
			t.Errorf("%v allocations a sample", n)
		}
	})
}
