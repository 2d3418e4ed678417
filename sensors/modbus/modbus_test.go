package modbus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/simonvetter/modbus"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/sensortest"
)

// device is what a simulated device holds. What is absent is refused, as many devices
// do.
type device struct {
	mu       sync.Mutex
	holding  map[uint16]uint16
	input    map[uint16]uint16
	bits     map[uint16]bool
	requests []string
	talking  bool
	overlap  bool // two requests at once
	fail     error
}

func (d *device) read(unit uint8, table string, first, count uint16) ([]uint16, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.requests = append(d.requests, fmt.Sprintf("%d %s %d+%d", unit, table, first, count))
	if d.fail != nil {
		return nil, d.fail
	}
	from := d.holding
	if table == "input" {
		from = d.input
	}
	var out []uint16
	for a := first; a < first+count; a++ {
		v, ok := from[a]
		if !ok {
			return nil, modbus.ErrIllegalDataAddress
		}
		out = append(out, v)
	}
	return out, nil
}

func (d *device) readBits(first, count uint16) ([]bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []bool
	for a := first; a < first+count; a++ {
		v, ok := d.bits[a]
		if !ok {
			return nil, modbus.ErrIllegalDataAddress
		}
		out = append(out, v)
	}
	return out, nil
}

func (d *device) asked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.requests
	d.requests = nil
	return out
}

// float32At puts a float into two registers.
func (d *device) float32At(address uint16, v float32) {
	raw := math.Float32bits(v)
	d.input[address], d.input[address+1] = uint16(raw>>16), uint16(raw)
}

// The library's server handles requests with these.
func (d *device) HandleCoils(r *modbus.CoilsRequest) ([]bool, error) {
	return d.readBits(r.Addr, r.Quantity)
}

func (d *device) HandleDiscreteInputs(r *modbus.DiscreteInputsRequest) ([]bool, error) {
	return d.readBits(r.Addr, r.Quantity)
}

func (d *device) HandleHoldingRegisters(r *modbus.HoldingRegistersRequest) ([]uint16, error) {
	if r.IsWrite {
		return nil, errors.New("somebody writes")
	}
	return d.read(r.UnitId, "holding", r.Addr, r.Quantity)
}

func (d *device) HandleInputRegisters(r *modbus.InputRegistersRequest) ([]uint16, error) {
	return d.read(r.UnitId, "input", r.Addr, r.Quantity)
}

// serve runs the library's TCP server and returns the URL of it.
func serve(t *testing.T, d *device) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "tcp://" + l.Addr().String()
	l.Close()
	s, err := modbus.NewServer(&modbus.ServerConfiguration{URL: url, Timeout: 10 * time.Second, MaxClients: 5, Logger: log.New(io.Discard, "", 0)}, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	return url
}

func newDevice() *device {
	return &device{holding: map[uint16]uint16{}, input: map[uint16]uint16{}, bits: map[uint16]bool{}}
}

