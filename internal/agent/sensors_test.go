package agent

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/i2c"
	"github.com/edgeagent/edgeagent/sim/bus"
)

var update = flag.Bool("update", false, "write docs/reference/sensors.md anew")

// TestSensorsReference holds docs/reference/sensors.md against the drivers.
func TestSensorsReference(t *testing.T) {
	var drivers, tested strings.Builder
	for _, d := range Drivers() {
		writeDriver(&drivers, d)
	}
	writeTested(t, &tested)
	const written = ": written by go test ./internal/agent -run SensorsReference -update -->\n"
	checkPage(t, "<!-- begin"+written, "<!-- end -->", drivers.String())
	checkPage(t, "<!-- begin tested"+written, "<!-- end tested -->", tested.String())
}

// checkPage holds what stands between two marks of the page against what it should be.
func checkPage(t *testing.T, begin, end, want string) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", "reference", "sensors.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	was, after, okEnd := strings.Cut(rest, end)
	if !ok || !okEnd {
		t.Fatalf("%s has no place for the drivers", path)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(was, want); diff != "" {
		t.Errorf("%s (-) and the drivers (+):\n%s", path, diff)
	}
}

// writeTested writes what each chip is tested with: what the tests on real kernels read
// stands in their configurations.
func writeTested(t *testing.T, w *strings.Builder) {
	t.Helper()
	load := func(name string) map[string]sensors.Config {
		cfg, err := configs.Load(filepath.Join("..", "..", "test", "hil", "testdata", name), configs.Options{Drivers: Drivers()})
		if err != nil {
			t.Fatal(err)
		}
		byName := map[string]sensors.Config{}
		for _, s := range cfg.Sensors {
			byName[s.Name] = s
		}
		return byName
	}
	ours, kernels := load("chips.yaml"), load("kernel.yaml")
	benched := map[uint16]string{}
	for _, c := range bus.NewBench().Chips() {
		benched[c.Addr()] = c.Name
	}
	fmt.Fprint(w, "| driver | tests of its own | simulated chip | on a real kernel | the kernel agrees | real chip |\n|---|---|---|---|---|---|\n")
	for _, d := range Drivers() {
		if d.Datasheet == nil && d.Name != "w1" {
			continue
		}
		var chips, real, agrees []string
		for _, name := range slices.Sorted(maps.Keys(ours)) {
			if s := ours[name]; s.Driver == d.Name {
				_, _, addr, _ := i2c.Place(s.Options)
				chips, real = append(chips, benched[addr]), []string{"yes"}
				if k, ok := kernels[name]; ok {
					agrees = append(agrees, "yes, by "+k.Driver)
				}
			}
		}
		if d.Name == "w1" {
			for _, k := range kernels {
				if k.Driver == "w1" {
					chips, real, agrees = []string{"DS18B20 behind a DS2482"}, []string{"yes"}, []string{"is the kernel's"}
				}
			}
		}
		fmt.Fprintf(w, "| `%s` | yes | %s | %s | %s | no |\n", d.Name,
			or(strings.Join(chips, ", ")), or(strings.Join(real, ", ")), or(strings.Join(agrees, ", ")))
	}
}

func or(s string) string {
	if s == "" {
		return "no"
	}
	return s
}

func writeDriver(w *strings.Builder, d sensors.Driver) {
	fmt.Fprintf(w, "### %s\n\n%s.\n\n", d.Name, strings.ToUpper(d.Summary[:1])+d.Summary[1:])
	s := d.Datasheet
	if s == nil {
		return
	}
	fmt.Fprintf(w, "Chips: %s. Data sheets: %s.", s.Chips, s.Documents)
	if s.Conversion > 0 {
		fmt.Fprintf(w, " A measurement takes up to %s.", s.Conversion)
	}
	fmt.Fprint(w, "\n\n| metric | unit | range | step | accuracy | fastest change |\n|---|---|---|---|---|---|\n")
	for _, m := range s.Metrics {
		rate := "none"
		if m.MaxRate > 0 {
			rate = number(m.MaxRate) + " a second"
		}
		fmt.Fprintf(w, "| `%s` | %s | %s to %s | %s | %s | %s |\n",
			m.Name, m.Unit, number(m.Min), number(m.Max), number(m.Step), m.Accuracy, rate)
	}
	fmt.Fprintf(w, "\n%s\n\n", s.Doubts)
}

// number writes a number for people: at most four digits behind the first.
func number(v float64) string {
	if v == float64(int64(v)) {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// Every sensor of the example with chips gives readings that are good, from simulated
// chips at the addresses that the example names.
func TestExampleWithChips(t *testing.T) {
	cfg, err := configs.Load(filepath.Join("..", "..", "configs", "examples", "pi-chips.yaml"), configs.Options{Drivers: Drivers()})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		air := func() (celsius, pascal, percent float64) { return 21.5, 101325, 48 }
		constant := func(v float64) bus.Quantity { return func() float64 { return v } }
		b := bus.New(
			bus.NewSHT4x(0x44, air), bus.NewSCD4x(air, constant(640)), bus.NewBH1750(0x23, constant(210)),
			bus.NewINA219(0x40, 0.1, constant(12), constant(0.4)), bus.NewMCP9808(0x18, air), bus.NewMCP9808(0x19, air),
			bus.NewTMP102(0x49, air), bus.NewLM75(0x4F, air), bus.NewADS1115(0x48, func(i int) float64 { return float64(i) / 2 }),
		)
		env := sensors.Env{Root: t.TempDir(), Clock: clock.Go(), I2C: i2c.NewBuses(b.Open).Open}
		want := map[string]float64{
			"air/temperature": 21.5, "air/humidity": 48, "co2/co2": 640, "co2/temperature": 21.5, "co2/humidity": 48,
			"light/illuminance": 210, "supply/voltage": 12, "supply/current": 0.4, "supply/power": 4.8,
			"pipe/in/temperature": 21.5, "pipe/out/temperature": 21.5, "board/temperature": 21.5, "case/temperature": 21.5,
			"probes/a0": 0, "probes/a2_a3": -0.5,
		}
		got := map[string]float64{}
		for _, c := range cfg.Sensors {
			s, err := sensors.NewSpec(c, env).Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			rs, err := s.Sample(t.Context(), nil)
			if err != nil {
				t.Error(err)
			}
			for _, r := range rs {
				got[r.Series.String()] = r.Value
				if r.Quality != edgeagent.Good {
					t.Errorf("%s = %v is %s", r.Series, r.Value, r.Quality)
				}
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0.001, 0.01)); diff != "" {
			t.Errorf("readings (-want +got):\n%s", diff)
		}
	})
}
