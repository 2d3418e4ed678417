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

// IIO is the configuration of the driver iio.
type IIO struct {
	// Device is a name ("bme280") or a label. It may be left out if an address is
	// given.
	Device string `yaml:"device"`
	// Address tells devices of one name apart by their place on a bus ("1-0076").
	Address string `yaml:"address"`
}

// Validate checks the keys.
func (c *IIO) Validate() error {
	if c.Device == "" && c.Address == "" {
		return edgeagent.Field("device", "%w", edgeagent.WithHint(errors.New("missing key device"),
			`"cat /sys/bus/iio/devices/*/name" lists the devices of a machine`))
	}
	return nil
}

// iioDevice is a directory of /sys/bus/iio/devices.
type iioDevice struct{ dir, name, label, address string }

func (d iioDevice) String() string { return d.name + " at " + d.address }

// Open finds the device and its channels.
func (c *IIO) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	all := iioDevices(under(env, "sys/bus/iio/devices"))
	var here []string
	for _, d := range all {
		here = append(here, d.String())
	}
	chosen := slices.DeleteFunc(all, func(d iioDevice) bool {
		return c.Device != "" && c.Device != d.name && c.Device != d.label || c.Address != "" && c.Address != d.address
	})
	hint := found("devices", here) + " (keys device and address)"
	switch len(chosen) {
	case 0:
		return nil, edgeagent.WithHint(fmt.Errorf("no iio device %q", strings.TrimSpace(c.Device+" "+c.Address)), hint)
	case 1:
		s := &channels{env: env, list: iioChannels(env, chosen[0])}
		if len(s.list) == 0 {
			return nil, fmt.Errorf("iio device %s has no channel to read", chosen[0])
		}
		return s, nil
	default:
		return nil, edgeagent.WithHint(fmt.Errorf("%d iio devices match %q", len(chosen), strings.TrimSpace(c.Device+" "+c.Address)), hint)
	}
}

func iioDevices(dir string) []iioDevice {
	var out []iioDevice
	for _, n := range list(dir, "iio:device") {
		d := iioDevice{dir: filepath.Join(dir, n)}
		var err error
		if d.name, err = readString(filepath.Join(d.dir, "name")); err != nil {
			continue
		}
		if d.label, err = readString(filepath.Join(d.dir, "label")); err != nil {
			d.label = ""
		}
		if target, err := filepath.EvalSymlinks(d.dir); err == nil {
			d.address = filepath.Base(filepath.Dir(target))
		}
		out = append(out, d)
	}
	return out
}

// iioKind is what a channel measures, by the first part of its name.
type iioKind struct {
	name, metric, unit string
	exp10              int
}

// Units of Documentation/ABI/testing/sysfs-bus-iio, and what we make of them.
var iioKinds = []iioKind{
	{"humidityrelative", "humidity", "%", -3},            // m%RH
	{"temp", "temperature", "Cel", -3},                   // m°C
	{"pressure", "pressure", "Pa", 3},                    // kPa
	{"voltage", "voltage", "V", -3},                      // mV
	{"current", "current", "A", -3},                      // mA
	{"power", "power", "W", -3},                          // mW
	{"resistance", "resistance", "Ohm", 0},               // Ω
	{"illuminance", "illuminance", "lx", 0},              // lux
	{"accel", "acceleration", "m/s2", 0},                 // m/s²
	{"anglvel", "angular_velocity", "rad/s", 0},          // rad/s
	{"magn", "magnetic_field", "T", -4},                  // gauss
	{"incli", "inclination", "deg", 0},                   // degrees
	{"distance", "distance", "m", 0},                     // m
	{"concentration", "concentration", "[ppm]", 4},       // %
	{"energy", "energy", "J", 0},                         // J
	{"electricalconductivity", "conductivity", "S/m", 0}, // S/m
	{"ph", "ph", "[pH]", -3},                             // milli pH
	{"proximity", "proximity", "1", 0},
	{"intensity", "intensity", "1", 0}, // no unit
}

// iioChannel takes a channel apart: "voltage0-voltage1" is "voltage" and
// "0-voltage1", "accel_x" is "accel" and "_x".
func iioChannel(channel string) (kind iioKind, rest string, ok bool) {
	for _, k := range iioKinds {
		if rest, ok := strings.CutPrefix(channel, k.name); ok && (rest == "" || rest[0] == '_' || rest[0] >= '0' && rest[0] <= '9') {
			return k, rest, true
		}
	}
	return iioKind{}, "", false
}

// iioChannels finds what can be read: the processed value where there is one, else
// the raw one with its offset and scale.
func iioChannels(env sensors.Env, d iioDevice) []channel {
	var out []channel
	files := list(d.dir, "in_")
	for _, file := range files {
		name, processed := strings.CutSuffix(file[len("in_"):], "_input")
		if !processed {
			var raw bool
			if name, raw = strings.CutSuffix(name, "_raw"); !raw || slices.Contains(files, "in_"+name+"_input") {
				continue
			}
		}
		kind, rest, ok := iioChannel(name)
		if !ok || isStatistic(rest) {
			continue
		}
		c := channel{
			name:   name + " of " + d.String(),
			value:  attribute{path: filepath.Join(d.dir, file)},
			series: env.NewSeries(metricName(kind.metric+rest), kind.unit, edgeagent.Gauge),
			exp10:  kind.exp10,
		}
		if !processed {
			c.offset = d.factor(name, "offset", 0, 0)
			c.scale = d.factor(name, "scale", kind.exp10, 1)
		}
		out = append(out, c)
	}
	return out
}

// isStatistic: a device may keep the peak of a channel beside it.
func isStatistic(rest string) bool {
	return strings.HasSuffix(rest, "_peak") || strings.HasSuffix(rest, "_mean") || strings.HasSuffix(rest, "_trough")
}

// factor reads a channel's scale or offset, which it may share with the others of
// its kind: "in_voltage0_scale", else "in_voltage_scale".
func (d iioDevice) factor(channel, what string, exp10 int, missing float64) float64 {
	for name := range sharedNames(channel) {
		text, err := readString(filepath.Join(d.dir, "in_"+name+"_"+what))
		if err != nil {
			continue
		}
		if v, err := decimal([]byte(text), exp10); err == nil {
			return v
		}
	}
	v, err := decimal(fmt.Append(nil, missing), exp10)
	if err != nil {
		return missing
	}
	return v
}

// sharedNames yields a channel's name, the same without its numbers, and then
// without its last parts.
func sharedNames(channel string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		plain := strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return -1
			}
			return r
		}, channel)
		if !yield(channel) || !yield(plain) {
			return
		}
		for {
			i := strings.LastIndexByte(plain, '_')
			if i < 0 {
				return
			}
			if plain = plain[:i]; !yield(plain) {
				return
			}
		}
	}
}
