package kernel

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/sensortest"
)

// tree writes files below a new root. A content of "-> x" makes a link to x, and
// "dir" a directory, which cannot be read as a file.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		put(t, filepath.Join(root, name), content)
	}
	return root
}

func put(t *testing.T, path, content string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	target, link := strings.CutPrefix(content, "-> ")
	switch {
	case err != nil:
	case link:
		err = os.Symlink(target, path)
	case content == "dir":
		err = os.MkdirAll(path, 0o755)
	default:
		err = os.WriteFile(path, []byte(content), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func env(root string) sensors.Env {
	e := sensortest.Env("s")
	e.Root = root
	return e
}

func open(t *testing.T, c sensors.DriverConfig, root string) sensors.Source {
	t.Helper()
	s, err := c.Open(t.Context(), env(root))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// sample takes one sample and renders it as "metric unit" → value.
func sample(t *testing.T, s sensors.Source) (got map[string]float64, err error) {
	t.Helper()
	rs, err := s.Sample(t.Context(), nil)
	got = map[string]float64{}
	for _, r := range rs {
		k := r.Series.Key()
		name := k.Metric + " " + k.Unit
		if _, twice := got[name]; twice {
			t.Errorf("two readings of %s", name)
		}
		got[name] = r.Value
	}
	return got, err
}

var zones = map[string]string{
	"sys/class/thermal/thermal_zone0/type":   "cpu-thermal\n",
	"sys/class/thermal/thermal_zone0/temp":   "48312\n",
	"sys/class/thermal/thermal_zone1/type":   "acpitz\n",
	"sys/class/thermal/thermal_zone1/temp":   "27800\n",
	"sys/class/thermal/thermal_zone2/type":   "acpitz\n",
	"sys/class/thermal/thermal_zone2/temp":   "-1500\n",
	"sys/class/thermal/cooling_device0/type": "fan\n",
}

var chips = map[string]string{
	"sys/class/hwmon/hwmon0/name":             "coretemp\n",
	"sys/class/hwmon/hwmon0/device":           "-> ../../../devices/platform/coretemp.0",
	"sys/devices/platform/coretemp.0/x":       "",
	"sys/class/hwmon/hwmon0/temp1_input":      "45000\n",
	"sys/class/hwmon/hwmon0/temp1_label":      "Package id 0\n",
	"sys/class/hwmon/hwmon0/temp2_input":      "43000\n",
	"sys/class/hwmon/hwmon0/temp2_label":      "Core 0\n",
	"sys/class/hwmon/hwmon0/temp3_input":      "44000\n",
	"sys/class/hwmon/hwmon0/temp3_label":      "Core 0\n",
	"sys/class/hwmon/hwmon0/temp2_crit":       "100000\n",
	"sys/class/hwmon/hwmon1/name":             "lm75\n",
	"sys/class/hwmon/hwmon1/device":           "-> ../../../devices/i2c-1/1-0048",
	"sys/devices/i2c-1/1-0048/x":              "",
	"sys/class/hwmon/hwmon1/temp1_input":      "21500\n",
	"sys/class/hwmon/hwmon2/name":             "lm75\n",
	"sys/class/hwmon/hwmon2/device":           "-> ../../../devices/i2c-1/1-0049",
	"sys/devices/i2c-1/1-0049/x":              "",
	"sys/class/hwmon/hwmon2/temp1_input":      "-5250\n",
	"sys/class/hwmon/hwmon3/name":             "board\n",
	"sys/class/hwmon/hwmon3/in0_input":        "3304\n",
	"sys/class/hwmon/hwmon3/in0_label":        "+3.3V\n",
	"sys/class/hwmon/hwmon3/curr1_input":      "1250\n",
	"sys/class/hwmon/hwmon3/power1_input":     "12345678\n",
	"sys/class/hwmon/hwmon3/humidity1_input":  "45500\n",
	"sys/class/hwmon/hwmon3/fan1_input":       "1420\n",
	"sys/class/hwmon/hwmon3/energy1_input":    "5000000\n",
	"sys/class/hwmon/hwmon3/temp1_input":      "20000\n",
	"sys/class/hwmon/hwmon3/temp1_fault":      "1\n",
	"sys/class/hwmon/hwmon3/temp2_input":      "30000\n",
	"sys/class/hwmon/hwmon3/temp2_fault":      "0\n",
	"sys/class/hwmon/hwmon3/intrusion0_alarm": "0\n",
}

var iioTree = map[string]string{
	"sys/devices/i2c-1/1-0076/iio:device0/name":                       "bme280\n",
	"sys/devices/i2c-1/1-0076/iio:device0/in_temp_input":              "28250\n",
	"sys/devices/i2c-1/1-0076/iio:device0/in_pressure_input":          "102.034695312\n",
	"sys/devices/i2c-1/1-0076/iio:device0/in_humidityrelative_input":  "29739\n",
	"sys/devices/i2c-1/1-0076/iio:device0/in_temp_oversampling_ratio": "2\n",
	"sys/bus/iio/devices/iio:device0":                                 "-> ../../../devices/i2c-1/1-0076/iio:device0",

	"sys/devices/i2c-1/1-0048/iio:device1/name":                     "ads1015\n",
	"sys/devices/i2c-1/1-0048/iio:device1/label":                    "tank\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_voltage0_raw":          "1000\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_voltage0_scale":        "3.000000\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_voltage1_raw":          "-7\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_voltage0-voltage1_raw": "100\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_voltage_scale":         "2.000000\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_voltage-voltage_scale": "0.5\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_temp_raw":              "401\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_temp_offset":           "-1\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_temp_scale":            "62.5\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_accel_x_raw":           "100\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_accel_x_peak_raw":      "900\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_accel_scale":           "0.009580\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_concentration_co2_raw": "415\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_concentration_scale":   "0.0001\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_illuminance_input":     "5\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_illuminance_raw":       "77\n",
	"sys/devices/i2c-1/1-0048/iio:device1/in_timestamp_index":       "0\n",
	"sys/bus/iio/devices/iio:device1":                               "-> ../../../devices/i2c-1/1-0048/iio:device1",
}

const w1 = "sys/bus/w1/devices/28-00000a1b2c3d/"

var thermometers = map[string]string{
	w1 + "temperature": "21437\n",
	"sys/bus/w1/devices/28-0000000000aa/w1_slave": "91 01 4b 46 7f ff 0c 10 25 : crc=25 YES\n91 01 4b 46 7f ff 0c 10 25 t=25062\n",
	"sys/bus/w1/devices/w1_bus_master1/x":         "",
}

var machine = map[string]string{
	"proc/loadavg": "0.52 1.58 2.59 1/389 11932\n",
	"proc/meminfo": "MemTotal:        4000000 kB\nMemFree:          200000 kB\nMemAvailable:    1000000 kB\nSwapTotal:        100000 kB\nSwapFree:          60000 kB\nHugePages_Total:       0\n",
	"proc/net/dev": `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1000 10 0 0 0 0 0 0 1000 10 0 0 0 0 0 0
  eth0:123456789 4321 1 0 0 0 0 5 987654321 1234 2 0 0 0 0 0
wlan0: 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26
veth12ab: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
`,
}

func TestReadings(t *testing.T) {
	tests := []struct {
		name   string
		files  map[string]string
		config sensors.DriverConfig
		want   map[string]float64
	}{
		{"thermal, all", zones, &Thermal{}, map[string]float64{
			"cpu_thermal Cel": 48.312, "acpitz_thermal_zone1 Cel": 27.8, "acpitz_thermal_zone2 Cel": -1.5,
		}},
		{"thermal, by type", zones, &Thermal{Zone: "cpu-thermal"}, map[string]float64{"temperature Cel": 48.312}},
		{"thermal, by name", zones, &Thermal{Zone: "thermal_zone2"}, map[string]float64{"temperature Cel": -1.5}},
		{"thermal, several of a type", zones, &Thermal{Zone: "acpitz"}, map[string]float64{
			"acpitz_thermal_zone1 Cel": 27.8, "acpitz_thermal_zone2 Cel": -1.5,
		}},
		{"hwmon, labels", chips, &Hwmon{Chip: "coretemp"}, map[string]float64{
			"package_id_0 Cel": 45, "core_0_temp2 Cel": 43, "core_0_temp3 Cel": 44,
		}},
		{"hwmon, by device", chips, &Hwmon{Chip: "lm75", Device: "1-0049"}, map[string]float64{"temp1 Cel": -5.25}},
		{"hwmon, by channel and label", chips, &Hwmon{Chip: "coretemp", Channels: []string{"temp2", "Package id 0"}}, map[string]float64{
			"package_id_0 Cel": 45, "core_0 Cel": 43,
		}},
		{"hwmon, units", chips, &Hwmon{Chip: "board", Channels: []string{"+3.3V", "curr1", "power1", "humidity1", "fan1", "energy1", "temp2"}}, map[string]float64{
			"p3_3v V": 3.304, "curr1 A": 1.25, "power1 W": 12.345678, "humidity1 %": 45.5, "fan1 /min": 1420, "energy1 J": 5, "temp2 Cel": 30,
		}},
		{"iio, processed", iioTree, &IIO{Device: "bme280"}, map[string]float64{
			"temperature Cel": 28.25, "pressure Pa": 102034.695312, "humidity %": 29.739,
		}},
		{"iio, raw, by label", iioTree, &IIO{Device: "tank"}, map[string]float64{
			"voltage0 V": 3, "voltage1 V": -0.014, "voltage0_voltage1 V": 0.05, "temperature Cel": 25, "acceleration_x m/s2": 0.958,
			"concentration_co2 [ppm]": 415, "illuminance lx": 5,
		}},
		{"w1", thermometers, &W1{ID: "28-00000a1b2c3d"}, map[string]float64{"temperature Cel": 21.437}},
		{"w1, old kernel", thermometers, &W1{ID: "28-0000000000aa"}, map[string]float64{"temperature Cel": 25.062}},
		{"load", machine, &Load{}, map[string]float64{"load1 1": 0.52, "load5 1": 1.58, "load15 1": 2.59}},
		{"memory", machine, &Memory{}, map[string]float64{
			"available By": 1_024_000_000, "total By": 4_096_000_000, "used_percent %": 75, "swap_total By": 102_400_000, "swap_used By": 40_960_000,
		}},
		{"network, one", machine, &Network{Interface: "eth0"}, map[string]float64{
			"rx_bytes By": 123456789, "rx_packets 1": 4321, "rx_errors 1": 1, "tx_bytes By": 987654321, "tx_packets 1": 1234, "tx_errors 1": 2,
		}},
		{"network, all", machine, &Network{}, map[string]float64{
			"eth0_rx_bytes By": 123456789, "eth0_rx_packets 1": 4321, "eth0_rx_errors 1": 1,
			"eth0_tx_bytes By": 987654321, "eth0_tx_packets 1": 1234, "eth0_tx_errors 1": 2,
			"wlan0_rx_bytes By": 11, "wlan0_rx_packets 1": 12, "wlan0_rx_errors 1": 13,
			"wlan0_tx_bytes By": 19, "wlan0_tx_packets 1": 20, "wlan0_tx_errors 1": 21,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := tree(t, tt.files)
			s := open(t, tt.config, root)
			for range 2 { // the second time from open files
				got, err := sample(t, s)
				if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
					t.Errorf("error %v, readings (-want +got):\n%s", err, diff)
				}
			}
			if err := tt.config.Validate(); err != nil {
				t.Errorf("validate: %v", err)
			}
			dst := make([]edgeagent.Reading, 0, 64)
			if n := testing.AllocsPerRun(50, func() { _, _ = s.Sample(t.Context(), dst) }); n > 0 {
				t.Errorf("%v allocations a sample", n)
			}
			t.Run("conformance", func(t *testing.T) {
				sensortest.Run(t, func(t *testing.T, e sensors.Env) sensors.Source {
					e.Root = root
					s, err := tt.config.Open(t.Context(), e)
					if err != nil {
						t.Fatal(err)
					}
					return s
				})
			})
		})
	}
}

func TestNothingThereSaysWhatThereIs(t *testing.T) {
	tests := []struct {
		name       string
		files      map[string]string
		config     sensors.DriverConfig
		want, hint string
	}{
		{"thermal", zones, &Thermal{Zone: "gpu"}, `no thermal zone "gpu"`, "zones here: cpu-thermal, acpitz, acpitz (key zone)"},
		{"thermal, none", nil, &Thermal{}, "no thermal zones", "there are none on this machine (key zone)"},
		{"hwmon", chips, &Hwmon{Chip: "nct6775"}, `no hwmon chip "nct6775"`, "chips here: coretemp on coretemp.0, lm75 on 1-0048, lm75 on 1-0049, board (keys chip and device)"},
		{"hwmon, none", nil, &Hwmon{Chip: "lm75", Device: "1-0048"}, `no hwmon chip "lm75 on 1-0048"`, "there are none on this machine (keys chip and device)"},
		{"hwmon, two", chips, &Hwmon{Chip: "lm75"}, `2 hwmon chips are called "lm75"`, "set the key device to one of them; chips here: lm75 on 1-0048, lm75 on 1-0049"},
		{"hwmon, channel", chips, &Hwmon{Chip: "lm75", Device: "1-0048", Channels: []string{"temp9"}}, "hwmon chip lm75 on 1-0048 has no channel that is asked for", "channels here: temp1 (key channels)"},
		{"iio", iioTree, &IIO{Device: "bmp180", Address: "1-0077"}, `no iio device "bmp180 1-0077"`, "devices here: bme280 at 1-0076, ads1015 at 1-0048 (keys device and address)"},
		{"w1", thermometers, &W1{ID: "28-000000000001"}, "no 1-Wire thermometer 28-000000000001", "sensors here: 28-0000000000aa, 28-00000a1b2c3d (key id)"},
		{"w1, none", nil, &W1{ID: "28-000000000001"}, "no 1-Wire thermometer 28-000000000001", "no 1-Wire sensor is found here: add dtoverlay=w1-gpio to config.txt and check the wiring"},
		{"network", machine, &Network{Interface: "wwan0"}, `no network interface "wwan0"`, "interfaces here: lo, eth0, wlan0, veth12ab (key interface)"},
		{"disk", nil, &Disk{Path: "/data"}, "read disk: statfs ", "set the key path to a directory on the file system"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "disk" && runtime.GOOS != "linux" {
				t.Skip("statfs is asked on Linux only")
			}
			_, err := tt.config.Open(t.Context(), env(tree(t, tt.files)))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			var h edgeagent.Hinter
			if !errors.As(err, &h) || h.Hint() != tt.hint {
				t.Errorf("hint %q, want %q", h.Hint(), tt.hint)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		config sensors.DriverConfig
		want   string
	}{
		{&Hwmon{}, "chip: missing key chip"},
		{&IIO{}, "device: missing key device"},
		{&W1{}, "id: missing key id"},
		{&W1{ID: "28-00000A1B2C3D"}, `id: "28-00000A1B2C3D" is not a 1-Wire id, want two and twelve hex digits like 28-00000a1b2c3d`},
		{&W1{ID: "../../../etc"}, `id: "../../../etc" is not a 1-Wire id, want two and twelve hex digits like 28-00000a1b2c3d`},
		{&Disk{Path: "data"}, `path: "data" is not an absolute path`},
		{&Disk{}, `path: "" is not an absolute path`},
	}
	for _, tt := range tests {
		if err := tt.config.Validate(); err == nil || err.Error() != tt.want {
			t.Errorf("%+v: %v, want %q", tt.config, err, tt.want)
		}
	}
	for _, d := range Drivers() {
		if d.Name == "" || d.Summary == "" || d.New() == nil {
			t.Errorf("incomplete driver %+v", d)
		}
	}
}

func TestBadReadingsAreErrorsAndNeverZero(t *testing.T) {
	tests := []struct {
		name, content, want string
	}{
		{"empty", "", "the file is empty"},
		{"only a line end", "\n", "the file is empty"},
		{"unreadable", "dir", "is a directory"},
		{"words", "n/a\n", `not a number: "n/a"`},
		{"NaN", "nan\n", `not a number: "nan"`},
		{"two numbers", "1 2\n", `not a number: "1 2"`},
		{"too long", strings.Repeat("1", 100), "the file is longer than expected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := tree(t, zones)
			path := filepath.Join(root, "sys/class/thermal/thermal_zone1/temp")
			s := open(t, &Thermal{}, root)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			put(t, path, tt.content)
			got, err := sample(t, s)
			want := map[string]float64{"cpu_thermal Cel": 48.312, "acpitz_thermal_zone2 Cel": -1.5}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the other zones (-want +got):\n%s", diff)
			}
			if err == nil || !strings.HasPrefix(err.Error(), "read thermal zone acpitz: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestFileThatGoesAndComesBack(t *testing.T) {
	root := tree(t, thermometers)
	s := open(t, &W1{ID: "28-00000a1b2c3d"}, root)
	path := filepath.Join(root, w1+"temperature")
	if err := os.Truncate(path, 0); err != nil { // what an old kernel shows for a failed conversion
		t.Fatal(err)
	}
	if got, err := sample(t, s); err == nil || len(got) != 0 {
		t.Errorf("%v, %v, want an error", got, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, err := sample(t, s); !errors.Is(err, os.ErrNotExist) || len(got) != 0 {
		t.Errorf("%v, %v, want no such file", got, err)
	}
	put(t, path, "19000\n")
	if got, err := sample(t, s); err != nil || got["temperature Cel"] != 19 {
		t.Errorf("%v, %v, want 19", got, err)
	}
}

func TestFaultyChannelIsAnErrorForItselfOnly(t *testing.T) {
	s := open(t, &Hwmon{Chip: "board", Channels: []string{"temp1", "temp2"}}, tree(t, chips))
	got, err := sample(t, s)
	if diff := cmp.Diff(map[string]float64{"temp2 Cel": 30}, got); diff != "" {
		t.Errorf("readings (-want +got):\n%s", diff)
	}
	if !errors.Is(err, errFault) || !strings.HasPrefix(err.Error(), "read temp1 of board: ") {
		t.Errorf("error %v", err)
	}
}

func TestSeveralFailuresAreOneError(t *testing.T) {
	root := tree(t, zones)
	s := open(t, &Thermal{}, root)
	if err := os.RemoveAll(filepath.Join(root, "sys")); err != nil {
		t.Fatal(err)
	}
	_, err := sample(t, s)
	if err == nil || !strings.HasSuffix(err.Error(), "(and 2 more channels)") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
}

func TestW1(t *testing.T) {
	slave := func(bytes, crc, t string) string { return bytes + " : " + crc + "\n" + bytes + " t=" + t + "\n" }
	tests := []struct {
		name, file, content string
		want                float64
		quality             edgeagent.Quality
		err                 error
	}{
		{"below zero", "temperature", "-62\n", -0.062, edgeagent.Good, nil},
		{"power-on value", "temperature", "85000\n", 85, edgeagent.Suspect, nil},
		{"near it", "temperature", "85062\n", 85.062, edgeagent.Good, nil},
		{"empty", "temperature", "\n", 0, edgeagent.Good, errEmpty},
		{"old, good", "w1_slave", slave("91 01 4b 46 7f ff 0c 10 25", "crc=25 YES", "25062"), 25.062, edgeagent.Good, nil},
		{"old, bad checksum", "w1_slave", slave("ff ff ff ff ff ff ff ff ff", "crc=c9 NO", "-62"), 0, edgeagent.Good, errCRC},
		{"old, held low", "w1_slave", slave("00 00 00 00 00 00 00 00 00", "crc=00 YES", "0"), 0, edgeagent.Good, errShorted},
		{"old, power-on value", "w1_slave", slave("50 05 4b 46 7f ff 0c 10 1c", "crc=1c YES", "85000"), 85, edgeagent.Suspect, nil},
		{"old, cut off", "w1_slave", "91 01 4b 46 7f ff 0c 10 25 : crc=25 YES\n", 0, edgeagent.Good, errCRC},
		{"old, no value", "w1_slave", "91 01 : crc=25 YES\n91 01\n", 0, edgeagent.Good, errSlave},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, &W1{ID: "28-00000a1b2c3d"}, tree(t, map[string]string{w1 + tt.file: tt.content}))
			rs, err := s.Sample(t.Context(), nil)
			if !errors.Is(err, tt.err) || (err == nil) != (len(rs) == 1) {
				t.Fatalf("%d readings, error %v, want %v", len(rs), err, tt.err)
			}
			if err == nil && (rs[0].Value != tt.want || rs[0].Quality != tt.quality) {
				t.Errorf("%v %s, want %v %s", rs[0].Value, rs[0].Quality, tt.want, tt.quality)
			}
		})
	}
}

func TestPowerOnValueIsReadAgain(t *testing.T) {
	reads := 0
	s := &thermometer{
		env: env("/"), series: env("/").NewSeries("temperature", "Cel", edgeagent.Gauge),
		file: attribute{path: filepath.Join(tree(t, map[string]string{"t": "x"}), "t")},
		parse: func([]byte) (float64, error) {
			if reads++; reads == 1 {
				return powerOn, nil
			}
			return 21000, nil
		},
	}
	rs, err := s.Sample(t.Context(), nil)
	if err != nil || rs[0].Value != 21 || rs[0].Quality != edgeagent.Good || reads != 2 {
		t.Errorf("%v, %v after %d reads, want 21 and good after 2", rs, err, reads)
	}
}

func TestDisk(t *testing.T) {
	asked := ""
	v := space{total: 1000, free: 400, available: 350}
	c := &Disk{Path: "/data"}
	s, err := c.open(env("/fake"), func(path string) (space, error) { asked = path; return v, nil })
	if err != nil {
		t.Fatal(err)
	}
	got, err := sample(t, s)
	want := map[string]float64{"total By": 1000, "available By": 350, "used By": 600, "used_percent %": 63.16}
	if diff := cmp.Diff(want, got); diff != "" || err != nil || asked != "/fake/data" {
		t.Errorf("asked %q, error %v (-want +got):\n%s", asked, err, diff)
	}
	v = space{} // as some virtual file systems
	if got, err := sample(t, s); err != nil || got["used_percent %"] != 0 {
		t.Errorf("empty file system: %v, %v", got, err)
	}
}

func TestNetworkInterfacesComeAndGo(t *testing.T) {
	root := tree(t, machine)
	one, all := open(t, &Network{Interface: "eth0"}, root), open(t, &Network{}, root)
	put(t, filepath.Join(root, "proc/net/dev"), "a\nb\nppp0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\nshort: 1 2\n")
	if _, err := sample(t, one); err == nil || err.Error() != "network interface eth0 has gone" {
		t.Errorf("one: %v", err)
	}
	got, err := sample(t, all)
	if len(got) != 6 || got["ppp0_tx_bytes By"] != 9 {
		t.Errorf("all: %v", got)
	}
	if !errors.Is(err, errColumns) {
		t.Errorf("all: error %v, want too few columns", err)
	}
}

func TestInterfacesAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range maxInterfaces + 5 {
		b.WriteString(strings.Repeat("x", i+1) + ": 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n")
	}
	s := open(t, &Network{}, tree(t, map[string]string{"proc/net/dev": b.String()}))
	rs, err := s.Sample(t.Context(), nil)
	if len(rs) != maxInterfaces*len(counters) || !errors.Is(err, errInterfaces) {
		t.Errorf("%d readings, %v", len(rs), err)
	}
}

func TestCountersAreCounters(t *testing.T) {
	rs, err := open(t, &Network{}, tree(t, machine)).Sample(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		if r.Series.Key().Kind != edgeagent.Counter {
			t.Errorf("%s is a %s", r.Series, r.Series.Key().Kind)
		}
	}
}

func TestDecimalIsExact(t *testing.T) {
	tests := []struct {
		in    string
		exp10 int
		want  float64
	}{
		{"21500", -3, 21.5},
		{"21501", -3, 21.501},
		{"102.034695312", 3, 102034.695312},
		{"92.947", 3, 92947},
		{"-62", -3, -0.062},
		{"12345678", -6, 12.345678},
		{"+5", 0, 5},
	}
	for _, tt := range tests {
		if got, err := decimal([]byte(tt.in), tt.exp10); err != nil || got != tt.want {
			t.Errorf("decimal(%s, %d) = %v, %v, want %v", tt.in, tt.exp10, got, err, tt.want)
		}
	}
	if got := shorten(0.1 * 3); got != 0.3 {
		t.Errorf("shorten(0.1 × 3) = %v", got)
	}
}

// The machine that runs the test has these, whatever else it is.
func TestThisMachine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux only")
	}
	for _, c := range []sensors.DriverConfig{&Load{}, &Memory{}, &Disk{Path: "/"}, &Network{}} {
		s := open(t, c, "")
		if _, err := s.Sample(context.Background(), nil); err != nil {
			t.Errorf("%T: %v", c, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, files := range []map[string]string{machine, thermometers} {
		for _, content := range files {
			f.Add([]byte(content))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseSlave(b)
		if m, err := parseMeminfo(b); err == nil && (m.total < 0 || m.available < 0) && !strings.Contains(string(b), "-") {
			t.Errorf("%+v", m)
		}
		n := &network{env: env("/"), known: map[string]*netSeries{}}
		before := make([]edgeagent.Reading, 3)
		if got, err := n.append(before, []byte("eth0"), b); len(got) != 3 && (err != nil || len(got) != 3+len(counters)) {
			t.Errorf("%d readings, %v", len(got)-3, err)
		}
	})
}

func BenchmarkSample(b *testing.B) {
	s, err := (&Memory{}).Open(b.Context(), env(""))
	if err != nil {
		b.Skip(err)
	}
	defer s.Close()
	dst := make([]edgeagent.Reading, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sample(b.Context(), dst); err != nil {
			b.Fatal(err)
		}
	}
}
