package i2c

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	periph "periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/sensortest"
	"github.com/edgeagent/edgeagent/sim/bus"
)

func mild() (celsius, pascal, percent float64) { return 21.37, 101325, 48.25 }

// bench is an environment with one simulated chip on bus 1.
func bench(t *testing.T, air bus.Air) (sensors.Env, *bus.BME280) {
	t.Helper()
	chip := bus.NewBME280(0x76, air)
	env := sensortest.Env("air")
	env.Root = t.TempDir()
	env.I2C = func(string) (periph.BusCloser, error) { return bus.New(chip), nil }
	return env, chip
}

func config() *BMxx80 {
	c, _ := Drivers()[0].New().(*BMxx80)
	c.Bus = "1"
	return c
}

func openBME(t *testing.T, env sensors.Env) sensors.Source {
	t.Helper()
	s, err := config().Open(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	sensortest.Run(t, func(t *testing.T, env sensors.Env) sensors.Source {
		env.I2C = func(string) (periph.BusCloser, error) { return bus.New(bus.NewBME280(0x76, mild)), nil }
		return openBME(t, env)
	})
}

func TestReadsAir(t *testing.T) {
	tests := []struct {
		name                string
		air                 [3]float64
		temp, hum, pressure float64
		quality             edgeagent.Quality
	}{
		{"mild", [3]float64{21.37, 101325, 48.25}, 21.37, 48.25, 101325, edgeagent.Good},
		{"frost", [3]float64{-18.04, 98700, 80}, -18.04, 80, 98700, edgeagent.Good},
		{"beyond the chip", [3]float64{120, 101325, 50}, 120, 50, 101325, edgeagent.Bad},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env, _ := bench(t, func() (float64, float64, float64) { return tt.air[0], tt.air[1], tt.air[2] })
				s := openBME(t, env)
				rs, err := s.Sample(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				got := map[string]float64{}
				for _, r := range rs {
					got[r.Series.String()+" "+r.Series.Key().Unit] = r.Value
					if r.Value != math.Round(r.Value*100)/100 {
						t.Errorf("%s = %v is not a short decimal", r.Series, r.Value)
					}
				}
				near := func(a, b float64) bool { return math.Abs(a-b) < 0.011 || math.Abs(a-b) <= 1 && a > 1000 }
				want := map[string]float64{"air/temperature Cel": tt.temp, "air/humidity %": tt.hum, "air/pressure Pa": tt.pressure}
				if diff := cmp.Diff(want, got, cmp.Comparer(near)); diff != "" {
					t.Errorf("readings (-want +got):\n%s", diff)
				}
				if q := rs[0].Quality; q != tt.quality {
					t.Errorf("temperature is %s, want %s", q, tt.quality)
				}
			})
		})
	}
}

func TestFaultsEndWithAnErrorThatHelps(t *testing.T) {
	tests := []struct {
		fault      bus.Fault
		want, hint string
		is         error
	}{
		{bus.NAK, "sensor air: read bmxx80 at 0x76 on bus 1: no such device or address", "check the wiring", syscall.ENXIO},
		{bus.Unplugged, "sensor air: read bmxx80 at 0x76 on bus 1: no such device or address", "check the wiring", syscall.ENXIO},
		{bus.AllOnes, "sensor air: read bmxx80 at 0x76 on bus 1: the bus reads 0xff: ", "does not drive the bus", errSilent},
		{bus.AllZeros, "sensor air: read bmxx80 at 0x76 on bus 1: the bus reads 0x00: ", "does not drive the bus", errSilent},
	}
	for _, tt := range tests {
		t.Run(tt.fault.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env, chip := bench(t, mild)
				s := openBME(t, env)
				chip.SetFault(tt.fault)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				rs, err := s.Sample(ctx, nil)
				if took := time.Since(start); took > time.Second+10*time.Millisecond {
					t.Errorf("took %v, the deadline is 1s", took)
				}
				if len(rs) != 0 || err == nil || !strings.HasPrefix(err.Error(), tt.want) || !errors.Is(err, tt.is) {
					t.Errorf("%d readings, error %q, want %q", len(rs), err, tt.want)
				}
				var h edgeagent.Hinter
				if !errors.As(err, &h) || !strings.Contains(h.Hint(), tt.hint) {
					t.Errorf("error %v has no hint with %q", err, tt.hint)
				}
				chip.SetFault(bus.None)
				if rs, err := s.Sample(t.Context(), nil); err != nil || len(rs) != 3 {
					t.Errorf("after the fault: %d readings, %v", len(rs), err)
				}
			})
		})
	}
}

// A bus that answers at once and for ever would keep a driver polling in a loop
// that no clock ends.
func TestGuardBoundsPolling(t *testing.T) {
	tests := []struct {
		name  string
		level func(n int64) byte
		want  int64
		is    error
	}{
		{"all ones", func(int64) byte { return 0xFF }, maxSilent, errSilent},
		{"all zeros", func(int64) byte { return 0x00 }, maxSilent, errSilent},
		{"never idle", func(n int64) byte { return byte(n) | 1 }, maxTransactions, errPolling},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := &levelBus{level: tt.level}
			g := newGuard(b, 0x76)
			g.begin(t.Context())
			defer g.end()
			for {
				if err := g.Tx(0x76, []byte{0xF3}, make([]byte, 1)); err != nil {
					if !errors.Is(err, tt.is) {
						t.Errorf("error %v", err)
					}
					break
				}
			}
			if b.polls != tt.want {
				t.Errorf("%d polls, want %d", b.polls, tt.want)
			}
		})
	}
}

