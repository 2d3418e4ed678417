package doctor

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// buses looks at the I²C buses that sensors want.
func buses(m Machine, w Wanted) []Finding {
	var out []Finding
	seen := map[string]bool{}
	for _, c := range w.I2C {
		if c.Number < 0 || seen[c.Bus] {
			continue
		}
		seen[c.Bus] = true
		node := fmt.Sprintf("/dev/i2c-%d", c.Number)
		if !m.has(node) {
			out = append(out, Finding{"i2c", Failed, node + " is missing, and " + c.Sensor + " wants it", m.i2cHint()})
			continue
		}
		out = append(out, m.access("i2c", node, "i2c"))
	}
	if len(w.I2C) == 0 {
		if nodes := m.glob("dev/i2c-*"); len(nodes) > 0 {
			out = append(out, Finding{"i2c", OK, strings.Join(nodes, ", ") + ": not used", ""})
		}
	}
	return out
}

// config returns the lines of a Raspberry Pi's config.txt that count.
func (m Machine) config() []string {
	text := m.read("boot/firmware/config.txt")
	if text == "" {
		text = m.read("boot/config.txt")
	}
	var lines []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// i2cHint says how a bus is switched on here.
func (m Machine) i2cHint() string {
	lines := m.config()
	switch {
	case len(lines) == 0:
		return "load the module: sudo modprobe i2c-dev; and list it in /etc/modules-load.d/i2c.conf"
	case slices.Contains(lines, "dtparam=i2c_arm=on") || slices.Contains(lines, "dtparam=i2c=on"):
		return "config.txt switches it on: sudo modprobe i2c-dev; or boot anew if the line is new"
	}
	return "switch it on: sudo raspi-config nonint do_i2c 0"
}

// access says whether the agent's user may open a device node.
func (m Machine) access(check, node, group string) Finding {
	if m.All || m.Owner == nil {
		return Finding{check, OK, node + " is there", ""}
	}
	owner, mode, err := m.Owner(m.path(node))
	switch {
	case err != nil:
		return Finding{check, Unknown, "who may open " + node + " cannot be seen", ""}
	case mode&0o006 == 0o006, mode&0o060 == 0o060 && slices.Contains(m.Groups, owner):
		return Finding{check, OK, fmt.Sprintf("%s is there, and %s may open it", node, m.User), ""}
	case mode&0o060 == 0o060 && owner != "root":
		return Finding{
			check, Failed, fmt.Sprintf("user %s may not open %s, which belongs to group %s", m.User, node, owner),
			fmt.Sprintf("sudo usermod -aG %s %s, then start the agent anew", owner, m.User),
		}
	}
	return Finding{
		check, Failed, fmt.Sprintf("user %s may not open %s (mode %o, group %s)", m.User, node, mode.Perm(), owner),
		fmt.Sprintf(`give it a group: echo 'KERNEL=="%s*", GROUP="%s", MODE="0660"' | sudo tee /etc/udev/rules`+`.d/99-edgeagent.rules, then boot anew`,
			strings.TrimRight(filepath.Base(node), "0123456789"), group),
	}
}

// chips looks for addresses that a driver of the kernel holds.
func chips(m Machine, w Wanted) []Finding {
	var out []Finding
	for _, c := range w.I2C {
		if c.Number < 0 || c.Addr == 0 {
			continue
		}
		device := fmt.Sprintf("%d-%04x", c.Number, c.Addr)
		link, err := filepath.EvalSymlinks(m.path("sys/bus/i2c/devices", device, "driver"))
		if err != nil {
			continue
		}
		driver := filepath.Base(link)
		out = append(out, Finding{
			"chip", Failed, fmt.Sprintf("%s wants 0x%02x on bus %s, which the kernel's driver %s holds", c.Sensor, c.Addr, c.Bus, driver),
			fmt.Sprintf(`read it with driver: hwmon or iio ("edgeagent sensors scan" shows how), or free it: echo %s | sudo tee /sys/bus/i2c/drivers/%s/unbind`, device, driver),
		})
	}
	return out
}

// oneWire looks for the 1-Wire thermometers that sensors want.
func oneWire(m Machine, w Wanted) []Finding {
	if len(w.W1) == 0 {
		return nil
	}
	if len(m.glob("sys/bus/w1/devices/w1_bus_master*")) == 0 {
		hint := "load the module of the bus's master, such as w1-gpio or ds2482, and w1-therm"
		if lines := m.config(); len(lines) > 0 {
			hint = "add dtoverlay=w1-gpio to config.txt and boot anew"
			if slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "dtoverlay=w1-gpio") }) {
				hint = "config.txt has dtoverlay=w1-gpio: boot anew if the line is new, and look at dmesg"
			}
		}
		return []Finding{{"w1", Failed, "there is no 1-Wire bus, and sensors want one", hint}}
	}
	var out []Finding
	for _, id := range w.W1 {
		if m.has("sys/bus/w1/devices", id) {
			out = append(out, Finding{"w1", OK, id + " is there", ""})
			continue
		}
		out = append(out, Finding{"w1", Failed, id + " is not on the bus", `check its wires and the pull-up of 4.7 kOhm; "edgeagent sensors scan" lists who is there`})
	}
	return out
}

// ports looks at the serial ports and GPIO chips that sensors want.
func ports(m Machine, w Wanted) []Finding {
	var out []Finding
	seen := map[string]bool{}
	for _, want := range []struct {
		check, group string
		nodes        []string
	}{{"serial", "dialout", w.Serial}, {"gpio", "gpio", w.GPIO}} {
		for _, node := range want.nodes {
			if !strings.HasPrefix(node, "/") {
				node = "/dev/" + node
			}
			switch {
			case seen[node]:
			case !m.has(node):
				out = append(out, Finding{want.check, Failed, node + " is missing, and a sensor wants it", `"edgeagent sensors scan" lists what is there`})
			default:
				out = append(out, m.access(want.check, node, want.group))
			}
			seen[node] = true
		}
	}
	return out
}
