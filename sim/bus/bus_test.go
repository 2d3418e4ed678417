package bus

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/bmxx80"
)

// Bosch's worked example: BMP280 data sheet BST-BMP280-DS001, section 3.12.
func TestWorkedExample(t *testing.T) {
	c := sample280
	centi, fine := c.temperature(519888)
	if centi != 2508 {
		t.Errorf("temperature of UT 519888 is %d, want 2508", centi)
	}
	if pa := float64(c.pressure(415148, fine)) / 256; math.Abs(pa-100653.27) > 0.05 {
		t.Errorf("pressure of UP 415148 is %.3f Pa, want 100653.27", pa)
	}
}

// read takes one measurement with the real driver.
func read(t *testing.T, d *bmxx80.Dev) (celsius, pascal, percent float64) {
	t.Helper()
	var e physic.Env
	if err := d.Sense(&e); err != nil {
		t.Fatal(err)
	}
	return e.Temperature.Celsius(), float64(e.Pressure) / float64(physic.Pascal), float64(e.Humidity) / float64(physic.PercentRH)
}

func TestRealDriverReadsWhatTheAirIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var air [3]float64
		chip := NewBME280(0x76, func() (float64, float64, float64) { return air[0], air[1], air[2] })
		d, err := bmxx80.NewI2C(New(chip), 0x76, &bmxx80.DefaultOpts)
		if err != nil {
			t.Fatal(err)
		}
		check := func() {
			c, p, h := read(t, d)
			if math.Abs(c-air[0]) > 0.0051 || math.Abs(p-air[1]) > 0.5 || math.Abs(h-air[2]) > 0.02 {
				t.Errorf("air %v reads as %.3f °C, %.2f Pa, %.3f %%", air, c, p, h)
			}
		}
		air = [3]float64{25.08, 100653, 46.33}
		check()
		for c := -20.0; c <= 60; c += 8 {
			for p := 30000.0; p <= 110000; p += 10000 {
				for h := 0.0; h <= 100; h += 12.5 {
					air = [3]float64{c, p, h}
					check()
				}
			}
		}
	})
}

func TestMeasurementTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip := NewBME280(0x76, func() (float64, float64, float64) { return 20, 100000, 50 })
		time.Sleep(startTime)
		tx := func(w ...byte) byte {
			var r [1]byte
			if err := chip.Tx(w, r[:]); err != nil {
				t.Fatal(err)
			}
			return r[0]
		}
		tx(regCtrlHum, 1)
		tx(regCtrlMeas, 1<<5|1<<2|1) // once each: 1 + 2 + 2.5 + 2.5 ms
		if tx(regStatus)&measuring == 0 {
			t.Error("no measurement under way after forced mode was set")
		}
		if got := tx(regData); got != skipped20>>12 {
			t.Errorf("data register %#x changed before the measurement ended", got)
		}
		time.Sleep(8 * time.Millisecond)
		if tx(regStatus)&measuring != 0 {
			t.Error("still measuring after 8ms")
		}
		if tx(regData) == skipped20>>12 {
			t.Error("no data after the measurement")
		}
		if mode := tx(regCtrlMeas) & 3; mode != 0 {
			t.Errorf("mode %d after a forced measurement, want sleep", mode)
		}
	})
}

func TestPowerCycleForgetsTheSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip := NewBME280(0x76, func() (float64, float64, float64) { return 20, 100000, 50 })
		d, err := bmxx80.NewI2C(New(chip), 0x76, &bmxx80.DefaultOpts)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, h := read(t, d); math.Abs(h-50) > 0.1 {
			t.Fatalf("humidity %v", h)
		}
		for name, lose := range map[string]func(){
			"power cycle": chip.PowerCycle,
			"soft reset":  func() { _ = chip.Tx([]byte{regReset, resetWord}, nil) },
			"replugged":   func() { chip.SetFault(Unplugged); chip.SetFault(None) },
		} {
			lose()
			if _, _, h := read(t, d); math.Abs(h-50) < 0.1 {
				t.Errorf("%s: humidity is still measured; a real chip has forgotten that it should", name)
			}
			if d, err = bmxx80.NewI2C(New(chip), 0x76, &bmxx80.DefaultOpts); err != nil {
				t.Fatal(err)
			}
			if _, _, h := read(t, d); math.Abs(h-50) > 0.1 {
				t.Errorf("%s: humidity %v after a new start", name, h)
			}
		}
	})
}

func TestNormalModeMeasuresAtEachRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		celsius := 20.0
		chip := NewBME280(0x76, func() (float64, float64, float64) { return celsius, 100000, 50 })
		opts := bmxx80.DefaultOpts
		opts.Filter, opts.Standby = bmxx80.F2, time.Second
		d, err := bmxx80.NewI2C(New(chip), 0x76, &opts)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for celsius = 20; celsius < 25; celsius++ {
			if c, _, _ := read(t, d); math.Abs(c-celsius) > 0.01 {
				t.Errorf("read %v, want %v", c, celsius)
			}
		}
	})
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip := NewBME280(0x76, func() (float64, float64, float64) { return 20, 100000, 50 })
		b := New(chip)
		r := make([]byte, 2)
		if err := b.Tx(0x77, []byte{regID}, r); !errors.Is(err, ErrNAK) {
			t.Errorf("empty address: %v, want ErrNAK", err)
		}
		for _, f := range []Fault{NAK, Unplugged} {
			chip.SetFault(f)
			if err := b.Tx(0x76, []byte{regID}, r); !errors.Is(err, ErrNAK) {
				t.Errorf("%v: %v, want ErrNAK", f, err)
			}
		}
		chip.SetFault(AllOnes)
		if err := b.Tx(0x76, []byte{regID}, r); err != nil || r[0] != 0xFF || r[1] != 0xFF {
			t.Errorf("all ones: %v, % x", err, r)
		}
		chip.SetFault(Stuck)
		done := make(chan struct{}, 2)
		for range 2 {
			go func() {
				if err := b.Tx(0x76, []byte{regID}, make([]byte, 1)); err != nil {
					t.Errorf("after stuck: %v", err)
				}
				done <- struct{}{}
			}()
		}
		time.Sleep(time.Hour)
		if len(done) != 0 {
			t.Error("a stuck transaction returned")
		}
		chip.SetFault(None)
		<-done
		<-done
	})
}

func TestGreenhouseCrossesThirtyDegrees(t *testing.T) {
	for seed := range uint64(50) {
		g := Greenhouse{Weather: Weather{Seed: seed}}
		var above time.Duration
		crossings := 0
		was := false
		const step = 100 * time.Millisecond
		for at := time.Duration(0); at < 10*time.Minute; at += step {
			c, p, h := g.At(at)
			if c < 20 || c > 40 || p < 95000 || p > 105000 || h < 0 || h > 100 {
				t.Fatalf("seed %d at %v: %v °C, %v Pa, %v %%", seed, at, c, p, h)
			}
			if c > 30 {
				above += step
				if !was {
					crossings++
				}
			}
			was = c > 30
			if c2, p2, h2 := g.At(at); c2 != c || p2 != p || h2 != h {
				t.Fatalf("seed %d at %v: two answers", seed, at)
			}
		}
		if crossings < 30 || crossings > 33 { // noise may split one in two
			t.Errorf("seed %d: %d crossings in 10 minutes, want one every 20s", seed, crossings)
		}
		if per := above / 30; per < 2*time.Second || per > 6*time.Second {
			t.Errorf("seed %d: %v above 30 °C each time", seed, per)
		}
	}
}

func TestSeedsDiffer(t *testing.T) {
	a, _, _ := Weather{Seed: 1}.At(time.Second)
	b, _, _ := Weather{Seed: 2}.At(time.Second)
	if a == b {
		t.Error("two seeds give the same weather")
	}
}
