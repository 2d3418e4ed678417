package gpio

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/sensortest"
)

func config(change func(*Config)) *Config {
	c := Default()
	c.Line = "GPIO17"
	change(c)
	return c
}

func TestConformance(t *testing.T) {
	for _, mode := range []string{ModeLevel, ModeEdge, ModeCounter} {
		t.Run(mode, func(t *testing.T) {
			sensortest.Run(t, func(t *testing.T, env sensors.Env) sensors.Source {
				env.State = t.TempDir()
				s, err := config(func(c *Config) { c.Mode = mode }).open(env, newFakeChip("GPIO17").opener)
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name, want string
		change     func(*Config)
	}{
		{"a name", "", func(*Config) {}},
		{"chip and offset", "", func(c *Config) { c.Chip, c.Line = "gpiochip0", "17" }},
		{"both in one", "", func(c *Config) { c.Line = "gpiochip0:17" }},
		{"a name with a colon", "", func(c *Config) { c.Line = "P1:a" }},
		{"nothing", "line: missing key line", func(c *Config) { c.Line = "" }},
		{"an offset without a chip", "chip: missing key chip", func(c *Config) { c.Line = "17" }},
		{"two chips", "line: names a chip, and so does the key chip", func(c *Config) { c.Chip, c.Line = "a", "gpiochip0:1" }},
		{"far beyond", "line: no chip has a line 99999999999999999999", func(c *Config) { c.Chip, c.Line = "a", "99999999999999999999" }},
		{"active", `active: "up" is not possible, want high, low`, func(c *Config) { c.Active = "up" }},
		{"an edge without a counter", "edge: is for counters", func(c *Config) { c.Edge = "both" }},
		{"debounce", "debounce: 2s is out of range, want 0s to 1s", func(c *Config) { c.Debounce = 2 * time.Second }},
		{"labels", `labels.2: a line is "0" or "1"`, func(c *Config) { c.Labels = map[string]string{"2": "x"} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := config(tt.change).Validate(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// sampler samples a source as often as the scheduler would and writes down what it
// says.
func values(t *testing.T, s sensors.Source) []float64 {
	t.Helper()
	rs, err := s.Sample(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []float64
	for _, r := range rs {
		out = append(out, r.Value)
	}
	return out
}

func TestLevel(t *testing.T) {
	chip := newFakeChip("GPIO17")
	s, err := config(func(c *Config) { c.Labels = map[string]string{"0": "closed", "1": "open"} }).open(sensortest.Env("door"), chip.opener)
	if err != nil {
		t.Fatal(err)
	}
	if got := values(t, s); !cmp.Equal(got, []float64{0}) {
		t.Errorf("got %v", got)
	}
	chip.lines["GPIO17"].to(true)
	rs, err := s.Sample(t.Context(), nil)
	if err != nil || rs[0].Value != 1 || rs[0].Series.Key().Kind != edgeagent.State {
		t.Errorf("got %v, %v", rs, err)
	}
	if label, _ := rs[0].Series.Key().Labels.Get("1"); label != "open" {
		t.Errorf("1 is %q", label)
	}
	chip.lines["GPIO17"].failWith = syscall.EIO
	if _, err := s.Sample(t.Context(), nil); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v", err)
	}
	if allocs := testing.AllocsPerRun(100, func() { chip.lines["GPIO17"].failWith = nil; rs, _ = s.Sample(t.Context(), rs[:0]) }); allocs > 0 {
		t.Errorf("%v allocations a sample", allocs)
	}
}

func TestEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip := newFakeChip("GPIO17")
		l := chip.lines["GPIO17"]
		s, err := config(func(c *Config) { c.Mode = ModeEdge }).open(sensortest.Env("door"), chip.opener)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if got := values(t, s); !cmp.Equal(got, []float64{0}) {
			t.Errorf("at the start %v", got)
		}
		wg := make(chan []edgeagent.Reading)
		go func() { // ends with the receive below
			rs, _ := s.Sample(t.Context(), nil)
			wg <- rs
		}()
		time.Sleep(300 * time.Millisecond)
		l.to(true)
		rs := <-wg
		if len(rs) != 1 || rs[0].Value != 1 || time.Since(begun) != 300*time.Millisecond {
			t.Errorf("an edge came as %v after %s", rs, time.Since(begun))
		}
		l.to(false)
		time.Sleep(200 * time.Millisecond)
		rs, err = s.Sample(t.Context(), nil)
		if want := begun.Add(300 * time.Millisecond).UnixNano(); err != nil || len(rs) != 1 || rs[0].At.Wall != want {
			t.Errorf("an edge that waited has the time %v, want %d (%v)", rs, want, err)
		}
		if got := values(t, s); got != nil {
			t.Errorf("nothing happened, and it says %v", got)
		}
		for range 12 { // rests
			rs, _ = s.Sample(t.Context(), rs[:0])
			if len(rs) > 0 {
				break
			}
		}
		if since := time.Since(begun).Round(time.Second); len(rs) != 1 || since != 11*time.Second && since != 10*time.Second {
			t.Errorf("the level is given again after %s: %v", since, rs)
		}
		for i := range 20 {
			l.to(i%2 == 0)
		}
		rs, err = s.Sample(t.Context(), nil)
		if len(rs) != 16 || err == nil || !strings.Contains(err.Error(), "4 edges") {
			t.Errorf("%d readings, %v", len(rs), err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestCounter(t *testing.T) {
	dir := t.TempDir()
	chip := newFakeChip("GPIO17")
	l := chip.lines["GPIO17"]
	open := func() sensors.Source {
		env := sensortest.Env("plant/meter")
		env.State = dir
		s, err := config(func(c *Config) { c.Mode = ModeCounter }).open(env, chip.opener)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	pulses := func(n int) {
		for range n {
			l.to(true)
			l.to(false)
		}
	}
	s := open()
	pulses(3)
	if got := values(t, s); !cmp.Equal(got, []float64{3}) {
		t.Errorf("got %v", got)
	}
	pulses(1000) // far more than the kernel holds
	if got := values(t, s); !cmp.Equal(got, []float64{1003}) {
		t.Errorf("got %v", got)
	}
	pulses(2)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	pulses(5) // while nobody looks
	s = open()
	pulses(1)
	if got := values(t, s); !cmp.Equal(got, []float64{1006}) {
		t.Errorf("after a restart %v", got)
	}
	// Killed: nothing is closed, and the next process reads what was written.
	l.open = false
	s = open()
	if got := values(t, s); !cmp.Equal(got, []float64{1006}) {
		t.Errorf("after kill -9 %v", got)
	}
	l.number, l.queue = 5, []fakeEdge{{time.Now(), edge{number: 5}}}
	s.(*counter).seen = 1<<32 - 3
	if got := values(t, s); !cmp.Equal(got, []float64{1014}) {
		t.Errorf("when the kernel's number wraps %v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedCount(t *testing.T) {
	for name, content := range map[string]string{
		"text": "hello", "short": "000", "other sum": "00000000000000000012 00000000\n", "twice": formatTotal(1) + formatTotal(1),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "count-a%2Fb"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := openTotal(dir, "a/b"); err == nil || !strings.Contains(err.Error(), "remove the file") {
				t.Errorf("got %v", err)
			}
		})
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "count-x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	total, err := openTotal(dir, "x")
	if err != nil || total.count != 0 {
		t.Errorf("an empty file: %v, %v", total.count, err)
	}
	total.Close()
}

func FuzzTotal(f *testing.F) {
	f.Add([]byte(formatTotal(42)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parseTotal(b); err == nil && formatTotal(n) != string(b) {
			t.Errorf("%q reads as %d", b, n)
		}
	})
}

func TestOutput(t *testing.T) {
	chip := newFakeChip("relay")
	l := chip.lines["relay"]
	o, err := openOutput(chip.opener, OutputConfig{Name: "pump", Line: "relay"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Set(false); err != nil {
		t.Fatal(err)
	}
	if want := []bool{true, false}; !cmp.Equal(l.levels, want) {
		t.Errorf("driven %v, want %v", l.levels, want)
	}
	if _, err := openOutput(chip.opener, OutputConfig{Line: "relay"}, true); !errors.Is(err, syscall.EBUSY) || hint(err) == "" {
		t.Errorf("a line that is held: %v, %q", err, hint(err))
	}
	chip.stuck = true
	if err := o.Set(true); err == nil || !strings.Contains(err.Error(), "set high and reads low") {
		t.Errorf("a line that does not follow: %v", err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	if _, err := openOutput(chip.opener, OutputConfig{Line: "relay"}, true); err == nil || l.open {
		t.Errorf("an output that does not follow stays open: %v", err)
	}
}

func hint(err error) string {
	if h, ok := errors.AsType[edgeagent.Hinter](err); ok {
		return h.Hint()
	}
	return ""
}

func TestOutputConfig(t *testing.T) {
	for safe, want := range map[string]bool{"": false, "low": false, "high": true} {
		if c := (OutputConfig{Line: "x", Safe: safe}); c.Validate() != nil || c.SafeHigh() != want {
			t.Errorf("safe %q: %v, %v", safe, c.SafeHigh(), c.Validate())
		}
	}
	if err := (OutputConfig{Line: "x", Safe: "off"}).Validate(); err == nil {
		t.Error("safe: off is taken")
	}
}

func TestNoHardware(t *testing.T) {
	_, err := config(func(*Config) {}).Open(context.Background(), sensors.Env{Root: t.TempDir()})
	if err == nil || hint(err) == "" {
		t.Errorf("got %v, %q", err, hint(err))
	}
}
