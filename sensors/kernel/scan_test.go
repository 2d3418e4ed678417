package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// plant makes files and links below a directory; a content that begins with "->" is a
// link.
func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if len(content) > 2 && content[:2] == "->" {
			err = os.Symlink(content[2:], path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestScan(t *testing.T) {
	root := plant(t, map[string]string{
		"sys/bus/w1/devices/28-0316a2795fff/name":              "x",
		"sys/bus/w1/devices/00-800000000000/name":              "x",
		"sys/bus/w1/devices/28-000000000000/name":              "x",
		"sys/bus/w1/devices/w1_bus_master1/name":               "x",
		"sys/devices/1-0048/x":                                 "",
		"sys/devices/1-0049/x":                                 "",
		"sys/class/hwmon/hwmon0/name":                          "lm75",
		"sys/class/hwmon/hwmon0/temp1_input":                   "21500",
		"sys/class/hwmon/hwmon0/device":                        "->../../../devices/1-0048",
		"sys/class/hwmon/hwmon1/name":                          "lm75",
		"sys/class/hwmon/hwmon1/temp1_input":                   "21500",
		"sys/class/hwmon/hwmon1/device":                        "->../../../devices/1-0049",
		"sys/class/hwmon/hwmon2/name":                          "cpu_thermal",
		"sys/class/hwmon/hwmon2/temp1_input":                   "40000",
		"sys/class/hwmon/hwmon3/name":                          "rpi_volt",
		"sys/bus/iio/devices/iio:device0/name":                 "bme280",
		"sys/bus/iio/devices/iio:device0/in_temp_input":        "21500",
		"sys/bus/iio/devices/iio:device0/in_pressure_input":    "101",
		"sys/class/thermal/thermal_zone0/type":                 "cpu-thermal",
		"sys/class/thermal/thermal_zone0/temp":                 "40000",
		"sys/devices/usb/ttyUSB0/x":                            "",
		"sys/bus/usb/drivers/ftdi_sio/x":                       "",
		"sys/class/tty/ttyUSB0/device/driver":                  "->../../../../bus/usb/drivers/ftdi_sio",
		"sys/class/tty/ttyS0/device/driver":                    "->../../../../bus/platform/drivers/serial8250",
		"sys/class/tty/ttyS0/type":                             "0",
		"sys/class/tty/tty1/active":                            "",
		"dev/serial/by-id/usb-FTDI_FT232R_A50285BI-if00-port0": "->../../ttyUSB0",
		"sys/devices/platform/3f200000.gpio/gpiochip0/dev":     "254:0",
		"sys/bus/gpio/devices/gpiochip0":                       "->../../../devices/platform/3f200000.gpio/gpiochip0",
		"sys/class/gpio/gpiochip512/label":                     "pinctrl-bcm2835",
		"sys/class/gpio/gpiochip512/ngpio":                     "54",
		"sys/class/gpio/gpiochip512/device":                    "->../../../devices/platform/3f200000.gpio",
	})
	var got []string
	for _, f := range Scan(root) {
		line := []string{f.Where, f.Place, f.What, f.Note}
		for _, s := range f.Fits {
			line = append(line, s.String())
		}
		got = append(got, strings.Join(line, " | "))
	}
	want := []string{
		"1-Wire | 00-800000000000 | family 00 | no thermometer that the kernel knows",
		"1-Wire | 28-000000000000 | DS18B20 | a number of zeros: the data line is held low, or has no pull-up",
		"1-Wire | 28-0316a2795fff | DS18B20 |  | {name: 28-0316a2795fff, driver: w1, id: 28-0316a2795fff}",
		"hwmon | lm75 on 1-0048 | temp1 |  | {name: lm75-1-0048, driver: hwmon, chip: lm75, device: 1-0048}",
		"hwmon | lm75 on 1-0049 | temp1 |  | {name: lm75-1-0049, driver: hwmon, chip: lm75, device: 1-0049}",
		"hwmon | cpu_thermal | temp1 |  | {name: cpu_thermal, driver: hwmon, chip: cpu_thermal}",
		"hwmon | rpi_volt |  | nothing to read",
		"IIO | bme280 at devices | pressure, temperature |  | {name: bme280, driver: iio, device: bme280}",
		"thermal zones | thermal_zone0 | cpu-thermal |  | {name: cpu-thermal, driver: thermal, zone: cpu-thermal}",
		"serial ports | /dev/ttyUSB0 | ftdi_sio | name it /dev/serial/by-id/usb-FTDI_FT232R_A50285BI-if00-port0, which stays when ports change places",
		"GPIO | gpiochip0 | pinctrl-bcm2835, 54 lines | ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	if found := Scan(t.TempDir()); len(found) > 0 {
		t.Errorf("found %v where there is nothing", found)
	}
}
