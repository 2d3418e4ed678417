package configs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sensors"
)

const goodRules = `version: 1
rules:
  - id: hot
    inputs: {temp: boiler/temperature}
    when: temp > 80
    do: [{alert: {text: hot}}]
`

// tree writes files into a new directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoad(t *testing.T) {
	dir := tree(t, map[string]string{
		"edge.yaml": `version: 1
device: {id: gw1}
clock: {source: trusted}
sensors:
  - name: hall/climate
    driver: chip
    bus: 1
    tags: {site: hall}
    pin: file:secrets/pin
  - {name: replay, driver: file, file: a.csv, interval: 10s}
rules: {files: [rules/heat.yaml]}
destinations:
  - name: cloud
    links: [{url: "mqtt://localhost:1883"}]
    format: line
`,
		"rules/heat.yaml": goodRules,
		"secrets/pin":     "1234\n",
	})
	c, err := Load(filepath.Join(dir, "edge.yaml"), Options{Drivers: fakeDrivers(), Secrets: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Device{ID: "gw1", Tenant: "default"}, c.Device); diff != "" {
		t.Error(diff)
	}
	if c.Clock.Source != clock.Trusted || c.Dir != dir {
		t.Errorf("clock %+v, dir %s", c.Clock, c.Dir)
	}
	if len(c.RuleFiles) != 1 || c.RuleFiles[0].Path != filepath.Join(dir, "rules", "heat.yaml") || len(c.RuleFiles[0].File.Rules) != 1 {
		t.Errorf("rule files %+v", c.RuleFiles)
	}
	options := c.Sensors[0].Options.(*chip)
	if options.Bus != "1" || options.Address != 0x76 || options.Pin.Reveal() != "1234" {
		t.Errorf("options %+v, pin %q", options, options.Pin.Reveal())
	}
	if s := c.Sensors[0]; s.Interval != time.Second || s.Timeout != 2*time.Second || s.Tags["site"] != "hall" {
		t.Errorf("sensor %+v", s)
	}
	if s := c.Sensors[1]; s.Interval != 10*time.Second || s.Timeout != 10*time.Second {
		t.Errorf("sensor %+v", s)
	}
	if d := c.Destinations[0]; d.LiveWindow != time.Minute || d.Ack != "transport" {
		t.Errorf("destination without its defaults: %+v", d)
	}
}

func TestLoadKeepsSecretsUnread(t *testing.T) {
	text := "version: 1\nsensors: [{name: a, driver: chip, bus: 1, pin: 'file:nowhere'}]\n"
	c, err := Parse("edge.yaml", []byte(text), Options{Drivers: fakeDrivers()})
	if err != nil {
		t.Fatal(err)
	}
	err = c.ResolveSecrets()
	var field *edgeagent.FieldError
	if !errors.As(err, &field) || field.Path != "sensors[0].pin" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ResolveSecrets: %v", err)
	}
}

func TestDriversGetTheirOwnConfig(t *testing.T) {
	text := "version: 1\nsensors:\n- {name: a, driver: chip, bus: 1, address: 5}\n- {name: b, driver: chip, bus: 2}\n"
	c, err := Parse("edge.yaml", []byte(text), Options{Drivers: fakeDrivers()})
	if err != nil {
		t.Fatal(err)
	}
	a, b := c.Sensors[0].Options.(*chip), c.Sensors[1].Options.(*chip)
	if a == b || a.Address != 5 || b.Address != 0x76 {
		t.Errorf("a %+v, b %+v", a, b)
	}
}

func TestLoadErrors(t *testing.T) {
	dir := tree(t, map[string]string{
		"rules/a.yaml": goodRules,
		"rules/b.yaml": strings.Replace(goodRules, "temp > 80", "temp > 90", 1),
		"bad.yaml":     strings.Replace(goodRules, "when:", "whenn:", 1),
		"huge.yaml":    strings.Repeat("# comment\n", maxBytes/10+1),
		"dir.yaml/x":   "",
	})
	tests := []struct {
		name, files string
		want        []string // parts of the lines
	}{
		{"one id in two files", "[rules/a.yaml, rules/b.yaml]", []string{`b.yaml:3:9: rules[0].id: "hot" is already the id of `}},
		{"not there", "[none.yaml]", []string{"edge.yaml:2:17: rules.files[0]: read rule file "}},
		{"a directory", "[dir.yaml]", []string{"edge.yaml:2:17: rules.files[0]: "}},
		{"too large", "[huge.yaml]", []string{"more than 1 MiB"}},
		{"broken, and another is missing", "[bad.yaml, none.yaml]", []string{"edge.yaml:2:27: rules.files[1]", `bad.yaml:5:5: unknown field "whenn" in rules[0] (did you mean "when"?)`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, "edge.yaml")
			text := "version: 1\nrules: {files: " + tt.files + "}\n"
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			c, err := Load(path, Options{})
			if err == nil || c != nil {
				t.Fatalf("config %v, error %v", c, err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.want) {
				t.Fatalf("%d problems:\n%v", len(lines), err)
			}
			for i, want := range tt.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("%s\nlacks %s", lines[i], want)
				}
			}
		})
	}
}

func TestLoadOfNothing(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"), Options{})
	var hinter edgeagent.Hinter
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &hinter) {
		t.Errorf("error %v", err)
	}
	if _, err := Load(t.TempDir(), Options{}); err == nil {
		t.Error("a directory was loaded")
	}
}

func TestHostID(t *testing.T) {
	tests := []struct {
		host string
		err  error
		want string
	}{
		{"raspberrypi", nil, "raspberrypi"},
		{"gw.example.org", nil, "gw.example.org"},
		{"plant/1 +#", nil, "plant-1"},
		{"größe", nil, "gr--e"},
		{"...", nil, "device"},
		{"", nil, "device"},
		{"x", errors.New("no name"), "device"},
		{strings.Repeat("a", 100), nil, strings.Repeat("a", 64)},
	}
	for _, tt := range tests {
		got := hostID(tt.host, tt.err)
		if got != tt.want {
			t.Errorf("hostID(%q) = %q, want %q", tt.host, got, tt.want)
		}
		if err := checkName("id", got); err != nil {
			t.Errorf("hostID(%q) is no valid id: %v", tt.host, err)
		}
	}
}

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

// TestConfigWithoutAFile: flags build a configuration, too.
func TestConfigWithoutAFile(t *testing.T) {
	c := Default()
	c.Sensors = []sensors.Config{{Name: "a b", Driver: "chip"}}
	var field *edgeagent.FieldError
	if err := c.Validate(); !errors.As(err, &field) || field.Path != "sensors[0].name" {
		t.Errorf("Validate: %v", err)
	}
}
