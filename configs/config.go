package configs

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/rules/model"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/gpio"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// Config is the whole configuration of an agent. Each part belongs to the
// component that uses it and is described there.
type Config struct {
	// Version is the version of the format: 1. It must be written.
	Version int              `yaml:"version"`
	Device  Device           `yaml:"device"`
	Clock   Clock            `yaml:"clock"`
	Sensors []sensors.Config `yaml:"sensors"`
	// Outputs are what the actions gpio of rules name.
	Outputs      []gpio.OutputConfig `yaml:"outputs"`
	Rules        Rules               `yaml:"rules"`
	Sampling     Sampling            `yaml:"sampling"`
	Buffer       buffer.Config       `yaml:"buffer"`
	Destinations []uplink.Config     `yaml:"destinations"`
	API          api.Config          `yaml:"api"`

	// Dir is the directory that relative paths in the configuration start from.
	Dir string `yaml:"-"`
	// RuleFiles are the files that Rules.Files names, in that order.
	RuleFiles []RuleFile `yaml:"-"`
}

// Device says who this agent is. Both values stand in topics and in every record's
// identity: 1 to 64 letters, digits, dots, dashes and underscores.
type Device struct {
	ID     string `yaml:"id"`     // default: the host name
	Tenant string `yaml:"tenant"` // default: "default"
}

// Clock says how far the wall time is trusted.
type Clock struct {
	Source clock.Trust `yaml:"source"` // auto (default) or trusted
	// UnsyncedHold is how long text formats hold telemetry back that was taken
	// while the clock could not be trusted, counted from the boot of the machine.
	UnsyncedHold time.Duration `yaml:"unsynced_hold"`
}

// Sampling says what becomes of readings besides the sensors' own keys.
type Sampling struct {
	// Pressure says what is done while the buffer fills up: thin (default) stores one
	// reading in 2, 4 or 8 of each series, keep stores all.
	Pressure Pressure `yaml:"pressure"`
}

// Pressure is what is done while the buffer fills up.
type Pressure string

// What is done.
const (
	Thin Pressure = "thin"
	Keep Pressure = "keep"
)

func (s Sampling) validate() error {
	if s.Pressure != Thin && s.Pressure != Keep {
		return hinted("pressure", didYouMean(string(s.Pressure), "values", []string{string(Thin), string(Keep)}),
			"unknown value %s", quote(string(s.Pressure)))
	}
	return nil
}

// Rules names the rule files.
type Rules struct {
	Files []string `yaml:"files"` // relative to the configuration's directory
	// Memory bounds the state of all rules: windows, detectors, captures.
	Memory edgeagent.Bytes `yaml:"memory"`
	// Models are what rules ask with model("name", …), by name. Relative files
	// start at the configuration's directory; [Parse] makes them as the program
	// opens them.
	Models map[string]model.Config `yaml:"models"`
}

// RuleFile is one rule file as it was read.
type RuleFile struct {
	Path string // as the program opens it
	File rules.File
}

// Bounds of a configuration.
const (
	maxDestinations = 8
	maxUnsyncedHold = 24 * time.Hour
	maxSensors      = 1_000
	maxOutputs      = 64
	maxName         = 64  // bytes of an id, a tenant, a destination's name
	maxSensorName   = 128 // bytes
	minRuleMemory   = 64 << 10
	maxRuleMemory   = 1 << 30
)

// Default returns the configuration of an agent without sensors and destinations.
// The device is named after the host.
func Default() *Config {
	return &Config{
		Version:  1,
		Device:   Device{ID: hostID(os.Hostname()), Tenant: "default"},
		Clock:    Clock{Source: clock.Auto, UnsyncedHold: 15 * time.Minute},
		Sampling: Sampling{Pressure: Thin},
		Rules:    Rules{Memory: 4 << 20},
		Buffer:   buffer.Default(),
	}
}

