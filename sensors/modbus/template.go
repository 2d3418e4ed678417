package modbus

import (
	"embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

//go:embed presets/*.yaml
var presets embed.FS

// Presets lists the presets that come with the program.
func Presets() []string {
	entries, err := presets.ReadDir("presets")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Template is the content of a preset.
type Template struct {
	Version int `yaml:"version"` // 1
	// Device and Source say what it is for, and where its numbers come from.
	Device string `yaml:"device"`
	Source string `yaml:"source"`
	// MaxGap is the least that the configuration's is taken for.
	MaxGap    int        `yaml:"max_gap"`
	Expect    []Expect   `yaml:"expect"`
	Registers []Register `yaml:"registers"`
}

// Expect is what a register of the right device reads. Another device is refused.
type Expect struct {
	Address uint16 `yaml:"address"`
	Table   string `yaml:"table"`
	Type    string `yaml:"type"`
	Equals  uint64 `yaml:"equals"`
}

// Validate checks the keys.
func (t *Template) Validate() error {
	var errs []error
	if t.Version != 1 {
		errs = append(errs, edgeagent.Field("version", "%w", edgeagent.WithHint(fmt.Errorf("%d is not known to this release", t.Version), `begin the file with "version: 1"`)))
	}
	if len(t.Registers) == 0 {
		errs = append(errs, edgeagent.Field("registers", "nothing is read"))
	}
	if t.MaxGap < 0 || t.MaxGap > maxRegisters {
		errs = append(errs, edgeagent.Field("max_gap", "%d is out of range, want 0 to %d", t.MaxGap, maxRegisters))
	}
	for i, x := range t.Expect {
		r := x.register()
		errs = append(errs, edgeagent.InField(fmt.Sprintf("expect[%d]", i), r.validate()))
	}
	return errors.Join(append(errs, validateRegisters(t.Registers, nil))...)
}

func (x Expect) register() Register {
	return Register{Metric: "expected", Address: x.Address, Table: x.Table, Type: x.Type}
}

var _ sensors.Templated = (*Config)(nil)

// Template implements sensors.Templated.
func (c *Config) Template() sensors.Template {
	t := sensors.Template{Key: "preset", Into: &c.preset}
	switch {
	case c.Preset == "":
	case slices.Contains(Presets(), c.Preset):
		t.Name = "preset " + c.Preset
		t.Source, t.Err = presets.ReadFile(path.Join("presets", c.Preset+".yaml"))
	case strings.HasSuffix(c.Preset, ".yaml") || strings.Contains(c.Preset, "/"):
		t.File = c.Preset
	default:
		t.Err = edgeagent.WithHint(fmt.Errorf("no preset %q", c.Preset), "presets here: "+strings.Join(Presets(), ", ")+`; a file of your own ends with ".yaml"`)
	}
	return t
}
