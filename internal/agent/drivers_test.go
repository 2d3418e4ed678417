package agent

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/configs"
)

// least is what each driver needs in a file besides name and driver.
var least = map[string]string{
	"ads1x15": `bus: "1"`,
	"aht20":   `bus: "1"`,
	"bh1750":  `bus: "1"`,
	"bmxx80":  `bus: "1"`,
	"disk":    "",
	"exec":    "command: [/bin/date]",
	"gpio":    "line: GPIO17",
	"gps":     "port: /dev/ttyACM0",
	"hwmon":   "chip: coretemp",
	"iio":     "device: bme280",
	"ina219":  `bus: "1"`,
	"lm75":    `bus: "1"`,
	"load":    "",
	"mcp9808": `bus: "1"`,
	"memory":  "",
	"modbus":  "url: tcp://h\n    preset: sdm120",
	"mqtt":    "topics: [{filter: a/+}]",
	"network": "",
	"push":    "",
	"replay":  "file: recorded.csv",
	"scd4x":   `bus: "1"`,
	"sht3x":   `bus: "1"`,
	"sht4x":   `bus: "1"`,
	"thermal": "",
	"tmp102":  `bus: "1"`,
	"w1":      "id: 28-0316a2795fff",
}

// Every driver has a name of its own, says what it reads, and either works with
// its defaults or names the keys that are missing.
func TestDrivers(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range Drivers() {
		t.Run(d.Name, func(t *testing.T) {
			if d.Name == "" || seen[d.Name] {
				t.Errorf("name %q is empty or taken", d.Name)
			}
			seen[d.Name] = true
			if d.Summary == "" || strings.HasSuffix(d.Summary, ".") || strings.Contains(d.Summary, "\n") {
				t.Errorf("summary %q, want one line without a full stop", d.Summary)
			}
			for _, err := range leaves(d.New().Validate()) {
				if _, ok := errors.AsType[*edgeagent.FieldError](err); !ok {
					t.Errorf("%q names no key", err)
				}
			}
			keys, known := least[d.Name]
			if !known {
				t.Fatal("add the driver to the table of this test")
			}
			text := "version: 1\nsensors:\n  - name: a/b\n    driver: " + d.Name + "\n"
			if keys != "" {
				text += "    " + keys + "\n"
			}
			cfg, err := configs.Parse(filepath.Join(t.TempDir(), "agent.yaml"), []byte(text), configs.Options{Drivers: Drivers()})
			if err != nil {
				t.Fatal(err)
			}
			if s := cfg.Sensors[0]; s.Driver != d.Name || s.Options == nil {
				t.Errorf("read as %+v", s)
			}
			_, err = configs.Parse("agent.yaml", []byte(text+"    no_such_key: 1\n"), configs.Options{Drivers: Drivers()})
			if err == nil || !strings.Contains(err.Error(), "agent.yaml:") {
				t.Errorf("an unknown key: %v", err)
			}
		})
	}
	if len(seen) != len(least) {
		t.Errorf("%d drivers, %d in the table", len(seen), len(least))
	}
}

// leaves takes joined errors apart.
func leaves(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, leaves(e)...)
	}
	return out
}
