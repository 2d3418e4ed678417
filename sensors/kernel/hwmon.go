package kernel

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// Hwmon is the configuration of the driver hwmon.
type Hwmon struct {
	// Chip is the name that the chip's driver gives it ("coretemp", "lm75").
	Chip string `yaml:"chip"`
	// Device tells chips of one name apart by what they sit on ("1-0048"). The
	// number of hwmonN is not stable and means nothing.
	Device string `yaml:"device"`
	// Channels limits what is read to these channels ("temp1") or labels ("Core
	// 0"). Without it all channels are read.
	Channels []string `yaml:"channels"`
}

// Validate checks the keys.
func (c *Hwmon) Validate() error {
	if c.Chip == "" {
		return edgeagent.Field("chip", "%w", edgeagent.WithHint(errors.New("missing key chip"),
			`"cat /sys/class/hwmon/*/name" lists the chips of a machine`))
	}
	return nil
}

// monitor is a directory of /sys/class/hwmon.
type monitor struct{ dir, name, device string }

// Open finds the chip and its channels.
func (c *Hwmon) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	all := monitors(under(env, "sys/class/hwmon"))
	chosen := slices.DeleteFunc(slices.Clone(all), func(m monitor) bool {
		return m.name != c.Chip || c.Device != "" && m.device != c.Device
	})
	switch len(chosen) {
	case 0:
		return nil, edgeagent.WithHint(fmt.Errorf("no hwmon chip %q", c.describe()),
			found("chips", describeAll(all))+" (keys chip and device)")
	case 1:
		return c.open(env, chosen[0])
	default:
		return nil, edgeagent.WithHint(fmt.Errorf("%d hwmon chips are called %q", len(chosen), c.Chip),
			"set the key device to one of them; "+found("chips", describeAll(chosen)))
	}
}

func (c *Hwmon) describe() string { return monitor{name: c.Chip, device: c.Device}.String() }

func (m monitor) String() string {
	if m.device == "" {
		return m.name
	}
	return m.name + " on " + m.device
}

func describeAll(ms []monitor) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.String())
	}
	return out
}

func monitors(dir string) []monitor {
	var out []monitor
	for _, n := range list(dir, "hwmon") {
		m := monitor{dir: filepath.Join(dir, n)}
		var err error
		if m.name, err = readString(filepath.Join(m.dir, "name")); err != nil {
			continue
		}
		if target, err := filepath.EvalSymlinks(filepath.Join(m.dir, "device")); err == nil {
			m.device = filepath.Base(target)
		}
		out = append(out, m)
	}
	return out
}

// hwmonKind is what a channel of hwmon measures, by the letters of its file name.
type hwmonKind struct {
	prefix, unit string
	exp10        int
}

// Units of Documentation/hwmon/sysfs-interface.
var hwmonKinds = []hwmonKind{
	{"temp", "Cel", -3},   // m°C
	{"in", "V", -3},       // mV
	{"curr", "A", -3},     // mA
	{"power", "W", -6},    // µW
	{"energy", "J", -6},   // µJ
	{"humidity", "%", -3}, // m%RH
	{"fan", "/min", 0},    // rpm
}

// kindOf finds the kind of a channel ("temp1").
func kindOf(channel string) (hwmonKind, bool) {
	letters := strings.TrimRight(channel, "0123456789")
	for _, k := range hwmonKinds {
		if k.prefix == letters && letters != channel {
			return k, true
		}
	}
	return hwmonKind{}, false
}

func (c *Hwmon) open(env sensors.Env, m monitor) (sensors.Source, error) {
	var names, labels, all []string
	for _, file := range list(m.dir, "") {
		name, ok := strings.CutSuffix(file, "_input")
		if _, known := kindOf(name); !ok || !known {
			continue
		}
		label, err := readString(filepath.Join(m.dir, name+"_label"))
		if err != nil {
			label = ""
		}
		all = append(all, strings.TrimSuffix(name+" "+label, " "))
		if c.wants(name, label) {
			names, labels = append(names, name), append(labels, metricName(label))
		}
	}
	if len(names) == 0 {
		return nil, edgeagent.WithHint(fmt.Errorf("hwmon chip %s has no channel that is asked for", m), found("channels", all)+" (key channels)")
	}
	s := &channels{env: env}
	for i, metric := range uniqueNames(labels, names) {
		kind, _ := kindOf(names[i])
		series := edgeagent.Gauge
		if kind.prefix == "energy" {
			series = edgeagent.Counter
		}
		ch := channel{
			name:   names[i] + " of " + m.String(),
			value:  attribute{path: filepath.Join(m.dir, names[i]+"_input")},
			series: env.NewSeries(metric, kind.unit, series),
			exp10:  kind.exp10,
		}
		if fault := names[i] + "_fault"; len(list(m.dir, fault)) > 0 {
			ch.fault.path = filepath.Join(m.dir, fault)
		}
		s.list = append(s.list, ch)
	}
	return s, nil
}

func (c *Hwmon) wants(name, label string) bool {
	return len(c.Channels) == 0 || slices.Contains(c.Channels, name) || label != "" && slices.Contains(c.Channels, label)
}
