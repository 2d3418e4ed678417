package doctor

import (
	"fmt"
	"strconv"
	"strings"
)

// board says what machine it is.
func board(m Machine, _ Wanted) []Finding {
	words := []string{}
	if model := m.read("proc/device-tree/model"); model != "" {
		words = append(words, model)
	} else if model := m.read("sys/class/dmi/id/product_name"); model != "" {
		words = append(words, model)
	}
	if release := m.read("proc/sys/kernel/osrelease"); release != "" {
		words = append(words, "Linux "+release)
	}
	if m.Kernel != "" {
		words = append(words, m.Kernel)
	}
	if m.has(".dockerenv") || strings.Contains(m.read("proc/1/environ"), "container=") {
		return []Finding{{
			"board", OK, strings.Join(append(words, "in a container"), ", "),
			"give the container its devices, such as --device /dev/i2c-1",
		}}
	}
	if len(words) == 0 {
		return []Finding{{"board", Unknown, "this machine says nothing of itself", ""}}
	}
	return ok("board", strings.Join(words, ", "))
}

// program holds the program against the processor: a build for another one may run, and
// slowly.
func program(m Machine, _ Wanted) []Finding {
	built := m.Arch
	if m.Arch == "arm" && m.ARM != "" {
		built += "v" + m.ARM
	}
	switch {
	case m.Kernel == "":
		return []Finding{{"program", Unknown, "built for " + built, ""}}
	case m.Arch == "arm" && m.Kernel == "aarch64":
		return []Finding{{
			"program", Warning, "built for " + built + ", while this kernel is 64-bit",
			"if the system is 64-bit, too (dpkg --print-architecture says arm64), install the arm64 build: it is faster",
		}}
	case m.Arch == "arm" && m.ARM != "7" && strings.HasPrefix(m.Kernel, "armv7"):
		return []Finding{{
			"program", Warning, "built for " + built + ", while this processor is an ARMv7",
			"install the armv7 build: it is faster",
		}}
	}
	return ok("program", "built for "+built)
}

// leastMemory is below what an agent with many sensors and a full buffer wants.
const leastMemory = 48 << 20

func memory(m Machine, _ Wanted) []Finding {
	available, okMemory := meminfo(m.read("proc/meminfo"), "MemAvailable")
	if !okMemory {
		return []Finding{{"memory", Unknown, "how much is available cannot be seen", ""}}
	}
	text := size(available) + " available"
	if limit, err := strconv.ParseUint(m.read("sys/fs/cgroup/memory.max"), 10, 64); err == nil && limit < available {
		available = limit
		text = size(limit) + " by the limit of the control group"
	}
	if available < leastMemory {
		return []Finding{{"memory", Warning, text, "an agent wants about 16 MB: stop what else runs, or raise the limit"}}
	}
	return ok("memory", text)
}

// meminfo finds a line such as "MemAvailable:   3141592 kB".
func meminfo(text, key string) (bytes uint64, ok bool) {
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":")
		if name != key {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 54)
		return n << 10, err == nil
	}
	return 0, false
}

// power: a Raspberry Pi notices when its supply is too weak, and damaged cards follow.
func power(m Machine, _ Wanted) []Finding {
	for _, name := range m.glob("sys/class/hwmon/hwmon*/name") {
		if m.read(name) != "rpi_volt" {
			continue
		}
		if m.read(strings.TrimSuffix(name, "name")+"in0_lcrit_alarm") == "1" {
			return []Finding{{
				"power", Failed, "the supply's voltage is too low, or was since it was last looked at",
				"use a supply of the board's own kind and a short, thick cable: damaged cards and sensors that fail now and then come from this",
			}}
		}
		return ok("power", "no undervoltage")
	}
	return nil // no board that could tell
}

func timekeeping(m Machine, _ Wanted) []Finding {
	rtc := len(m.glob("dev/rtc*")) > 0
	switch {
	case m.Now.Before(m.Built):
		return []Finding{{
			"clock", Failed, "the clock says " + m.Now.UTC().Format("2006-01-02") + ", before this program was built",
			"start a time service: sudo timedatectl set-ntp true; until then readings are marked as unsynced",
		}}
	case m.Synced != nil && m.Synced():
		text := "synchronised"
		if !rtc {
			text += ", no real-time clock: wrong after a power cut until the network is back"
		}
		return ok("clock", text)
	case m.Synced == nil:
		return []Finding{{"clock", Unknown, "whether it is synchronised cannot be seen", ""}}
	case rtc:
		return []Finding{{
			"clock", Warning, "not synchronised, kept by a real-time clock",
			"start a time service: sudo timedatectl set-ntp true",
		}}
	}
	return []Finding{{
		"clock", Failed, "not synchronised, and there is no real-time clock",
		`start a time service: sudo timedatectl set-ntp true; or set "clock.source: trusted" if something else keeps the time right`,
	}}
}

func size(n uint64) string {
	const units = "KMGT"
	v, i := float64(n), -1
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i < 0 {
		return strconv.FormatUint(n, 10) + " B"
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") + " " + units[i:i+1] + "iB"
}
