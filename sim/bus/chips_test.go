package bus

import (
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/ads1x15"
	"periph.io/x/devices/v3/aht20"
	"periph.io/x/devices/v3/bh1750"
	"periph.io/x/devices/v3/ina219"
	"periph.io/x/devices/v3/mcp9808"
	"periph.io/x/devices/v3/scd4x"
	"periph.io/x/devices/v3/tmp102"
)

// surroundings are what the chips of these tests measure.
type surroundings struct{ celsius, pascal, percent, lux, ppm, volts, amps float64 }

func (s *surroundings) air() (celsius, pascal, percent float64) {
	return s.celsius, s.pascal, s.percent
}

// Drivers that others wrote read from the models what the models measure.
func TestDriversOfPeriphAgree(t *testing.T) {
	var s surroundings
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	env := func(t *testing.T, d interface{ Sense(*physic.Env) error }) []float64 {
		var e physic.Env
		must(t, d.Sense(&e))
		return []float64{e.Temperature.Celsius(), float64(e.Humidity) / float64(physic.PercentRH)}
	}
	tests := []struct {
		name string
		open func(t *testing.T) func() []float64
		want func() []float64
		near []float64
	}{
		{
			name: "tmp102", near: []float64{0.032}, want: func() []float64 { return []float64{s.celsius} },
			open: func(t *testing.T) func() []float64 {
				d, err := tmp102.NewI2C(New(NewTMP102(0x48, s.air)), 0x48, nil)
				must(t, err)
				return func() []float64 { return env(t, d)[:1] }
			},
		},
		{
			name: "mcp9808", near: []float64{0.032}, want: func() []float64 { return []float64{s.celsius} },
			open: func(t *testing.T) func() []float64 {
				d, err := mcp9808.New(New(NewMCP9808(0x19, s.air)), &mcp9808.Opts{Addr: 0x19, Res: mcp9808.Maximum})
				must(t, err)
				return func() []float64 { return env(t, d)[:1] }
			},
		},
		{
			name: "aht20", near: []float64{0.001, 0.001}, want: func() []float64 { return []float64{s.celsius, s.percent} },
			open: func(t *testing.T) func() []float64 {
				d, err := aht20.NewI2C(New(NewAHT20(s.air)), nil)
				must(t, err)
				return func() []float64 { return env(t, d) }
			},
		},
		{
			name: "scd4x", near: []float64{0.003, 0.002, 0.5}, want: func() []float64 { return []float64{s.celsius, s.percent, s.ppm} },
			open: func(t *testing.T) func() []float64 {
				d, err := scd4x.NewI2C(New(NewSCD4x(s.air, func() float64 { return s.ppm })), scd4x.SensorAddress)
				must(t, err)
				return func() []float64 {
					var e scd4x.Env
					must(t, d.Sense(&e)) // what was measured before the change
					must(t, d.Sense(&e))
					return []float64{e.Temperature.Celsius(), float64(e.Humidity) / float64(physic.PercentRH), float64(e.CO2)}
				}
			},
		},
		{
			name: "bh1750", near: []float64{1.5}, want: func() []float64 { return []float64{s.lux} }, // periph cuts lux off
			open: func(t *testing.T) func() []float64 {
				d, err := bh1750.NewI2C(New(NewBH1750(0x23, func() float64 { return s.lux })), 0x23)
				must(t, err)
				return func() []float64 {
					lux, err := d.Sense()
					must(t, err)
					return []float64{float64(lux) / float64(physic.Lumen)}
				}
			},
		},
		{
			name: "ina219", near: []float64{0.0021, 0.0002, 0.006}, want: func() []float64 { return []float64{s.volts, s.amps, s.volts * s.amps} },
			open: func(t *testing.T) func() []float64 {
				chip := NewINA219(0x40, 0.1, func() float64 { return s.volts }, func() float64 { return s.amps })
				d, err := ina219.New(New(chip), &ina219.DefaultOpts)
				must(t, err)
				return func() []float64 {
					p, err := d.Sense()
					must(t, err)
					unit := float64(physic.Volt)
					return []float64{float64(p.Voltage) / unit, float64(p.Current) / unit, float64(p.Power) / unit}
				}
			},
		},
		{
			name: "ads1115", near: []float64{0.0001}, want: func() []float64 { return []float64{s.volts / 10} },
			open: func(t *testing.T) func() []float64 {
				chip := NewADS1115(0x48, func(i int) float64 { return s.volts / 10 * float64(i) })
				d, err := ads1x15.NewADS1115(New(chip), &ads1x15.DefaultOpts)
				must(t, err)
				p, err := d.PinForChannel(ads1x15.Channel1, 3*physic.Volt, 100*physic.Hertz, ads1x15.BestQuality)
				must(t, err)
				return func() []float64 {
					// periph waits for as long as a chip takes whose clock is right, and then
					// reads the conversion before: this chip's clock is 10 % slow.
					_, err := p.Read()
					must(t, err)
					time.Sleep(time.Second)
					v, err := p.Read()
					must(t, err)
					return []float64{float64(v.V) / float64(physic.Volt)}
				}
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s = surroundings{20, 100000, 50, 100, 600, 12, 0.5}
				read := tt.open(t)
				for _, c := range []float64{20, -9.75, 0, 41.5, -0.0625} {
					s = surroundings{c, 100000, 50 + c, 100 + c, 700 + 10*math.Round(c), 12 + c/10, 0.5 + c/100}
					time.Sleep(10 * time.Second)
					got, want := read(), tt.want()
					if !slices.EqualFunc(got, want, func(a, b float64) bool { return math.Abs(a-b) <= tt.near[slices.Index(want, b)] }) {
						t.Errorf("read %v, want %v", got, want)
					}
				}
			})
		})
	}
}

