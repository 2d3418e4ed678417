package configs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgeagent/edgeagent/sensors/modbus"
)

// TestPresets reads every preset that comes with the program.
func TestPresets(t *testing.T) {
	for _, name := range modbus.Presets() {
		_, err := Parse("edge.yaml", []byte("version: 1\nsensors: [{name: m, driver: modbus, url: 'tcp://h', preset: "+name+"}]"), Options{Drivers: realDrivers()})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPresetsOfOnesOwn(t *testing.T) {
	tests := []struct{ name, preset, content, want string }{
		{"good", "own.yaml", "version: 1\ndevice: mine\nregisters: [{metric: a, address: 1}]", ""},
		{"no such preset", "sdm121", "", `edge.yaml:2:65: sensors[0].preset: no preset "sdm121"`},
		{"no such file", "other.yaml", "", "edge.yaml:2:65: sensors[0].preset: "},
		{"mistakes inside", "own.yaml", "version: 1\nregisters:\n  - {metric: a, adress: 1, type: u8}\n", `own.yaml:3:17: unknown field "adress" in registers[0]`},
		{"values inside", "own.yaml", "version: 1\nregisters:\n  - {metric: a, type: u8}\n", `own.yaml:3:23: registers[0].type: "u8" is not possible`},
		{"twice", "own.yaml", "version: 1\nregisters: [{metric: b}]", `"b" is there twice`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.content != "" {
				if err := os.WriteFile(filepath.Join(dir, "own.yaml"), []byte(tt.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			text := "version: 1\nsensors: [{name: m, driver: modbus, url: 'tcp://h:502', preset: " + tt.preset + ", registers: [{metric: b}]}]"
			_, err := Parse(filepath.Join(dir, "edge.yaml"), []byte(text), Options{Drivers: realDrivers()})
			got := ""
			if list, ok := errors.AsType[Errors](err); ok {
				got = list.Error()
			}
			if (err == nil) != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
