package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pi is a Raspberry Pi in order; content that begins with "->" is a link.
func pi() map[string]string {
	return map[string]string{
		"proc/device-tree/model":                 "Raspberry Pi 3 Model B Rev 1.2\x00",
		"proc/sys/kernel/osrelease":              "6.1.0-50-arm64\n",
		"proc/meminfo":                           "MemTotal:  948304 kB\nMemAvailable:  700000 kB\n",
		"proc/self/mountinfo":                    "22 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw\n30 22 0:25 / /run rw,nosuid - tmpfs tmpfs rw\n",
		"boot/firmware/config.txt":               "dtparam=i2c_arm=on # sensors\ndtoverlay=w1-gpio\n",
		"sys/class/hwmon/hwmon0/name":            "rpi_volt\n",
		"sys/class/hwmon/hwmon0/in0_lcrit_alarm": "0\n",
		"dev/i2c-1":                              "",
		"dev/ttyUSB0":                            "",
		"sys/bus/w1/devices/w1_bus_master1/x":    "",
		"sys/bus/w1/devices/28-0316a2795fff/x":   "",
		"sys/block/mmcblk1/device/life_time":     "0x01 0x02\n",
		"var/lib/edgeagent/x":                    "",
	}
}

func machineOf(t *testing.T, files map[string]string) Machine {
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
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	return Machine{
		Root: root, Arch: "arm64", Kernel: "aarch64", User: "edgeagent", Groups: []string{"i2c", "dialout"},
		Synced: func() bool { return true }, Now: now, Built: now.Add(-time.Hour),
		Owner: func(path string) (string, fs.FileMode, error) {
			group := map[string]string{"i2c-1": "i2c", "ttyUSB0": "dialout", "gpiochip0": "gpio"}[filepath.Base(path)]
			return group, 0o660, nil
		},
		Space: func(string) (Space, error) { return Space{Total: 32 << 30, Free: 20 << 30}, nil },
	}
}

func wanted() Wanted {
	return Wanted{
		I2C: []Chip{{"climate", "1", 1, 0x76}}, W1: []string{"28-0316a2795fff"}, Serial: []string{"/dev/ttyUSB0"},
		Buffer: "/var/lib/edgeagent/buffer", BufferLimit: 256 << 20,
	}
}

func TestHealthyMachine(t *testing.T) {
	want := []Finding{
		{"board", OK, "Raspberry Pi 3 Model B Rev 1.2, Linux 6.1.0-50-arm64, aarch64", ""},
		{"program", OK, "built for arm64", ""},
		{"memory", OK, "683.6 MiB available", ""},
		{"power", OK, "no undervoltage", ""},
		{"clock", OK, "synchronised, no real-time clock: wrong after a power cut until the network is back", ""},
		{"disk", OK, "20 GiB of 32 GiB free on ext4", ""},
		{"wear", OK, "the eMMC mmcblk1 has used up at most 20 % of its life", ""},
		{"i2c", OK, "/dev/i2c-1 is there, and edgeagent may open it", ""},
		{"w1", OK, "28-0316a2795fff is there", ""},
		{"serial", OK, "/dev/ttyUSB0 is there, and edgeagent may open it", ""},
	}
	got := Examine(t.Context(), machineOf(t, pi()), wanted())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if Worst(got) != OK {
		t.Errorf("worst is %s", Worst(got))
	}
}