// hostID makes a device id of a host name. A host without a usable name is
// "device", which the user will want to change.
func hostID(host string, err error) string {
	if err != nil {
		return "device"
	}
	id := strings.Map(func(r rune) rune {
		if isNameRune(r) {
			return r
		}
		return '-'
	}, host)
	id = strings.Trim(id[:min(len(id), maxName)], "-.")
	if id == "" {
		return "device"
	}
	return id
}

// isNameRune reports whether r may stand in a name: nothing that topics, paths,
// metrics or line protocol give a meaning.
func isNameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r)
}

// checkName checks a name that stands in topics, file names and metrics.
func checkName(path, name string) error {
	if name == "" {
		return edgeagent.Field(path, "a name is missing")
	}
	if len(name) > maxName {
		return edgeagent.Field(path, "%s is longer than %d bytes", quote(name), maxName)
	}
	for _, r := range name {
		if !isNameRune(r) {
			return hinted(path, "use letters, digits, dots, dashes and underscores",
				"%s holds %q", quote(name), r)
		}
	}
	if strings.Trim(name, ".") == "" {
		return edgeagent.Field(path, "%s is not a name", quote(name))
	}
	return nil
}

// checkSensorName checks a sensor's name, which may hold slashes.
func checkSensorName(name string) error {
	if len(name) > maxSensorName {
		return edgeagent.Field("name", "%s is longer than %d bytes", quote(name), maxSensorName)
	}
	for _, r := range name {
		if unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(`+#*?"'\,=`, r) || !unicode.IsPrint(r) {
			return hinted("name", "use letters, digits, dots, dashes, underscores and slashes",
				"%s holds %q", quote(name), r)
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" && name != "" {
			return hinted("name", `write it like "hall/north": no slash at the start or the end, and no two in a row`,
				"%s has an empty part", quote(name))
		}
	}
	return nil
}

// Validate checks everything that can be checked without touching the machine. The
// errors are joined [edgeagent.FieldError] values.
func (c *Config) Validate() error {
	return errors.Join(
		c.validateVersion(),
		edgeagent.InField("device", errors.Join(checkName("id", c.Device.ID), checkName("tenant", c.Device.Tenant))),
		edgeagent.InField("clock", c.Clock.validate()),
		edgeagent.InField("sampling", c.Sampling.validate()),
		c.validateSensors(),
		c.validateOutputs(),
		edgeagent.InField("rules", c.Rules.validate()),
		edgeagent.InField("buffer", c.Buffer.Validate()),
		c.validateDestinations(),
		edgeagent.InField("api", c.API.Validate()),
	)
}

func (c *Config) validateVersion() error {
	switch c.Version {
	case 1:
		return nil
	case 0:
		return hinted("version", `begin the file with "version: 1"`,
			"missing key version")
	}
	return hinted("version", `write "version: 1"`,
		"%d is not known to this release", c.Version)
}

func (c Clock) validate() error {
	var errs []error
	if c.Source != clock.Auto && c.Source != clock.Trusted {
		errs = append(errs, hinted("source", didYouMean(string(c.Source), "sources", []string{string(clock.Auto), string(clock.Trusted)}),
			"unknown clock source %s", quote(string(c.Source))))
	}
	if c.UnsyncedHold < 0 || c.UnsyncedHold > maxUnsyncedHold {
		errs = append(errs, edgeagent.Field("unsynced_hold", "%v is not within 0s and %v", c.UnsyncedHold, maxUnsyncedHold))
	}
	return errors.Join(errs...)
}

func (c *Config) validateSensors() error {
	if len(c.Sensors) > maxSensors {
		return edgeagent.Field("sensors", "%d sensors, at most %d", len(c.Sensors), maxSensors)
	}
	var errs []error
	first := map[string]string{}
	for i, s := range c.Sensors {
		path := indexed("sensors", i)
		errs = append(errs, edgeagent.InField(path, errors.Join(s.Validate(), checkSensorName(s.Name), checkTags(s.Tags))))
		errs = append(errs, unique(first, s.Name, path))
	}
	return errors.Join(errs...)
}