// levelBus answers every read with one level.
type levelBus struct {
	level func(n int64) byte
	polls int64
}

func (*levelBus) String() string                  { return "level" }
func (*levelBus) SetSpeed(physic.Frequency) error { return nil }
func (b *levelBus) Tx(_ uint16, _, r []byte) error {
	b.polls++
	for i := range r {
		r[i] = b.level(b.polls)
	}
	return nil
}

func TestChipThatLostItsPowerIsSetUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env, chip := bench(t, mild)
		s := openBME(t, env)
		for i := range 5 {
			glitch := i%2 == 1
			if glitch {
				chip.PowerCycle()
			}
			rs, err := s.Sample(t.Context(), nil)
			if err != nil || len(rs) != 3 {
				t.Fatalf("sample %d: %d readings, %v", i, len(rs), err)
			}
			if math.Abs(rs[1].Value-48.25) > 0.02 {
				t.Errorf("sample %d (after a power glitch: %v): humidity %v, want 48.25", i, glitch, rs[1].Value)
			}
		}
	})
}

func TestOpenErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env, chip := bench(t, mild)
		chip.SetFault(bus.AllOnes)
		_, err := config().Open(t.Context(), env)
		if err == nil || !strings.Contains(err.Error(), "the bus reads 0xff: bmxx80: unexpected chip id ff") {
			t.Errorf("all ones: %v", err)
		}
		env.I2C = nil
		if _, err := config().Open(t.Context(), env); err == nil {
			t.Error("opened without I²C")
		}
	})
}

func TestAddressHeldByTheKernelIsRefused(t *testing.T) {
	env, _ := bench(t, mild)
	dir := filepath.Join(env.Root, "sys/bus/i2c/devices/1-0076")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../drivers/bmp280", filepath.Join(dir, "driver")); err != nil {
		t.Fatal(err)
	}
	_, err := config().Open(t.Context(), env)
	if err == nil || err.Error() != "address 0x76 on bus 1 is held by the kernel's driver bmp280" || !errors.Is(err, syscall.EBUSY) {
		t.Fatalf("error %v", err)
	}
	var h edgeagent.Hinter
	if !errors.As(err, &h) || !strings.Contains(h.Hint(), "driver: iio and address: 1-0076") {
		t.Errorf("hint %v", h)
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(c *BMxx80)
		want  string
	}{
		{"good", func(*BMxx80) {}, ""},
		{"no bus", func(c *BMxx80) { c.Bus = "" }, "bus: missing key bus"},
		{"address", func(c *BMxx80) { c.Address = 0x48 }, "address: 0x48 is not an address of this chip, want 0x76 or 0x77"},
		{"oversampling", func(c *BMxx80) { c.Oversampling = 3 }, "oversampling: 3 is not possible, want 1, 2, 4, 8 or 16"},
		{"all at once", func(c *BMxx80) { *c = BMxx80{} }, "bus: missing key bus\naddress: 0x00 is not an address of this chip, want 0x76 or 0x77\noversampling: 0 is not possible, want 1, 2, 4, 8 or 16"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config()
			tt.spoil(c)
			got := ""
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestBusNumber(t *testing.T) {
	tests := []struct {
		name string
		n    int
		ok   bool
	}{
		{"1", 1, true},
		{"i2c-11", 11, true},
		{"/dev/i2c-0", 0, true},
		{"I2C2", 2, true},
		{"", 0, false},
		{"-1", 0, false},
		{"sensors", 0, false},
		{"70000", 0, false},
	}
	for _, tt := range tests {
		if n, ok := busNumber(tt.name); ok != tt.ok || ok && n != tt.n {
			t.Errorf("busNumber(%q) = %d, %v", tt.name, n, ok)
		}
	}
}

func TestOpenMissingBusSaysWhatToDo(t *testing.T) {
	for _, name := range []string{"65535", "no-such-bus"} {
		_, err := OpenBus(name)
		var h edgeagent.Hinter
		if err == nil || !errors.As(err, &h) || !strings.HasPrefix(err.Error(), "open I²C bus "+name) {
			t.Errorf("OpenBus(%s): %v", name, err)
		}
	}
}

// The scheduler and the driver together: a cable that is pulled and put back.
func TestCablePulledAndPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env, chip := bench(t, mild)
		c := sensors.Config{Name: "air", Driver: "bmxx80", Interval: time.Second, Options: config()}
		s := sensors.NewScheduler([]sensors.Spec{sensors.NewSpec(c, env)}, discard{}, sensors.Options{Clock: env.Clock})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		state := func() string { synctest.Wait(); return s.Stats()[0].Health.Code }
		time.Sleep(10 * time.Second)
		if got := state(); got != "" {
			t.Errorf("at first: %q", got)
		}
		for _, f := range []bus.Fault{bus.Unplugged, bus.AllOnes, bus.NAK} {
			chip.SetFault(f)
			time.Sleep(time.Minute)
			if got := state(); got != sensors.CodeFailing && got != sensors.CodeOpen {
				t.Errorf("with %v: %q", f, got)
			}
			chip.SetFault(bus.None)
			time.Sleep(time.Minute)
			if got := state(); got != "" {
				t.Errorf("after %v: %q", f, got)
			}
		}
		chip.SetFault(bus.Stuck)
		time.Sleep(time.Minute)
		if got := state(); got != sensors.CodeStuck {
			t.Errorf("stuck: %q", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		chip.SetFault(bus.None)
		time.Sleep(time.Second) // the call left behind comes to its end
	})
}

type discard struct{}

func (discard) Put(context.Context, []edgeagent.Reading) error { return nil }
