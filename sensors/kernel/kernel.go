package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// Drivers lists the drivers of this package.
func Drivers() []sensors.Driver {
	return []sensors.Driver{
		{Name: "thermal", Summary: "temperatures of the kernel's thermal zones", New: func() sensors.DriverConfig { return &Thermal{} }},
		{Name: "hwmon", Summary: "a hardware monitoring chip: temperature, voltage, current, power, fans", New: func() sensors.DriverConfig { return &Hwmon{} }},
		{Name: "iio", Summary: "an industrial I/O device: ADCs, air, light, acceleration", New: func() sensors.DriverConfig { return &IIO{} }},
		{Name: "w1", Summary: "a 1-Wire thermometer such as the DS18B20", New: func() sensors.DriverConfig { return &W1{} }},
		{Name: "load", Summary: "load averages of the machine", New: func() sensors.DriverConfig { return &Load{} }},
		{Name: "memory", Summary: "memory and swap of the machine", New: func() sensors.DriverConfig { return &Memory{} }},
		{Name: "disk", Summary: "space on a file system", New: func() sensors.DriverConfig { return &Disk{Path: "/"} }},
		{Name: "network", Summary: "traffic counters of network interfaces", New: func() sensors.DriverConfig { return &Network{} }},
	}
}

// errClosed is returned by a source after Close.
var errClosed = errors.New("sensor is closed")

// under returns a path below the root of env.
func under(env sensors.Env, path string) string { return filepath.Join("/", env.Root, path) }

// channel is one file that holds one number.
type channel struct {
	name   string // of the channel in errors: "temp1 of coretemp"
	value  attribute
	fault  attribute // reads 1 when the sensor is broken; no path if there is none
	series edgeagent.Series
	exp10  int // the file's number times 10^exp10 is the value
	// affine turns the number into the value instead, when scale is not 0:
	// (number + offset) × scale.
	offset, scale float64
}

// channels is a source of several files.
type channels struct {
	env    sensors.Env
	list   []channel
	buf    [64]byte
	closed bool
}

// Sample reads every channel. A channel that fails is missing from the readings,
// and the error names the first such.
func (s *channels) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if s.closed {
		return dst, errClosed
	}
	var failed error
	failures := 0
	for i := range s.list {
		if err := ctx.Err(); err != nil {
			return dst, err
		}
		c := &s.list[i]
		v, err := c.read(s.buf[:])
		if err != nil {
			if failures++; failed == nil {
				failed = fmt.Errorf("read %s: %w", c.name, err)
			}
			continue
		}
		dst = append(dst, edgeagent.Reading{Series: c.series, At: s.env.Now(), Value: v})
	}
	if failures > 1 {
		failed = fmt.Errorf("%w (and %d more channels)", failed, failures-1)
	}
	return dst, failed
}

// Close closes the files.
func (s *channels) Close() error {
	s.closed = true
	for i := range s.list {
		s.list[i].value.close()
		s.list[i].fault.close()
	}
	return nil
}

var errFault = errors.New("the chip says that the sensor is at fault")

func (c *channel) read(buf []byte) (float64, error) {
	if c.fault.path != "" {
		if b, err := c.fault.read(buf); err == nil && string(b) == "1" {
			return 0, errFault
		}
	}
	b, err := c.value.read(buf)
	if err != nil {
		return 0, err
	}
	if c.scale == 0 {
		return decimal(b, c.exp10)
	}
	raw, err := decimal(b, 0)
	if err != nil {
		return 0, err
	}
	return shorten((raw + c.offset) * c.scale), nil
}

// readString returns the content of a small file without the space around it.
func readString(path string) (string, error) {
	var buf [256]byte
	a := attribute{path: path}
	defer a.close()
	b, err := a.read(buf[:])
	return string(b), err
}

// metricName makes a metric of a name that a kernel driver or a board chose:
// lower-case letters, digits and underscores.
func metricName(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case r == '+':
			b.WriteString("p")
		default:
			b.WriteByte('_')
		}
	}
	return strings.Trim(b.String(), "_")
}

// uniqueNames appends what tells them apart to the names that occur more than
// once. Empty names become the other.
func uniqueNames(names, apart []string) []string {
	count := map[string]int{}
	for _, n := range names {
		count[n]++
	}
	out := make([]string, len(names))
	for i, n := range names {
		switch {
		case n == "":
			out[i] = apart[i]
		case count[n] > 1:
			out[i] = n + "_" + apart[i]
		default:
			out[i] = n
		}
	}
	return out
}

// found renders what there is, for hints.
func found(what string, names []string) string {
	if len(names) == 0 {
		return "there are none on this machine"
	}
	const shown = 12
	if len(names) > shown {
		names = append(names[:shown:shown], "…")
	}
	return what + " here: " + strings.Join(names, ", ")
}

// list returns the entries of a directory whose name starts with prefix; none if
// the directory does not exist.
func list(dir, prefix string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names
}
