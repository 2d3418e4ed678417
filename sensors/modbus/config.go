package modbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// Drivers lists the drivers of this package. Sensors that are configured from one
// such list share connections.
func Drivers() []sensors.Driver {
	p := newPool(nil)
	return []sensors.Driver{{
		Name:    "modbus",
		Summary: "registers of a device on Modbus TCP or RTU, listed or by preset",
		New:     func() sensors.DriverConfig { c := Default(); c.pool = p; return c },
	}}
}

// Bounds of the configuration.
const (
	maxRegisters  = 125 // in one request, by the protocol
	maxList       = 500
	minRequest    = 50 * time.Millisecond
	maxRequest    = 10 * time.Second
	defaultPort   = "502"
	maxUnit       = 247
	secureTCPUnit = 255 // many Modbus TCP devices want this number
)

// Config is the configuration of the driver modbus.
type Config struct {
	// URL is "tcp://host:502" or "rtu:///dev/ttyUSB0".
	URL string `yaml:"url"`
	// Unit is the number of the device on its bus, 1 to 247; 255 or 0 is what some
	// devices on TCP want. Default 1.
	Unit uint8 `yaml:"unit"`
	// Speed (baud), Parity (none, even, odd) and StopBits are for RTU. Defaults
	// 9600, none, and as many stop bits as make eleven bits: 2 without parity.
	Speed    uint   `yaml:"speed"`
	Parity   string `yaml:"parity"`
	StopBits uint   `yaml:"stop_bits"`
	// RequestTimeout is how long the device may take to answer; default 1 s.
	RequestTimeout time.Duration `yaml:"request_timeout"`
	// Preset names a list of registers: one of Presets, or a file.
	Preset string `yaml:"preset"`
	// MaxRegisters bounds one request; default 100. MaxGap is how many registers
	// that nobody asked for may be read along to save a request; default 0.
	MaxRegisters int        `yaml:"max_registers"`
	MaxGap       int        `yaml:"max_gap"`
	Registers    []Register `yaml:"registers"`

	preset Template
	pool   *pool
}

// Register is a value of the device.
type Register struct {
	Metric string `yaml:"metric"`
	// Address counts from 0: document number 30001 is address 0 of table input.
	Address uint16 `yaml:"address"`
	Table   string `yaml:"table"` // holding (default), input, coil, discrete
	Type    string `yaml:"type"`  // u16 (default), s16, u32, s32, u64, s64, f32, f64
	// WordOrder of a value in several registers: high_first (default) or
	// low_first; ByteOrder within a register: high_first (default) or low_first.
	WordOrder string `yaml:"word_order"`
	ByteOrder string `yaml:"byte_order"`
	// Mask takes bits out of an unsigned value, moved down to bit 0.
	Mask uint64 `yaml:"mask"`
	// Invalid is the raw value that means "not there": nothing is given then.
	Invalid *uint64 `yaml:"invalid"`
	// The value is raw × Scale + Offset; 0 stands for a scale of 1. ScaleRegister
	// is the address of an s16 in the same table; the value is multiplied by 10 to
	// its power (SunSpec).
	Scale         float64 `yaml:"scale"`
	Offset        float64 `yaml:"offset"`
	ScaleRegister *uint16 `yaml:"scale_register"`

	Unit   string            `yaml:"unit"`
	Kind   string            `yaml:"kind"` // gauge (default), counter, state
	Labels map[string]string `yaml:"labels"`
}

// Default returns the configuration with its defaults set.
func Default() *Config {
	return &Config{Unit: 1, Speed: 9600, Parity: "none", RequestTimeout: time.Second, MaxRegisters: 100}
}

// Validate checks the keys.
func (c *Config) Validate() error {
	errs := []error{c.validateURL(), c.validateLine()}
	if c.Unit > maxUnit && c.Unit != secureTCPUnit {
		errs = append(errs, edgeagent.Field("unit", "%d is out of range, want 1 to 247, or 255", c.Unit))
	}
	if c.RequestTimeout < minRequest || c.RequestTimeout > maxRequest {
		errs = append(errs, edgeagent.Field("request_timeout", "%s is out of range, want %s to %s", c.RequestTimeout, minRequest, maxRequest))
	}
	if c.MaxRegisters < 4 || c.MaxRegisters > maxRegisters {
		errs = append(errs, edgeagent.Field("max_registers", "%d is out of range, want 4 to %d", c.MaxRegisters, maxRegisters))
	}
	if c.MaxGap < 0 || c.MaxGap > maxRegisters {
		errs = append(errs, edgeagent.Field("max_gap", "%d is out of range, want 0 to %d", c.MaxGap, maxRegisters))
	}
	if len(c.Registers) == 0 && c.Preset == "" {
		errs = append(errs, edgeagent.Field("registers", "%w", edgeagent.WithHint(errors.New("nothing is read"),
			"list registers, or name a preset: "+strings.Join(Presets(), ", "))))
	}
	return errors.Join(append(errs, validateRegisters(c.all()))...)
}