// What periph's drivers give without an error where there is nothing to read: why
// sensors/i2c has drivers of its own. When one of these fails, look at
// docs/design/005-own-chip-drivers.md again.
func TestWhatPeriphTakesForReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := surroundings{celsius: 21.5, volts: 12, amps: 0.5}
		check := func(what string, got, truth, want float64, err error) {
			t.Helper()
			if err != nil || math.Abs(got-want) > 0.001 || math.Abs(got-truth) < 0.1 {
				t.Errorf("%s: %v, %v; it was %v, the truth is %v", what, got, err, want, truth)
			}
		}
		var e physic.Env

		tmp := NewTMP102(0x48, s.air)
		d1, err := tmp102.NewI2C(New(tmp), 0x48, nil)
		if err != nil {
			t.Fatal(err)
		}
		tmp.SetFault(AllOnes)
		err = d1.Sense(&e)
		check("tmp102 at 0xff", e.Temperature.Celsius(), s.celsius, -0.0625, err)

		mcp := NewMCP9808(0x18, s.air)
		d2, err := mcp9808.New(New(mcp), &mcp9808.DefaultOpts)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		mcp.PowerCycle()
		err = d2.Sense(&e)
		check("mcp9808 after its power went", e.Temperature.Celsius(), s.celsius, 0, err)

		ina := NewINA219(0x40, 0.1, func() float64 { return s.volts }, func() float64 { return s.amps })
		d3, err := ina219.New(New(ina), &ina219.DefaultOpts)
		if err != nil {
			t.Fatal(err)
		}
		ina.PowerCycle()
		time.Sleep(time.Second)
		p, err := d3.Sense()
		check("ina219 after its power went", float64(p.Current)/float64(physic.Ampere), s.amps, 0, err)

		ads := NewADS1115(0x48, func(i int) float64 { return float64(i) })
		d4, err := ads1x15.NewADS1115(New(ads), &ads1x15.DefaultOpts)
		if err != nil {
			t.Fatal(err)
		}
		read := func(c ads1x15.Channel) (float64, error) {
			pin, err := d4.PinForChannel(c, 3*physic.Volt, 8*physic.Hertz, ads1x15.BestQuality)
			if err != nil {
				t.Fatal(err)
			}
			v, err := pin.Read()
			return float64(v.V) / float64(physic.Volt), err
		}
		_, _ = read(ads1x15.Channel1)
		time.Sleep(time.Second)
		v, err := read(ads1x15.Channel2)
		check("ads1115, an input after another", v, 2, 1, err)
	})
}

// Answers that stand in data sheets.
func TestChecksumOfTheDataSheets(t *testing.T) {
	if got := crc8([]byte{0xBE, 0xEF}); got != 0x92 { // Sensirion, all of them
		t.Errorf("CRC of BE EF is %#x, want 0x92", got)
	}
}

func TestChipsForgetTheirSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s surroundings
		zero := func() float64 { return 0 }
		tests := []struct {
			name         string
			chip         Breakable
			write, probe []byte // then read one word
		}{
			{"tmp102", NewTMP102(0x48, s.air), []byte{1, 0x60, 0xE0}, []byte{1}},
			{"lm75", NewLM75(0x48, s.air), []byte{1, 0x08}, []byte{1}},
			{"mcp9808", NewMCP9808(0x18, s.air), []byte{1, 0x02, 0x00}, []byte{1}},
			{"aht20", NewAHT20(s.air), []byte{0xBE, 0x08, 0x00}, []byte{0x71}},
			{"ina219", NewINA219(0x40, 0.1, zero, zero), []byte{0, 0x3E, 0x67}, []byte{0}},
			{"ads1115", NewADS1115(0x48, func(int) float64 { return 0 }), []byte{1, 0x45, 0x83}, []byte{1}},
		}
		for _, tt := range tests {
			read := func() [2]byte {
				var r [2]byte
				if err := tt.chip.Tx(tt.probe, r[:]); err != nil {
					t.Fatal(tt.name, err)
				}
				return r
			}
			fresh := read()
			for name, lose := range map[string]func(){
				"power cycle": tt.chip.PowerCycle,
				"replugged":   func() { tt.chip.SetFault(Unplugged); tt.chip.SetFault(None) },
			} {
				if err := tt.chip.Tx(tt.write, nil); err != nil {
					t.Fatal(tt.name, err)
				}
				if read() == fresh {
					t.Errorf("%s: takes no settings", tt.name)
				}
				tt.chip.SetFault(NAK)
				tt.chip.SetFault(None)
				if read() == fresh {
					t.Errorf("%s: settings are lost without reason", tt.name)
				}
				lose()
				if got := read(); got != fresh {
					t.Errorf("%s, %s: % x, want % x", tt.name, name, got, fresh)
				}
			}
		}
	})
}

// Every fault changes what is read as it says.
func TestFaultsOfAChip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		celsius := 20.0
		chip := NewMCP9808(0x18, func() (float64, float64, float64) { return celsius, 0, 0 })
		read := func() float64 {
			time.Sleep(time.Second)
			var r [2]byte
			if err := chip.Tx([]byte{mcpTemperature}, r[:]); err != nil {
				t.Fatal(err)
			}
			return float64(int16(uint16(r[0])<<11|uint16(r[1])<<3)>>3) / 16
		}
		if got := read(); got != 20 {
			t.Fatalf("read %v, want 20", got)
		}
		chip.SetFault(Frozen)
		read()
		celsius = 30
		if got := read(); got != 20 {
			t.Errorf("frozen: %v, want 20", got)
		}
		chip.SetFault(Noisy)
		seen := map[float64]bool{}
		for range 20 {
			got := read()
			seen[got] = true
			if math.Abs(got-30) > 165.0/4 {
				t.Errorf("noisy: %v", got)
			}
		}
		if len(seen) < 10 {
			t.Errorf("noise has %d values in 20", len(seen))
		}
		chip.SetFault(Drifting)
		time.Sleep(time.Hour / 2)
		if got := read(); math.Abs(got-30-165.0/2) > 1 {
			t.Errorf("drifting for half an hour: %v", got)
		}
		chip.SetFault(Slow)
		start := time.Now()
		if got := read(); got != 30 || time.Since(start) != time.Second+slowness {
			t.Errorf("slow: %v after %v", got, time.Since(start))
		}
		chip.SetFault(Corrupt)
		wrong := 0
		for range 20 {
			if read() != 30 { // three of the 16 bits are no part of the temperature
				wrong++
			}
		}
		if wrong < 10 {
			t.Errorf("corrupt: wrong %d times of 20", wrong)
		}
		chip.SetFault(AllZeros)
		if got := read(); got != 0 {
			t.Errorf("all zeros: %v", got)
		}
		chip.SetFault(None)
		if got := read(); got != 30 {
			t.Errorf("read %v, want 30", got)
		}
	})
}

// The chips are as quick as the data sheets say and no quicker.
func TestConversionsTakeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := surroundings{celsius: 20, percent: 50}
		sht := NewSHT4x(0x44, s.air)
		r := make([]byte, 6)
		if err := sht.Tx(nil, r); !errors.Is(err, ErrNAK) {
			t.Errorf("a read before a command: %v, want ErrNAK", err)
		}
		if err := sht.Tx([]byte{0xFD}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
		if err := sht.Tx(nil, r); !errors.Is(err, ErrNAK) {
			t.Errorf("a read after 5ms: %v, want ErrNAK", err)
		}
		time.Sleep(2 * time.Millisecond)
		if err := sht.Tx(nil, r); err != nil || crc8(r[:2]) != r[2] || crc8(r[3:5]) != r[5] {
			t.Errorf("a read after 7ms: % x, %v", r, err)
		}
		ads := NewADS1115(0x48, func(int) float64 { return 1 })
		if err := ads.Tx([]byte{1, 0xC3, 0x83}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second / 128)
		if err := ads.Tx([]byte{1}, r[:2]); err != nil || r[0]&0x80 != 0 {
			t.Errorf("a slow clock: done after 7.8ms (% x, %v)", r[:2], err)
		}
		time.Sleep(time.Second / 1000)
		if err := ads.Tx([]byte{1}, r[:2]); err != nil || r[0]&0x80 == 0 {
			t.Errorf("not done after 8.8ms (% x, %v)", r[:2], err)
		}
	})
}