func open(t *testing.T, c *Config) sensors.Source {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	s, err := c.Open(t.Context(), sensortest.Env("meter"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// readings lists what a sample gave, by metric.
func readings(rs []edgeagent.Reading) map[string]float64 {
	out := map[string]float64{}
	for _, r := range rs {
		out[r.Series.Key().Metric] = r.Value
	}
	return out
}

// tenRegisters is a device with a bit of everything, and the registers to read it.
func tenRegisters() (*device, []Register, map[string]float64) {
	d := newDevice()
	d.float32At(0, 230.5)
	d.float32At(6, 1.25)
	d.holding = map[uint16]uint16{10: 0xfffe, 11: 2301, 20: 0x1234, 21: 0x0001, 30: 0xabcd, 31: 1234, 32: 0xfffe, 33: 0xffff, 40: 0x3412}
	d.bits = map[uint16]bool{5: true, 6: false}
	list := []Register{
		{Metric: "voltage", Table: "input", Type: "f32", Unit: "V"},
		{Metric: "current", Table: "input", Address: 6, Type: "f32"},
		{Metric: "signed", Address: 10, Type: "s16"},
		{Metric: "tenths", Address: 11, Scale: 0.1},
		{Metric: "low_first", Address: 20, Type: "u32", WordOrder: "low_first"},
		{Metric: "masked", Address: 30, Mask: 0x0ff0},
		{Metric: "sunspec", Address: 31, ScaleRegister: new(uint16(32)), Offset: 1},
		{Metric: "absent", Address: 33, Invalid: new(uint64(0xffff))},
		{Metric: "swapped", Address: 40, ByteOrder: "low_first"},
		{Metric: "on", Table: "coil", Address: 5, Kind: "state"},
		{Metric: "off", Table: "discrete", Address: 6},
	}
	want := map[string]float64{
		"voltage": 230.5, "current": 1.25, "signed": -2, "tenths": 230.1, "low_first": 0x00011234, "masked": 0xbc,
		"sunspec": 13.34, "swapped": 0x1234, "on": 1, "off": 0,
	}
	return d, list, want
}

func TestTCP(t *testing.T) {
	d, list, want := tenRegisters()
	c := Default()
	c.URL, c.Unit, c.Registers = serve(t, d), 7, list
	s := open(t, c)
	for range 2 {
		rs, err := s.Sample(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, readings(rs)); diff != "" {
			t.Errorf("readings (-want +got):\n%s", diff)
		}
	}
	asked := []string{"7 holding 10+2", "7 holding 20+2", "7 holding 30+4", "7 holding 40+1", "7 input 0+2", "7 input 6+2"}
	if diff := cmp.Diff(append(asked, asked...), d.asked()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// A device that refuses some registers gives the others.
func TestRefused(t *testing.T) {
	d, list, want := tenRegisters()
	delete(d.input, 6)
	delete(want, "current")
	c := Default()
	c.URL, c.Registers = serve(t, d), list
	s := open(t, c)
	rs, err := s.Sample(t.Context(), nil)
	if !errors.Is(err, modbus.ErrIllegalDataAddress) || !strings.Contains(err.Error(), "read input 6 to 7 of unit 1") {
		t.Errorf("got %v", err)
	}
	if h, ok := errors.AsType[edgeagent.Hinter](err); !ok || !strings.Contains(h.Hint(), "count from 0") {
		t.Errorf("no hint: %v", err)
	}
	if diff := cmp.Diff(want, readings(rs)); diff != "" {
		t.Errorf("readings (-want +got):\n%s", diff)
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := Default()
	c.URL, c.Registers = "tcp://"+l.Addr().String(), []Register{{Metric: "a"}}
	s := open(t, c)
	for _, want := range []string{"refused", "tried again in"} {
		if _, err := s.Sample(t.Context(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestExpect(t *testing.T) {
	d := newDevice()
	d.holding = map[uint16]uint16{0: 0x5375, 1: 0x6e53, 2: 9}
	url := serve(t, d)
	for equals, want := range map[uint64]string{0x53756e53: "", 0x53756e54: "reads 0x53756e53, want 0x53756e54"} {
		c := Default()
		c.URL, c.Preset = url, "x.yaml"
		c.preset = Template{Version: 1, Expect: []Expect{{Address: 0, Type: "u32", Equals: equals}}, Registers: []Register{{Metric: "a", Address: 2}}}
		s := open(t, c)
		rs, err := s.Sample(t.Context(), nil)
		if want == "" && (err != nil || len(rs) != 1) || want != "" && (err == nil || !strings.Contains(err.Error(), want) || len(rs) > 0) {
			t.Errorf("%#x: %v, %v", equals, rs, err)
		}
	}
}

// fakeBus counts connections and sees whether two talk at once.
type fakeBus struct {
	mu    sync.Mutex
	open  int
	dials []time.Time
	fail  error
	took  time.Duration // of a dial
	dev   *device
	slow  map[uint8]time.Duration // units that do not answer
}

func (b *fakeBus) dial(string, *Config) (client, error) {
	time.Sleep(b.took)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dials = append(b.dials, time.Now())
	if b.fail != nil {
		return nil, b.fail
	}
	b.open++
	return b, nil
}

func (b *fakeBus) registers(unit uint8, table string, first, count uint16) ([]uint16, error) {
	b.dev.mu.Lock()
	if b.dev.talking {
		b.dev.overlap = true
	}
	b.dev.talking = true
	b.dev.mu.Unlock()
	wait, dead := b.slow[unit]
	time.Sleep(max(wait, 10*time.Millisecond))
	b.dev.mu.Lock()
	b.dev.talking = false
	b.dev.mu.Unlock()
	if dead {
		return nil, modbus.ErrRequestTimedOut
	}
	return b.dev.read(unit, table, first, count)
}

func (b *fakeBus) bits(uint8, string, uint16, uint16) ([]bool, error) { return nil, nil }
func (b *fakeBus) close() error                                       { b.mu.Lock(); b.open--; b.mu.Unlock(); return nil }

func TestOneConnectionForABus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fakeBus{dev: newDevice(), slow: map[uint8]time.Duration{9: time.Second}}
		b.dev.holding[0] = 42
		p := newPool(b.dial)
		var list []sensors.Source
		for unit := range uint8(10) {
			c := Default()
			c.URL, c.Unit, c.pool, c.Registers = "rtu:///dev/ttyUSB0", unit, p, []Register{{Metric: "a"}}
			s, err := c.Open(t.Context(), sensortest.Env(fmt.Sprint("m", unit)))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, s)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := map[int]int{}
		for i, s := range list {
			wg.Go(func() {
				for range 5 {
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
					rs, _ := s.Sample(ctx, nil)
					cancel()
					mu.Lock()
					got[i] += len(rs)
					mu.Unlock()
					time.Sleep(time.Second)
				}
			})
		}
		wg.Wait()
		if b.dev.overlap {
			t.Error("two talked at once")
		}
		for i := range 9 {
			if got[i] != 5 {
				t.Errorf("unit %d gave %d readings beside one that does not answer", i, got[i])
			}
		}
		// The silent unit may have been the last to talk, and its connection is closed.
		if got[9] != 0 || len(b.dials) < 2 || len(b.dials) > 6 || b.open > 1 {
			t.Errorf("unit 9 gave %d; %d dials, %d open", got[9], len(b.dials), b.open)
		}
		if rs, err := list[0].Sample(t.Context(), nil); err != nil || len(rs) != 1 || b.open != 1 {
			t.Errorf("afterwards unit 0 gave %d readings, %v; %d open", len(rs), err, b.open)
		}
		for _, s := range list {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if b.open != 0 {
			t.Errorf("%d connections are left", b.open)
		}
	})
}

func TestDialBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fakeBus{dev: newDevice(), fail: errors.New("no route"), took: 5 * time.Second}
		b.dev.holding[0] = 42
		c := Default()
		c.URL, c.pool, c.Registers = "tcp://10.0.0.1", newPool(b.dial), []Register{{Metric: "a"}}
		s, err := c.Open(t.Context(), sensortest.Env("m"))
		if err != nil {
			t.Fatal(err)
		}
		sample := func() (n int, took time.Duration, err error) {
			begun := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			rs, err := s.Sample(ctx, nil)
			return len(rs), time.Since(begun), err
		}
		if _, took, err := sample(); took != 2*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a dial that takes 5 s held the sample for %s: %v", took, err)
		}
		for range 600 {
			if _, took, err := sample(); took > 2*time.Second || err == nil {
				t.Fatalf("%v after %s", err, took)
			}
			time.Sleep(time.Second)
		}
		if n := len(b.dials); n < 8 || n > 20 {
			t.Errorf("%d dials in 10 minutes", n)
		}
		b.fail, b.took = nil, 0
		time.Sleep(time.Minute)
		if n, _, err := sample(); n != 1 || err != nil {
			t.Errorf("when it is back: %d, %v", n, err)
		}
		b.took = 5 * time.Second
		b.dev.fail = modbus.ErrRequestTimedOut
		_, _, _ = sample()
		b.fail = errors.New("gone")
		_, _, _ = sample() // a dial is under way
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if b.open != 0 {
			t.Errorf("%d connections are left", b.open)
		}
	})
}

func TestConformance(t *testing.T) {
	sensortest.Run(t, func(t *testing.T, env sensors.Env) sensors.Source {
		b := &fakeBus{dev: newDevice()}
		b.dev.holding[0] = 42
		c := Default()
		c.URL, c.pool, c.Registers = "tcp://10.0.0.1", newPool(b.dial), []Register{{Metric: "a"}}
		s, err := c.Open(t.Context(), env)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// TestPlan: whatever is asked for is asked for once, in requests that hold to the
// limits.
func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		types := rapid.SampledFrom([]string{"u16", "s32", "f64"})
		tables := rapid.SampledFrom([]string{"", "input"})
		var list []Register
		for i := range rapid.IntRange(0, 40).Draw(t, "n") {
			list = append(list, Register{
				Metric: strconv.Itoa(i), Table: tables.Draw(t, "table"), Type: types.Draw(t, "type"),
				Address: uint16(rapid.IntRange(0, 300).Draw(t, "address")),
			})
		}
		limit, gap := rapid.IntRange(4, 125).Draw(t, "limit"), rapid.IntRange(0, 20).Draw(t, "gap")
		wanted := map[place]bool{}
		for _, r := range list {
			for i := range r.words() {
				wanted[place{tableOf(r.Table), r.Address + uint16(i)}] = true
			}
		}
		seen := map[int]bool{}
		for _, q := range plan(list, limit, gap) {
			if q.count() > limit || q.count() < 1 {
				t.Fatalf("%d registers in a request, limit %d", q.count(), limit)
			}
			unasked := 0
			for a := q.first; a <= q.last; a++ {
				if !wanted[place{q.table, uint16(a)}] {
					unasked++
				} else {
					unasked = 0
				}
				if unasked > gap {
					t.Fatalf("more than %d registers nobody asked for: %+v", gap, q)
				}
			}
			for _, i := range q.items {
				r := list[i]
				if seen[i] || tableOf(r.Table) != q.table || int(r.Address) < q.first || int(r.Address)+r.words()-1 > q.last {
					t.Fatalf("value %d is not whole in %+v, or twice", i, q)
				}
				seen[i] = true
			}
		}
		if len(seen) != len(list) {
			t.Fatalf("%d of %d values are read", len(seen), len(list))
		}
	})
}

func TestValidate(t *testing.T) {
	good := func() *Config {
		c := Default()
		c.URL, c.Registers = "tcp://h", []Register{{Metric: "a"}}
		return c
	}
	tests := []struct {
		name, want string
		change     func(*Config)
	}{
		{"least", "", func(*Config) {}},
		{"rtu", "", func(c *Config) { c.URL = "rtu:///dev/ttyUSB0" }},
		{"ipv6", "", func(c *Config) { c.URL = "tcp://[fe80::1]:1502" }},
		{"no url", "url: missing key url", func(c *Config) { c.URL = "" }},
		{"a path", `url: "tcp://h/x" names neither`, func(c *Config) { c.URL = "tcp://h/x" }},
		{"rtu with a host", `url: "rtu://dev/ttyUSB0" names neither`, func(c *Config) { c.URL = "rtu://dev/ttyUSB0" }},
		{"password", "url: more than a host", func(c *Config) { c.URL = "tcp://u:p@h" }},
		{"unit", "unit: 248 is out of range", func(c *Config) { c.Unit = 248 }},
		{"nothing to read", "registers: nothing is read", func(c *Config) { c.Registers = nil }},
		{"twice", `registers[1].metric: "a" is there twice`, func(c *Config) { c.Registers = append(c.Registers, c.Registers[0]) }},
		{"in the preset", `registers[0].metric: "a" is there twice`, func(c *Config) { c.preset.Registers = c.Registers }},
		{"type", `registers[0].type: "int" is not possible, want u16, s16`, func(c *Config) { c.Registers[0].Type = "int" }},
		{"beyond the end", "registers[0].address: 65535 is too high", func(c *Config) { c.Registers[0].Address, c.Registers[0].Type = 65535, "u32" }},
		{"a coil is a bit", "registers[0].type: a coil", func(c *Config) { c.Registers[0].Table, c.Registers[0].Type = "coil", "u16" }},
		{"mask", "registers[0].mask: only an unsigned", func(c *Config) { c.Registers[0].Mask, c.Registers[0].Type = 1, "s16" }},
		{"labels", "registers[0].labels: only a state", func(c *Config) { c.Registers[0].Labels = map[string]string{"1": "x"} }},
		{"speed", "speed: 1 is out of range", func(c *Config) { c.Speed = 1 }},
		{"parity", `parity: "E" is not possible`, func(c *Config) { c.Parity = "E" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := good()
			tt.change(c)
			got := ""
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// FuzzValue: whatever a device says is a number, or is left out.
func FuzzValue(f *testing.F) {
	f.Add("f32", uint64(0x7fc00000), uint64(0), uint16(0), 0.1)
	f.Add("s64", uint64(1)<<63, uint64(0), uint16(0x8000), 1e300)
	f.Add("u16", uint64(0xffff), uint64(0xf0), uint16(0xffff), 0.0)
	f.Fuzz(func(t *testing.T, kind string, raw, mask uint64, sf uint16, scale float64) {
		r := Register{Metric: "x", Type: kind, Mask: mask, Scale: scale, ScaleRegister: new(uint16(1))}
		if r.validate() != nil {
			return
		}
		v, ok := r.number(raw)
		if ok && (math.IsNaN(v) || math.IsInf(v, 0)) {
			t.Errorf("%v is taken", v)
		}
		if e, ok := exponent(sf); ok && (e < -10 || e > 10) {
			t.Errorf("exponent %d", e)
		}
		s := &source{list: []Register{r}, words: map[place]uint16{{"holding", 1}: sf}}
		for i := range r.words() {
			s.words[place{"holding", uint16(i)}] = uint16(raw >> (16 * i))
		}
		if v, ok := s.value(r); ok && math.IsNaN(v) {
			t.Errorf("%v is given", v)
		}
	})
}