// all returns the registers of the preset and those of the configuration, which begin
// at index 0 in messages about keys.
func (c *Config) all() (own, preset []Register) { return c.Registers, c.preset.Registers }

func validateRegisters(own, preset []Register) error {
	var errs []error
	if n := len(own) + len(preset); n > maxList {
		errs = append(errs, edgeagent.Field("registers", "%d registers, at most %d", n, maxList))
	}
	seen := map[string]bool{}
	for _, r := range preset {
		seen[r.Metric] = true
	}
	for i, r := range own {
		path := fmt.Sprintf("registers[%d]", i)
		errs = append(errs, edgeagent.InField(path, r.validate()))
		if r.Metric != "" && seen[r.Metric] {
			errs = append(errs, edgeagent.Field(path+".metric", "%q is there twice", r.Metric))
		}
		seen[r.Metric] = true
	}
	return errors.Join(errs...)
}

func (c *Config) validateURL() error {
	_, err := c.target()
	if err == nil {
		return nil
	}
	return edgeagent.Field("url", "%w", edgeagent.WithHint(err, `write "tcp://192.168.1.20:502" or "rtu:///dev/ttyUSB0"`))
}

// target returns the URL as the library wants it.
func (c *Config) target() (string, error) {
	if c.URL == "" {
		return "", errors.New("missing key url")
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return "", errors.New("not a URL")
	}
	switch {
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("more than a host or a device")
	case u.Scheme == "tcp" && u.Hostname() != "" && u.Path == "":
		return "tcp://" + net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), defaultPort)), nil
	case u.Scheme == "rtu" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return "rtu://" + u.Path, nil
	}
	return "", fmt.Errorf("%q names neither a host nor a serial device", c.URL)
}

func (c *Config) validateLine() error {
	var errs []error
	if c.Speed < 300 || c.Speed > 4_000_000 {
		errs = append(errs, edgeagent.Field("speed", "%d is out of range, want 300 to 4000000", c.Speed))
	}
	if c.StopBits > 2 {
		errs = append(errs, edgeagent.Field("stop_bits", "%d is not possible, want 1 or 2", c.StopBits))
	}
	return errors.Join(append(errs, oneOf("parity", c.Parity, "none", "even", "odd"))...)
}

func (r Register) validate() error {
	errs := []error{
		oneOf("table", r.Table, "", "holding", "input", "coil", "discrete"),
		oneOf("type", r.Type, "", "u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64"),
		oneOf("word_order", r.WordOrder, "", "high_first", "low_first"),
		oneOf("byte_order", r.ByteOrder, "", "high_first", "low_first"),
		oneOf("kind", r.Kind, "", "gauge", "counter", "state"),
	}
	add := func(key, format string, args ...any) { errs = append(errs, edgeagent.Field(key, format, args...)) }
	if r.Metric == "" || strings.Contains(r.Metric, "/") {
		add("metric", "%q is not the name of a metric: it must not be empty or hold a slash", r.Metric)
	}
	if int(r.Address)+r.words() > 1<<16 {
		add("address", "%d is too high for a value of %d registers", r.Address, r.words())
	}
	if r.isBit() && (r.Type != "" || r.Mask != 0 || r.ScaleRegister != nil) {
		add("type", "a coil or a discrete input is one bit")
	}
	if r.Mask != 0 && !strings.HasPrefix(cmp.Or(r.Type, "u16"), "u") {
		add("mask", "only an unsigned value has bits to take out")
	}
	if r.Labels != nil && r.Kind != "state" {
		add("labels", `only a state has any: write "kind: state"`)
	}
	return errors.Join(errs...)
}

// oneOf checks a key with few values.
func oneOf(key, value string, allowed ...string) error {
	var list []string
	for _, a := range allowed {
		if value == a {
			return nil
		}
		if a != "" {
			list = append(list, a)
		}
	}
	return edgeagent.Field(key, "%q is not possible, want %s", value, strings.Join(list, ", "))
}

func (r Register) isBit() bool { return r.Table == "coil" || r.Table == "discrete" }

// words is how many registers the value takes.
func (r Register) words() int {
	switch r.Type {
	case "u32", "s32", "f32":
		return 2
	case "u64", "s64", "f64":
		return 4
	}
	return 1
}

// Open prepares the requests. The device need not be there: the first sample finds
// out.
func (c *Config) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	target, err := c.target()
	if err != nil {
		return nil, err
	}
	p := c.pool
	if p == nil {
		p = newPool(nil)
	}
	list := append(append([]Register(nil), c.preset.Registers...), c.Registers...)
	return newSource(env, c, list, p.bus(target, c)), nil
}
