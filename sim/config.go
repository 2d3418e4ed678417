package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// demoRules raise an alarm when the simulated greenhouse gets too hot, with
// hysteresis.
const demoRules = `
version: 1
rules:
  - id: greenhouse-hot
    describe: The heater comes on too hard
    inputs: {temp: greenhouse/temperature}
    when: temp > 30
    for: 1s
    clear: temp < 28
    severity: warning
    do:
      - alert: {text: "{{.series}} at {{.temp}} Cel"}
`

// demoConfig is the demo's configuration: what a user would write, with a short
// reconnect so that one sees something. Go's quotes are good YAML, also around a
// path with backslashes.
func demoConfig(broker, socket string) string {
	var b strings.Builder
	b.WriteString(`
version: 1
device: {id: demo}
sensors:
  - {name: greenhouse, driver: bmxx80, bus: simulated, address: 0x76, interval: 250ms}
  - {name: recorded, driver: replay, file: machine.csv.gz, pace: original, loop: true}
`)
	for _, s := range hostSensors() {
		fmt.Fprintf(&b, "  - %s\n", s)
	}
	fmt.Fprintf(&b, `
rules: {files: [rules.yaml]}
buffer: {dir: buffer, max_bytes: 64MiB}
destinations:
  - name: cloud
    receiver: hub
    links: [{url: %q}]
    reconnect: {base: 200ms, cap: 2s}
api: {socket: %q}
`, broker, socket)
	return b.String()
}

// hostSensors lists the sensors that this machine really has.
func hostSensors() []string {
	if runtime.GOOS != "linux" {
		return nil
	}
	list := []string{
		"{name: host/load, driver: load, interval: 1s}",
		"{name: host/memory, driver: memory, interval: 1s}",
		"{name: host/disk, driver: disk, path: /, interval: 5s}",
	}
	if network := networkInterface(); network != "" {
		list = append(list, fmt.Sprintf("{name: host/network, driver: network, interface: %q, interval: 1s}", network))
	}
	if zones, _ := filepath.Glob("/sys/class/thermal/thermal_zone*/temp"); len(zones) > 0 {
		list = append(list, "{name: host/thermal, driver: thermal, interval: 1s}")
	}
	return list
}

// networkInterface names an interface to watch, rather not the loopback.
func networkInterface() string {
	text, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return ""
	}
	found := ""
	for line := range strings.Lines(string(text)) {
		name, _, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && (found == "" || found == "lo") {
			found = name
		}
	}
	return found
}
