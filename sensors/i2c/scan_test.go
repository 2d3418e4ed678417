package i2c_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	periph "periph.io/x/conn/v3/i2c"

	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/i2c"
	"github.com/edgeagent/edgeagent/sim/bus"
)

// tree makes a /sys with the named buses.
func tree(t *testing.T, buses map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for number, name := range buses {
		dir := filepath.Join(root, "sys/class/i2c-dev/i2c-"+number)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "name"), []byte(name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// hold has a driver of the kernel take an address.
func hold(t *testing.T, root, device, driver string) {
	t.Helper()
	dir := filepath.Join(root, "sys/bus/i2c/devices", device)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../drivers/"+driver, filepath.Join(dir, "driver")); err != nil {
		t.Fatal(err)
	}
}

// words shows what was found, a line each.
func words(found []sensors.Found) []string {
	var out []string
	for _, f := range found {
		var fits []string
		for _, s := range f.Fits {
			fits = append(fits, s.Driver)
		}
		out = append(out, strings.TrimSpace(strings.Join([]string{f.Place, f.What, strings.Join(fits, ","), f.Note}, "|")))
	}
	return out
}

func TestScanFindsEveryChipOfTheBench(t *testing.T) {
	root := tree(t, map[string]string{"1": "bcm2835 (i2c@7e804000)", "20": "DPDDC-A", "0": "SMBus I801 adapter at f040"})
	hold(t, root, "1-0049", "tmp102")
	tests := []struct {
		name     string
		identify bool
		want     []string
	}{
		{"by address", false, []string{
			"0x18|answers|mcp9808|", "0x1c|answers|mcp9808|", "0x23|answers|bh1750|", "0x38|answers|aht20|", "0x40|answers|ina219|",
			"0x44|answers|sht4x,sht3x|", "0x45|answers|sht3x,sht4x|", "0x48|answers|ads1x15,tmp102,lm75,ina219|", "0x49|held by the kernel's driver tmp102||not touched; see hwmon and iio",
			"0x4b|answers|ads1x15,tmp102,lm75,ina219|", "0x62|answers|scd4x|", "0x76|answers|bmxx80|", "0x77|answers|bmxx80|",
		}},
		{"identified", true, []string{
			"0x18|answers|||no driver here knows a chip at this address", "0x1c|MCP9808|mcp9808|", "0x23|answers|bh1750|", "0x38|answers|aht20|",
			"0x40|INA219|ina219|", "0x44|SHT4x|sht4x|", "0x45|SHT3x|sht3x|", "0x48|ADS1115 or ADS1015|ads1x15|",
			"0x49|held by the kernel's driver tmp102||not touched; see hwmon and iio", "0x4b|answers|lm75|",
			"0x62|SCD4x|scd4x|", "0x76|BME280|bmxx80|", "0x77|BMP280|bmxx80|",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bus.NewBench()
				found, err := i2c.Scanner{Root: root, Open: b.Open, Identify: tt.identify}.Scan(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got := words(found)
				want := append([]string{"|||not looked at: it belongs to the main board; --bus 0 does"}, tt.want...)
				want = append(want, "|||not looked at: it belongs to a display; --bus 20 does")
				for i := range want {
					want[i] = strings.Replace(want[i], "|||no driver", "||no driver", 1)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("found (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// A bus that is not there is an error, and no other is looked at instead.
func TestScanOfOneBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := tree(t, map[string]string{"1": "x", "20": "DPDDC-A"})
		b := bus.NewBench()
		for name, want := range map[string]int{"1": 13, "/dev/i2c-20": 13} { // the bench is behind both
			found, err := i2c.Scanner{Root: root, Open: b.Open, Bus: name}.Scan(t.Context())
			if err != nil || len(found) != want {
				t.Errorf("%s: found %d, %v; want %d", name, len(found), err, want)
			}
		}
		for _, name := range []string{"7", "no-such-link"} {
			if found, err := (i2c.Scanner{Root: root, Open: b.Open, Bus: name}).Scan(t.Context()); err == nil || len(found) > 0 {
				t.Errorf("%s: found %d, no error", name, len(found))
			}
		}
	})
}

// recorder notes what is written to a bus.
type recorder struct {
	periph.BusCloser
	writes map[uint16][]byte
}

func (r *recorder) Tx(addr uint16, w, rd []byte) error {
	r.writes[addr] = append(r.writes[addr], w...)
	return r.BusCloser.Tx(addr, w, rd)
}

// A scan writes to no chip but to Sensirion's.
func TestScanIsReadOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bus.NewBench()
		r := &recorder{b.Bus, map[uint16][]byte{}}
		open := func(string) (periph.BusCloser, error) { return r, nil }
		if _, err := (i2c.Scanner{Root: tree(t, map[string]string{"1": "x"}), Open: open}).Scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		for addr, w := range r.writes {
			sensirion := addr >= 0x44 && addr <= 0x46 || addr == 0x62
			if len(w) > 0 && !sensirion {
				t.Errorf("% x was written to 0x%02x", w, addr)
			}
		}
	})
}

func TestScanOfABadBus(t *testing.T) {
	broken := errors.New("connection timed out")
	tests := []struct {
		name string
		tx   func(addr uint16, w, r []byte) error
		want []string
		err  string
	}{
		{"held low", func(uint16, []byte, []byte) error { return nil }, []string{"|||112 addresses answer: the data line is held low, or there are no pull-ups"}, ""},
		{"hangs", func(uint16, []byte, []byte) error { return broken }, nil, "I2C bus 1 (x) is given up at 0x0a: connection timed out"},
		{"empty", func(uint16, []byte, []byte) error { return bus.ErrNAK }, []string{"|||nothing answers"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := i2c.Scanner{Root: tree(t, map[string]string{"1": "x"}), Open: func(string) (periph.BusCloser, error) { return &scripted{bus.New(), tt.tx}, nil }}
			found, err := s.Scan(t.Context())
			if got := words(found); !cmp.Equal(got, tt.want) {
				t.Errorf("found %q, want %q", got, tt.want)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || err.Error() != tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

// scripted is a bus that does as it is told.
type scripted struct {
	*bus.Bus
	tx func(addr uint16, w, r []byte) error
}

func (s *scripted) Tx(addr uint16, w, r []byte) error { return s.tx(addr, w, r) }
