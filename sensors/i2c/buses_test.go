package i2c

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	periph "periph.io/x/conn/v3/i2c"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/sensortest"
	"github.com/edgeagent/edgeagent/sim/bus"
)

// counted is a bus that knows how often it was opened and closed, and whether two
// transactions were under way at once.
type counted struct {
	*bus.Bus

	mu             sync.Mutex
	opened, closed int
	under, most    int
}

func (c *counted) count(n *int, by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n += by
	c.most = max(c.most, c.under)
}

func (c *counted) open(string) (periph.BusCloser, error) { c.count(&c.opened, 1); return c, nil }
func (c *counted) Close() error                          { c.count(&c.closed, 1); return nil }
func (c *counted) Tx(addr uint16, w, r []byte) error {
	c.count(&c.under, 1)
	defer c.count(&c.under, -1)
	return c.Bus.Tx(addr, w, r)
}

func TestBusIsOpenedOnceAndClosedByTheLast(t *testing.T) {
	c := &counted{Bus: bus.New()}
	buses := NewBuses(c.open)
	var handles []periph.BusCloser
	for _, name := range []string{"1", "/dev/i2c-1", "i2c-1"} {
		h, err := buses.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		handles = append(handles, h)
	}
	other, err := buses.Open("2")
	if err != nil {
		t.Fatal(err)
	}
	if c.opened != 2 {
		t.Errorf("opened %d times, want 2", c.opened)
	}
	for i, h := range handles {
		if c.closed != 0 {
			t.Errorf("closed after %d of 3", i)
		}
		for range 2 { // closing twice is harmless
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if c.closed != 1 {
		t.Errorf("closed %d times, want 1", c.closed)
	}
	if _, err := buses.Open("1"); err != nil || c.opened != 3 {
		t.Errorf("opened %d times, %v", c.opened, err)
	}
	_ = other.Close()
	fail := NewBuses(func(string) (periph.BusCloser, error) { return nil, errors.New("no such bus") })
	for range 2 {
		if _, err := fail.Open("1"); err == nil || err.Error() != "no such bus" {
			t.Errorf("error %v", err)
		}
	}
}

// A bus may be named by a link; it is the same bus, and what the kernel holds on it
// is held.
func TestBusBehindALink(t *testing.T) {
	dir := t.TempDir()
	device, link := filepath.Join(dir, "i2c-7"), filepath.Join(dir, "greenhouse")
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(device, link); err != nil {
		t.Skip(err) // a system without links
	}
	c := &counted{Bus: bus.New()}
	buses := NewBuses(c.open)
	for _, name := range []string{"7", link} {
		h, err := buses.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
	}
	if c.opened != 1 {
		t.Errorf("one bus was opened %d times", c.opened)
	}
	held := filepath.Join(dir, "sys/bus/i2c/devices/7-0048")
	if err := os.MkdirAll(filepath.Join(held, "hwmon/hwmon3"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../drivers/lm75", filepath.Join(held, "driver")); err != nil {
		t.Fatal(err)
	}
	err := refuseHeld(dir, place{"lm75", link, 0x48})
	var h edgeagent.Hinter
	if !errors.Is(err, syscall.EBUSY) || !errors.As(err, &h) || !strings.Contains(h.Hint(), "driver: hwmon and device: 7-0048") {
		t.Errorf("error %v", err)
	}
}

// Two sensors on one ADS1115 choose different inputs. Without groups, one would read
// the other's conversion. The negative control has no groups.
func TestSensorsOnOneChipDoNotMix(t *testing.T) {
	for _, shared := range []bool{true, false} {
		t.Run(fmt.Sprintf("shared=%v", shared), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &counted{Bus: bus.New(bus.NewADS1115(0x48, func(i int) float64 { return float64(i) }))}
				open := b.open
				if shared {
					open = NewBuses(b.open).Open
				}
				wrong := make(chan int, 4)
				for i := range 4 {
					go func() {
						env := sensortest.Env("s")
						env.I2C = open
						c := &ADS1x15{Bus: "1", Address: 0x48, Chip: "ads1115", Inputs: []string{fmt.Sprintf("a%d", i)}, Range: 4.096, Rate: 128}
						n := 0
						defer func() { wrong <- n }()
						s, err := c.Open(t.Context(), env)
						if err != nil {
							n++
							return
						}
						defer s.Close()
						for k := range 100 {
							time.Sleep(time.Duration(i*k) * time.Millisecond)
							rs, err := s.Sample(t.Context(), nil)
							if err != nil || math.Abs(rs[0].Value-float64(i)) > 0.001 {
								n++
							}
						}
					}()
				}
				total := 0
				for range 4 {
					total += <-wrong
				}
				if shared && (total > 0 || b.most > 1) {
					t.Errorf("%d samples failed, %d transactions at once", total, b.most)
				}
				if !shared && total == 0 {
					t.Error("the negative control found nothing")
				}
			})
		})
	}
}

