package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/i2c"
	"github.com/edgeagent/edgeagent/sim/bus"
)

// machineTree is a /sys with an I²C bus, a hwmon chip, a 1-Wire thermometer and a port.
func machineTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{
		"sys/class/i2c-dev/i2c-1/name":            "bcm2835 (i2c@7e804000)\n",
		"sys/class/hwmon/hwmon0/name":             "cpu_thermal\n",
		"sys/class/hwmon/hwmon0/temp1_input":      "40000\n",
		"sys/bus/w1/devices/28-0316a2795fff/name": "28-0316a2795fff\n",
		"sys/class/thermal/thermal_zone0/type":    "cpu-thermal\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// The screen of a scan, and what it says to paste passes the check of a configuration.
func TestScanScreen(t *testing.T) {
	root := machineTree(t)
	var out, errs bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		scan(t.Context(), i2c.Scanner{Root: root, Open: bus.NewBench().Open, Identify: true}).show(&out, &errs)
	})
	if errs.Len() > 0 {
		t.Errorf("standard error: %s", &errs)
	}
	golden := filepath.Join("testdata", "scan.golden")
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("screen (-want +got):\n%s", diff)
	}
	_, pasted, ok := strings.Cut(out.String(), "\nsensors:\n")
	if !ok {
		t.Fatal("nothing to paste")
	}
	for _, text := range []string{pasted, strings.ReplaceAll(pasted, "  # - ", "  - ")} {
		cfg, err := configs.Parse("pasted.yaml", []byte("version: 1\nsensors:\n"+text), configs.Options{Drivers: agent.Drivers()})
		if err != nil {
			t.Fatalf("what is to be pasted: %v\n%s", err, text)
		}
		if len(cfg.Sensors) < 10 {
			t.Errorf("%d sensors", len(cfg.Sensors))
		}
	}
}

func TestScanJSON(t *testing.T) {
	root := machineTree(t)
	synctest.Test(t, func(t *testing.T) {
		result := scan(t.Context(), i2c.Scanner{Root: root, Open: bus.NewBench().Open})
		b, err := json.Marshal(result)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			`{"where":"I2C bus 1 (bcm2835 (i2c@7e804000))","place":"0x23","what":"answers","stanzas":["{name: bh1750-1-23, driver: bh1750, bus: 1, address: 0x23}"]}`,
			`"problems":[]`,
		} {
			if !strings.Contains(string(b), want) {
				t.Errorf("no %s in\n%s", want, b)
			}
		}
	})
}

func TestReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sensors.Config{Name: "co2", Driver: "scd4x"}
		for _, d := range agent.Drivers() {
			if d.Name == c.Driver {
				c.Options = d.New()
				c.Options.(*i2c.SCD4x).Bus = "1"
			}
		}
		env := hereEnv("")
		env.I2C = bus.NewBench().Open
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, err := readOnce(ctx, sensors.NewSpec(c, env))
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Values) != 3 || r.Values[0].Series != "co2/co2" || r.Values[0].Value != 640 || r.Tries < 10 {
			t.Errorf("read %+v", r)
		}
	})
}

func TestWatchScreenIsBounded(t *testing.T) {
	list := []api.Sensor{
		{Name: "boiler", Values: []api.Value{{Series: "boiler/temperature", Value: 21.53125, Unit: "Cel", Quality: "good", Age: 0.2}}},
		{Name: "gone", Health: api.PartHealth{Level: edgeagent.Degraded, Text: "read lm75 at 0x48 on bus 1: no such device or address"}},
	}
	want := `SERIES                 VALUE  UNIT  QUALITY   AGE
boiler/temperature  21.53125  Cel   good      200ms
gone                       -        degraded  read lm75 at 0x48 on bus 1: no such device or address
`
	if diff := cmp.Diff(want, watchScreen(list)); diff != "" {
		t.Errorf("screen (-want +got):\n%s", diff)
	}
}

func TestWatchLines(t *testing.T) {
	var out bytes.Buffer
	show := watchLines(&out, false)
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	value := func(s int, v float64, q string) api.Value {
		return api.Value{Series: "a/b", Value: api.Number(v), Unit: "Cel", Quality: q, At: api.At(at.Add(time.Duration(s) * time.Second))}
	}
	trouble := api.PartHealth{Level: edgeagent.Degraded, Text: "no answer"}
	for _, list := range [][]api.Sensor{
		{{Name: "a", Values: []api.Value{value(0, 21.5, "good")}}},
		{{Name: "a", Values: []api.Value{value(0, 21.5, "good")}}}, // nothing new
		{{Name: "a", Values: []api.Value{value(1, 21.5, "stale")}, Health: trouble}},
		{{Name: "a", Values: []api.Value{value(1, 21.5, "stale")}, Health: trouble}},
	} {
		if err := show(list); err != nil {
			t.Fatal(err)
		}
	}
	want := "12:00:00.000 a/b 21.5 Cel\n12:00:01.000 a/b 21.5 Cel stale\na: degraded: no answer\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// Two chips of one name and no place are two sensors all the same.
func TestScanNamesAreUnique(t *testing.T) {
	root := t.TempDir()
	for _, n := range []string{"0", "1", "2"} {
		dir := filepath.Join(root, "sys/class/hwmon/hwmon"+n)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string]string{"name": "acpitz\n", "temp1_input": "40000\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	var out, errs bytes.Buffer
	scan(t.Context(), i2c.Scanner{Root: root, Open: bus.NewBench().Open}).show(&out, &errs)
	_, pasted, _ := strings.Cut(out.String(), "\nsensors:\n")
	if _, err := configs.Parse("pasted.yaml", []byte("version: 1\nsensors:\n"+pasted), configs.Options{Drivers: agent.Drivers()}); err != nil {
		t.Errorf("%v\n%s", err, pasted)
	}
}