func (c *Config) validateOutputs() error {
	if len(c.Outputs) > maxOutputs {
		return edgeagent.Field("outputs", "%d outputs, at most %d", len(c.Outputs), maxOutputs)
	}
	var errs []error
	first := map[string]string{}
	for i, o := range c.Outputs {
		path := indexed("outputs", i)
		errs = append(errs, edgeagent.InField(path, errors.Join(checkName("name", o.Name), o.Validate())))
		errs = append(errs, unique(first, o.Name, path))
	}
	return errors.Join(errs...)
}

// unique reports a name that was seen before and remembers it.
func unique(first map[string]string, name, path string) error {
	if name == "" {
		return nil
	}
	if other, ok := first[name]; ok {
		return &edgeagent.FieldError{Path: path + ".name", Err: &duplicate{name, other + ".name"}}
	}
	first[name] = path
	return nil
}

// maxTag is the length of a tag's key or value in bytes.
const maxTag = 256

func checkTags(tags map[string]string) error {
	var errs []error
	for k, v := range tags {
		switch {
		case k == "":
			errs = append(errs, edgeagent.Field("tags", "a key is empty"))
		case len(k) > maxTag || len(v) > maxTag:
			errs = append(errs, edgeagent.Field("tags."+k, "longer than %d bytes", maxTag))
		case strings.ContainsFunc(k+v, unicode.IsControl):
			errs = append(errs, edgeagent.Field("tags."+k, "holds a control character"))
		}
	}
	return errors.Join(errs...)
}

func (r Rules) validate() error {
	var errs []error
	for i, f := range r.Files {
		if f == "" {
			errs = append(errs, edgeagent.Field(indexed("files", i), "a file name is missing"))
		}
	}
	if r.Memory < minRuleMemory || r.Memory > maxRuleMemory {
		errs = append(errs, edgeagent.Field("memory", "%v is not within %v and %v", r.Memory, edgeagent.Bytes(minRuleMemory), edgeagent.Bytes(maxRuleMemory)))
	}
	return errors.Join(errs...)
}

func (c *Config) validateDestinations() error {
	if len(c.Destinations) > maxDestinations {
		return edgeagent.Field("destinations", "%d destinations, at most %d", len(c.Destinations), maxDestinations)
	}
	var errs []error
	first := map[string]string{}
	clients := map[client]int{}
	for i, d := range c.Destinations {
		path := indexed("destinations", i)
		err := d.Validate()
		if d.Name != "" {
			err = errors.Join(err, checkName("name", d.Name))
		}
		err = errors.Join(err, checkClients(clients, i, d.Links))
		errs = append(errs, edgeagent.InField(path, err), unique(first, d.Name, path))
	}
	return errors.Join(errs...)
}

// client is how a broker knows a connection.
type client struct{ broker, id string }

// checkClients refuses a link of destination i that a broker would take for one of an
// earlier destination: the two would end each other's sessions for ever. Links of one
// destination are never up together.
func checkClients(seen map[client]int, i int, links []uplink.LinkConfig) error {
	var errs []error
	for at, l := range links {
		errs = append(errs, checkClient(seen, i, at, l))
	}
	return errors.Join(errs...)
}

func checkClient(seen map[client]int, i, at int, l uplink.LinkConfig) error {
	u, err := url.Parse(l.URL)
	if uplink.IsCoAP(l.URL) { // knows no clients
		return nil
	}
	if err != nil || u.Hostname() == "" {
		return nil // is told of elsewhere
	}
	port := u.Port()
	if port == "" {
		port = "1883"
	}
	key := client{strings.ToLower(u.Hostname()) + ":" + port, l.ClientID}
	if first, ok := seen[key]; ok && first != i {
		return hinted(indexed("links", at)+".url", "set client_id in one of them, or use one destination",
			"same broker and client_id as destinations[%d]: each would end the other's session", first)
	}
	seen[key] = i
	return nil
}

// hinted returns an error about the key at path with a hint.
func hinted(path, hint, format string, args ...any) error {
	return &edgeagent.FieldError{Path: path, Err: edgeagent.WithHint(fmt.Errorf(format, args...), hint)}
}
