package kernel

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edgeagent/edgeagent/sensors"
)

// Scan lists what the kernel reads already below root: 1-Wire devices, hwmon chips, IIO
// devices, thermal zones; and the serial ports and GPIO chips that there are. It reads
// names only, and makes nothing measure.
func Scan(root string) []sensors.Found {
	env := sensors.Env{Root: root}
	return slices.Concat(scanW1(env), scanHwmon(env), scanIIO(env), scanThermal(env), scanSerial(env), scanGPIO(env))
}

// w1Families are the thermometers that w1_therm serves.
var w1Families = map[string]string{
	"10": "DS18S20", "22": "DS1822", "28": "DS18B20", "3b": "DS1825 or MAX31826", "42": "DS28EA00",
}

func scanW1(env sensors.Env) []sensors.Found {
	dir := under(env, "sys/bus/w1/devices")
	var out []sensors.Found
	for _, id := range list(dir, "") {
		if !isW1ID(id) {
			continue
		}
		f := sensors.Found{Where: "1-Wire", Place: id, What: w1Families[id[:2]]}
		switch {
		case f.What == "":
			f.What, f.Note = "family "+id[:2], "no thermometer that the kernel knows"
		case strings.HasSuffix(id, "-000000000000"):
			f.Note = "a number of zeros: the data line is held low, or has no pull-up"
		default:
			f.Fits = []sensors.Stanza{{Name: id, Driver: "w1", Keys: []sensors.Key{{Name: "id", Value: id}}}}
		}
		out = append(out, f)
	}
	return out
}

func scanHwmon(env sensors.Env) []sensors.Found {
	all := monitors(under(env, "sys/class/hwmon"))
	var out []sensors.Found
	for _, m := range all {
		var channels []string
		for _, file := range list(m.dir, "") {
			if name, ok := strings.CutSuffix(file, "_input"); ok {
				if _, known := kindOf(name); known {
					channels = append(channels, name)
				}
			}
		}
		f := sensors.Found{Where: "hwmon", Place: m.String(), What: strings.Join(channels, ", ")}
		if len(channels) == 0 {
			f.Note = "nothing to read"
			out = append(out, f)
			continue
		}
		s := sensors.Stanza{Name: sensors.SafeName(m.name), Driver: "hwmon", Keys: []sensors.Key{{Name: "chip", Value: m.name}}}
		if same := slices.DeleteFunc(slices.Clone(all), func(x monitor) bool { return x.name != m.name }); len(same) > 1 {
			s.Name = sensors.SafeName(m.name, m.device)
			s.Keys = append(s.Keys, sensors.Key{Name: "device", Value: m.device})
		}
		f.Fits = []sensors.Stanza{s}
		out = append(out, f)
	}
	return out
}

func scanIIO(env sensors.Env) []sensors.Found {
	all := iioDevices(under(env, "sys/bus/iio/devices"))
	var out []sensors.Found
	for _, d := range all {
		var channels []string
		for _, c := range iioChannels(env, d) {
			channels = append(channels, c.series.Key().Metric)
		}
		f := sensors.Found{Where: "IIO", Place: d.String(), What: strings.Join(channels, ", ")}
		if len(channels) == 0 {
			f.Note = "nothing to read"
			out = append(out, f)
			continue
		}
		s := sensors.Stanza{Name: sensors.SafeName(d.name), Driver: "iio", Keys: []sensors.Key{{Name: "device", Value: d.name}}}
		if same := slices.DeleteFunc(slices.Clone(all), func(x iioDevice) bool { return x.name != d.name }); len(same) > 1 {
			s.Name = sensors.SafeName(d.name, d.address)
			s.Keys = append(s.Keys, sensors.Key{Name: "address", Value: d.address})
		}
		f.Fits = []sensors.Stanza{s}
		out = append(out, f)
	}
	return out
}

func scanThermal(env sensors.Env) []sensors.Found {
	var out []sensors.Found
	seen := map[string]bool{}
	for _, z := range thermalZones(under(env, "sys/class/thermal")) {
		f := sensors.Found{Where: "thermal zones", Place: z.name, What: z.kind}
		key := z.kind
		if seen[key] {
			key = z.name
		}
		seen[z.kind] = true
		f.Fits = []sensors.Stanza{{Name: sensors.SafeName(key), Driver: "thermal", Keys: []sensors.Key{{Name: "zone", Value: key}}}}
		out = append(out, f)
	}
	return out
}

// scanSerial lists ports that have hardware behind them, with the name under
// /dev/serial/by-id, which stays when they are plugged in in another order.
func scanSerial(env sensors.Env) []sensors.Found {
	byID := map[string]string{}
	for _, name := range list(under(env, "dev/serial/by-id"), "") {
		if target, err := os.Readlink(filepath.Join(under(env, "dev/serial/by-id"), name)); err == nil {
			byID[filepath.Base(target)] = "/dev/serial/by-id/" + name
		}
	}
	var out []sensors.Found
	dir := under(env, "sys/class/tty")
	for _, tty := range list(dir, "tty") {
		driver, err := os.Readlink(filepath.Join(dir, tty, "device/driver"))
		if err != nil {
			continue // no hardware: a console
		}
		// The kernel makes ports of PCs that may not be there; type 0 is "unknown".
		if kind, err := readString(filepath.Join(dir, tty, "type")); err == nil && kind == "0" {
			continue
		}
		f := sensors.Found{Where: "serial ports", Place: "/dev/" + tty, What: filepath.Base(driver)}
		if id := byID[tty]; id != "" {
			f.Note = "name it " + id + ", which stays when ports change places"
		}
		out = append(out, f)
	}
	return out
}

func scanGPIO(env sensors.Env) []sensors.Found {
	labels := map[string]string{} // by the device that a chip is a part of
	class := under(env, "sys/class/gpio")
	for _, name := range list(class, "gpiochip") {
		dir := filepath.Join(class, name)
		label, err := readString(filepath.Join(dir, "label"))
		lines, err2 := readString(filepath.Join(dir, "ngpio"))
		device, err3 := filepath.EvalSymlinks(filepath.Join(dir, "device"))
		if err == nil && err2 == nil && err3 == nil {
			labels[filepath.Base(device)] = fmt.Sprintf("%s, %s lines", label, lines)
		}
	}
	var out []sensors.Found
	dir := under(env, "sys/bus/gpio/devices")
	for _, chip := range list(dir, "gpiochip") {
		f := sensors.Found{Where: "GPIO", Place: chip, What: "a GPIO chip"}
		target, err := filepath.EvalSymlinks(filepath.Join(dir, chip))
		if err == nil {
			if words := labels[filepath.Base(filepath.Dir(target))]; words != "" {
				f.What = words
			}
		}
		out = append(out, f)
	}
	return out
}
