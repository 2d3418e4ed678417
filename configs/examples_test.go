package configs

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/exec"
	"github.com/edgeagent/edgeagent/sensors/gpio"
	"github.com/edgeagent/edgeagent/sensors/i2c"
	"github.com/edgeagent/edgeagent/sensors/kernel"
	"github.com/edgeagent/edgeagent/sensors/modbus"
	"github.com/edgeagent/edgeagent/sensors/mqttin"
	"github.com/edgeagent/edgeagent/sensors/push"
	"github.com/edgeagent/edgeagent/sensors/replay"
	"github.com/edgeagent/edgeagent/sensors/serial"
)

func realDrivers() []sensors.Driver {
	return slices.Concat(kernel.Drivers(), i2c.Drivers(), gpio.Drivers(), modbus.Drivers(), mqttin.Drivers(), exec.Drivers(), push.Drivers(), serial.Drivers(), replay.Drivers())
}

// TestExamples loads what ships against the drivers that ship.
func TestExamples(t *testing.T) {
	for _, path := range glob(t, "examples/*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c, err := Load(path, Options{Drivers: realDrivers()})
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Sensors) == 0 || len(c.Destinations) == 0 {
				t.Errorf("%d sensors, %d destinations", len(c.Sensors), len(c.Destinations))
			}
			for _, f := range c.RuleFiles {
				for _, r := range f.File.Rules {
					for _, series := range r.Inputs {
						checkInput(t, c, f.Path, series)
					}
				}
			}
		})
	}
}

// checkInput: a rule of an example about a sensor that the example lacks would
// never fire.
func checkInput(t *testing.T, c *Config, file, series string) {
	t.Helper()
	sensor, _ := edgeagent.SplitName(series)
	if !slices.ContainsFunc(c.Sensors, func(s sensors.Config) bool { return s.Name == sensor }) {
		t.Errorf("%s: no sensor %q for %s", file, sensor, series)
	}
}

// TestEveryRuleFileIsUsed keeps examples/rules free of files that nobody checks.
func TestEveryRuleFileIsUsed(t *testing.T) {
	used := map[string]bool{}
	for _, path := range glob(t, "examples/*.yaml") {
		c, err := Load(path, Options{Drivers: realDrivers()})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range c.RuleFiles {
			used[f.Path] = true
		}
	}
	for _, path := range glob(t, "examples/rules/*.yaml") {
		if !used[path] {
			t.Errorf("no example uses %s", path)
		}
	}
}

// TestEveryDriverIsStrict puts a typo into the configuration of each real driver.
func TestEveryDriverIsStrict(t *testing.T) {
	for _, drv := range realDrivers() {
		text := "version: 1\nsensors:\n  - name: a\n    driver: " + drv.Name + "\n    no_such_key: 1\n"
		_, err := Parse("edge.yaml", []byte(text), Options{Drivers: realDrivers()})
		if err == nil || !strings.Contains(err.Error(), `edge.yaml:5:5: unknown field "no_such_key" in sensors[0]`) {
			t.Errorf("%s: %v", drv.Name, err)
		}
	}
}
