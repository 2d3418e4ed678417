package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// W1 is the configuration of the driver w1.
type W1 struct {
	// ID is the sensor's number as the kernel writes it: "28-00000a1b2c3d".
	ID string `yaml:"id"`
}

// Validate checks the keys.
func (c *W1) Validate() error {
	if c.ID == "" {
		return edgeagent.Field("id", "%w", edgeagent.WithHint(errors.New("missing key id"),
			`"ls /sys/bus/w1/devices" lists the sensors of a machine`))
	}
	if !isW1ID(c.ID) {
		return edgeagent.Field("id", "%q is not a 1-Wire id, want two and twelve hex digits like 28-00000a1b2c3d", c.ID)
	}
	return nil
}

func isW1ID(id string) bool {
	family, number, _ := strings.Cut(id, "-")
	isHex := func(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }
	return len(family) == 2 && len(number) == 12 && isHex(family) && isHex(number)
}

// powerOn is what a DS18B20 says before its first conversion, in m°C. It is also a
// temperature.
const powerOn = 85000

// Open finds the sensor.
func (c *W1) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	bus := under(env, "sys/bus/w1/devices")
	dir := filepath.Join(bus, c.ID)
	s := &thermometer{env: env, id: c.ID, series: env.NewSeries("temperature", "Cel", edgeagent.Gauge)}
	for _, f := range []struct {
		name  string
		parse func([]byte) (float64, error)
	}{{"temperature", parseTemperature}, {"w1_slave", parseSlave}} {
		if _, err := os.Stat(filepath.Join(dir, f.name)); err == nil {
			s.file.path, s.parse = filepath.Join(dir, f.name), f.parse
			return s, nil
		}
	}
	var here []string
	for _, name := range list(bus, "") {
		if name[0] >= '0' && name[0] <= '9' {
			here = append(here, name)
		}
	}
	hint := found("sensors", here) + " (key id)"
	if len(here) == 0 {
		hint = "no 1-Wire sensor is found here: add dtoverlay=w1-gpio to config.txt and check the wiring"
	}
	return nil, edgeagent.WithHint(fmt.Errorf("no 1-Wire thermometer %s", c.ID), hint)
}

// thermometer is an open sensor.
type thermometer struct {
	env    sensors.Env
	id     string
	file   attribute
	parse  func([]byte) (float64, error) // m°C
	series edgeagent.Series
	buf    [256]byte
	closed bool
}

// Sample makes the sensor convert, which blocks up to 750 ms at full resolution.
func (s *thermometer) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if s.closed {
		return dst, errClosed
	}
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	milli, err := s.read()
	quality := edgeagent.Good
	if err == nil && milli == powerOn {
		if milli, err = s.read(); milli == powerOn {
			quality = edgeagent.Suspect
		}
	}
	if err != nil {
		return dst, fmt.Errorf("read 1-Wire thermometer %s: %w", s.id, err)
	}
	return append(dst, edgeagent.Reading{Series: s.series, At: s.env.Now(), Value: milli / 1000, Quality: quality}), nil
}

func (s *thermometer) read() (float64, error) {
	b, err := s.file.read(s.buf[:])
	if err != nil {
		return 0, err
	}
	return s.parse(b)
}

// Close closes the file.
func (s *thermometer) Close() error {
	s.closed = true
	s.file.close()
	return nil
}

func parseTemperature(b []byte) (float64, error) { return decimal(b, 0) }

var (
	errCRC     = errors.New("bad checksum")
	errShorted = errors.New("the data line is held low: every byte reads 0")
	errSlave   = errors.New("no temperature in w1_slave")
)

// parseSlave reads the older file:
//
//	91 01 4b 46 7f ff 0c 10 25 : crc=25 YES
//	91 01 4b 46 7f ff 0c 10 25 t=25062
//
// A line held low reads as nine zeros, whose checksum is right.
func parseSlave(b []byte) (float64, error) {
	first, rest, ok := bytes.Cut(b, []byte("\n"))
	if !ok || !bytes.HasSuffix(bytes.TrimSpace(first), []byte("YES")) {
		return 0, errCRC
	}
	if bytes.HasPrefix(first, []byte("00 00 00 00 00 00 00 00 00")) {
		return 0, errShorted
	}
	_, t, ok := bytes.Cut(rest, []byte("t="))
	if !ok {
		return 0, errSlave
	}
	return decimal(bytes.TrimSpace(t), 0)
}