// A transaction that hangs keeps one goroutine; the others on the bus end with an
// error that says who holds it, and go on when it lets go.
func TestBusThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := defaultWorld()
		bad, good := bus.NewMCP9808(0x18, w.air), bus.NewTMP102(0x48, w.air)
		env := on(t, bus.New(bad, good))
		a, err := (&MCP9808{Bus: "1", Address: 0x18}).Open(t.Context(), env)
		if err != nil {
			t.Fatal(err)
		}
		b, err := (&TMP102{Bus: "1", Address: 0x48}).Open(t.Context(), env)
		if err != nil {
			t.Fatal(err)
		}
		bad.SetFault(bus.Stuck)
		hung := make(chan error, 1)
		go func() {
			_, err := a.Sample(t.Context(), nil)
			hung <- err
		}()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		_, err = b.Sample(ctx, nil)
		if took := time.Since(start); took > 2100*time.Millisecond {
			t.Errorf("took %v, the deadline is 2s", took)
		}
		if !errors.Is(err, errBusHeld) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(fmt.Sprint(err), "a transaction with 0x18 has not returned for 3") {
			t.Errorf("error %v", err)
		}
		var h edgeagent.Hinter
		if !errors.As(err, &h) || !strings.Contains(h.Hint(), "one by one") {
			t.Errorf("no hint: %v", err)
		}
		bad.SetFault(bus.None)
		<-hung // with a reading or without
		for _, s := range []sensors.Source{a, b} {
			if rs, err := s.Sample(t.Context(), nil); err != nil || len(rs) != 1 {
				t.Errorf("afterwards: %d readings, %v", len(rs), err)
			}
		}
	})
}

// closing is a bus that takes its time to close.
type closing struct {
	*bus.Bus
	release chan struct{}
}

func (c closing) Close() error { <-c.release; return nil }

func TestBusThatDoesNotCloseHoldsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := closing{bus.New(), make(chan struct{})}
		buses := NewBuses(func(string) (periph.BusCloser, error) { return c, nil })
		one, err := buses.Open("1")
		if err != nil {
			t.Fatal(err)
		}
		go one.Close()
		synctest.Wait()
		if !buses.mu.TryLock() {
			t.Error("all buses are locked while one closes")
		} else {
			buses.mu.Unlock()
		}
		close(c.release)
		synctest.Wait()
	})
}

func TestErrnoIsFoundInText(t *testing.T) {
	tests := []struct {
		err  error
		want syscall.Errno
	}{
		{errors.New("sysfs-i2c: " + syscall.ENXIO.Error()), syscall.ENXIO},
		{errors.New("sysfs-i2c: " + syscall.ETIMEDOUT.Error()), syscall.ETIMEDOUT},
		{fmt.Errorf("wrapped: %w", syscall.EIO), syscall.EIO},
		{errors.New("sysfs-i2c: invalid address"), 0},
	}
	for _, tt := range tests {
		got := withErrno(tt.err)
		if got.Error() != tt.err.Error() {
			t.Errorf("%q became %q", tt.err, got)
		}
		if tt.want != 0 && !errors.Is(got, tt.want) {
			t.Errorf("%q is not %d", got, tt.want)
		}
	}
	if withErrno(nil) != nil {
		t.Error("nil became an error")
	}
}

func TestValidateChips(t *testing.T) {
	tests := []struct {
		name   string
		config sensors.DriverConfig
		want   string
	}{
		{"tmp102", &TMP102{Bus: "1", Address: 0x4C}, "address: 0x4c is not an address of this chip, want 0x48 to 0x4b"},
		{"lm75", &LM75{Bus: "1", Address: 0x48}, "resolution: 0 is not possible, want 9, 10, 11 or 12"},
		{"mcp9808", &MCP9808{Address: 0x18}, "bus: missing key bus"},
		{"aht20", &AHT20{Bus: "1", Address: 0x39}, "address: 0x39 is not the address of this chip, 0x38 is"},
		{"sht3x", &SHT3x{Bus: "1", Address: 0x44, Precision: "best"}, `precision: "best" is not known, want high, medium or low`},
		{"sht4x", &SHT4x{Bus: "1", Address: 0x47, Precision: low}, "address: 0x47 is not an address of this chip, want 0x44 to 0x46"},
		{"scd4x", &SCD4x{Bus: "1", Address: 0x61, Altitude: 4000}, "address: 0x61 is not the address of this chip, 0x62 is\naltitude: 4000 is out of range, want 0 to 3000 m"},
		{"bh1750", &BH1750{Bus: "1", Address: 0x24}, "address: 0x24 is not an address of this chip, want 0x23 or 0x5c"},
		{"ina219", &INA219{Bus: "1", Address: 0x40, Shunt: math.NaN(), Average: 3}, "shunt: NaN is out of range, want 0.0001 to 10 ohm\naverage: 3 is not possible, want 1, 2, 4, 8, 16, 32, 64 or 128"},
		{"ads1x15", &ADS1x15{Bus: "1", Address: 0x48, Chip: "ads1115", Inputs: []string{"a0", "a4", "a0"}, Range: 5, Rate: 128}, `inputs[1]: "a4" is not known, want a0-a1, a0-a3, a1-a3, a2-a3, a0, a1, a2 or a3` +
			"\ninputs[2]: a0 stands twice\nrange: 5 is out of range, want 6.144, 4.096, 2.048, 1.024, 0.512 or 0.256 V"},
		{"ads1015's rate", &ADS1x15{Bus: "1", Address: 0x48, Chip: "ads1015", Range: 4.096, Rate: 860}, "rate: 860 is not possible, want 128, 250, 490, 920, 1600, 2400 or 3300"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.config.Validate()
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