// Each thing that can be wrong is found, and has a hint.
func TestWhatCanBeWrong(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string // "" deletes
		do    func(m *Machine, w *Wanted)
		check string
		level Level
		text  string
	}{
		{"undervoltage", map[string]string{"sys/class/hwmon/hwmon0/in0_lcrit_alarm": "1"}, nil, "power", Failed, "the supply's voltage is too low, or was since it was last looked at"},
		{"old clock", nil, func(m *Machine, _ *Wanted) { m.Now = time.Unix(0, 0) }, "clock", Failed, "the clock says 1970-01-01, before this program was built"},
		{"free clock", nil, func(m *Machine, _ *Wanted) { m.Synced = func() bool { return false } }, "clock", Failed, "not synchronised, and there is no real-time clock"},
		{"rtc only", map[string]string{"dev/rtc0": "x"}, func(m *Machine, _ *Wanted) { m.Synced = func() bool { return false } }, "clock", Warning, "not synchronised, kept by a real-time clock"},
		{"little memory", map[string]string{"proc/meminfo": "MemAvailable: 20000 kB"}, nil, "memory", Warning, "19.5 MiB available"},
		{"control group", map[string]string{"sys/fs/cgroup/memory.max": "33554432"}, nil, "memory", Warning, "32 MiB by the limit of the control group"},
		{"32 bits on 64", nil, func(m *Machine, _ *Wanted) { m.Arch, m.ARM = "arm", "6" }, "program", Warning, "built for armv6, while this kernel is 64-bit"},
		{"v6 on v7", nil, func(m *Machine, _ *Wanted) { m.Arch, m.ARM, m.Kernel = "arm", "6", "armv7l" }, "program", Warning, "built for armv6, while this processor is an ARMv7"},
		{"tmpfs", map[string]string{"proc/self/mountinfo": "22 1 0:2 / /var rw - tmpfs tmpfs rw\n"}, nil, "disk", Warning, "the buffer's directory /var/lib/edgeagent/buffer is in memory: a power cut loses it"},
		{"read-only", map[string]string{"proc/self/mountinfo": "22 1 179:2 / / ro,noatime - ext4 /dev/mmcblk0p2 ro\n"}, nil, "disk", Failed, "the buffer's directory /var/lib/edgeagent/buffer is on a file system that is read-only"},
		{"no room", nil, func(m *Machine, _ *Wanted) {
			m.Space = func(string) (Space, error) { return Space{1 << 30, 1 << 20}, nil }
		}, "disk", Warning, "1 MiB free, while the buffer may grow to 256 MiB"},
		{"worn", map[string]string{"sys/block/mmcblk1/device/life_time": "0x03 0x0b"}, nil, "wear", Warning, "the eMMC mmcblk1 has used up 100 % of its life or more"},
		{"no bus", map[string]string{"dev/i2c-1": ""}, nil, "i2c", Failed, "/dev/i2c-1 is missing, and climate wants it"},
		{"not in the group", nil, func(m *Machine, _ *Wanted) { m.Groups = nil }, "i2c", Failed, "user edgeagent may not open /dev/i2c-1, which belongs to group i2c"},
		{"root's node", nil, func(m *Machine, _ *Wanted) {
			m.Owner = func(string) (string, fs.FileMode, error) { return "root", 0o600, nil }
		}, "i2c", Failed, "user edgeagent may not open /dev/i2c-1 (mode 600, group root)"},
		{"held", map[string]string{"sys/bus/i2c/drivers/bmp280/x": "x", "sys/bus/i2c/devices/1-0076/driver": "->../../drivers/bmp280"}, nil, "chip", Failed, "climate wants 0x76 on bus 1, which the kernel's driver bmp280 holds"},
		{"no thermometer", map[string]string{"sys/bus/w1/devices/28-0316a2795fff/x": ""}, func(_ *Machine, w *Wanted) { w.W1 = []string{"28-000000000001"} }, "w1", Failed, "28-000000000001 is not on the bus"},
		{"no 1-Wire bus", map[string]string{"sys/bus/w1/devices/w1_bus_master1/x": ""}, nil, "w1", Failed, "there is no 1-Wire bus, and sensors want one"},
		{"no port", map[string]string{"dev/ttyUSB0": ""}, nil, "serial", Failed, "/dev/ttyUSB0 is missing, and a sensor wants it"},
		{"no GPIO group", map[string]string{"dev/gpiochip0": "x"}, func(_ *Machine, w *Wanted) { w.GPIO = []string{"gpiochip0"} }, "gpio", Failed, "user edgeagent may not open /dev/gpiochip0, which belongs to group gpio"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := pi()
			for name, content := range tt.files {
				if content == "" {
					delete(files, name)
				} else {
					files[name] = content
				}
			}
			m, w := machineOf(t, files), wanted()
			if tt.do != nil {
				tt.do(&m, &w)
			}
			got := Examine(t.Context(), m, w)
			for _, f := range got {
				if f.Level == OK || f.Level == Unknown {
					continue
				}
				if f.Hint == "" {
					t.Errorf("%s: %q has no hint", f.Check, f.Text)
				}
				if f.Check == tt.check && f.Level == tt.level && f.Text == tt.text {
					return
				}
			}
			t.Errorf("not found: %s %s %q; found\n%+v", tt.check, tt.level, tt.text, got)
		})
	}
}

// What cannot be seen is not well.
func TestEmptyMachine(t *testing.T) {
	m := Machine{Root: t.TempDir(), Arch: "amd64", Space: func(string) (Space, error) { return Space{}, errors.New("no") }}
	for _, f := range Examine(t.Context(), m, Wanted{Buffer: "/var/lib/edgeagent/buffer"}) {
		if f.Level != Unknown {
			t.Errorf("%+v", f)
		}
	}
}

func TestMountOf(t *testing.T) {
	const table = `22 1 179:2 / / rw - ext4 /dev/root rw
30 22 8:1 / /var/my\040disk rw - xfs /dev/sda1 rw
31 22 8:2 / /var/my rw - vfat /dev/sdb1 rw
broken line
`
	for path, want := range map[string]string{
		"/etc": "ext4", "/var/my disk/buffer": "xfs", "/var/my/x": "vfat", "/var/mine": "ext4",
	} {
		if got, ok := mountOf(table, path); !ok || got.kind != want {
			t.Errorf("%s is on %+v, want %s", path, got, want)
		}
	}
}
