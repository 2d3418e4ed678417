package i2c

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"periph.io/x/conn/v3/i2c"

	"github.com/edgeagent/edgeagent/sensors"
)

const (
	// firstAddress and lastAddress: the others are reserved by the I²C bus's standard.
	firstAddress, lastAddress = 0x08, 0x77
	// probeTime bounds one probe: a transaction of a few bytes takes less than 1 ms.
	probeTime = 200 * time.Millisecond
	// maxTimeouts is how many probes may hang before the bus is given up.
	maxTimeouts = 3
	// crowded is how many answers are too many for chips.
	crowded = 100
)

// Scanner looks for chips on the I²C buses of a machine.
type Scanner struct {
	Root string          // where /sys is looked up
	Open sensors.OpenI2C // opens a bus
	// Bus limits the scan to one bus; it is then looked at whatever it belongs to.
	Bus string
	// Identify asks chips who they are where their driver knows how. It writes the
	// number of a register to them: harmless for the chips that the driver is for, and
	// maybe not for another one at that address.
	Identify bool
}

// candidate is a chip that can be at an address.
type candidate struct {
	driver    string
	addresses []uint16
	// identify names the chip, if it is one. Nil: it cannot be told.
	identify func(g *guard) string
	// silent chips acknowledge no read that was not asked for: wake is a command that
	// changes nothing and that they acknowledge.
	wake []byte
}

// Scan probes each address with a read of one byte and reports what answers. An address
// that a driver of the kernel holds is not touched. Buses of displays and of a PC's
// memory are left out. The error joins what went wrong with buses; the others are
// reported all the same.
func (s Scanner) Scan(ctx context.Context) ([]sensors.Found, error) {
	var out []sensors.Found
	var errs []error
	buses := s.buses()
	if len(buses) == 0 && s.Bus != "" {
		return nil, missing(s.Bus, fs.ErrNotExist)
	}
	for _, bus := range buses {
		found, err := s.bus(ctx, bus)
		out = append(out, found...)
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

// adapter is a bus as the kernel names it.
type adapter struct {
	number int
	name   string
}

func (a adapter) where() string {
	if a.name == "" {
		return fmt.Sprintf("I2C bus %d", a.number)
	}
	return fmt.Sprintf("I2C bus %d (%s)", a.number, a.name)
}

// buses lists the buses to look at, by number.
func (s Scanner) buses() []adapter {
	dir := filepath.Join("/", s.Root, "sys/class/i2c-dev")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []adapter
	only, limited := findBus(s.Bus)
	for _, e := range entries {
		n, ok := busNumber(e.Name())
		if !ok || s.Bus != "" && (!limited || n != only) {
			continue
		}
		name, err := os.ReadFile(filepath.Join(dir, e.Name(), "name"))
		if err != nil {
			name = nil
		}
		out = append(out, adapter{n, strings.TrimSpace(string(name))})
	}
	slices.SortFunc(out, func(a, b adapter) int { return a.number - b.number })
	return out
}

// foreign says whose bus it is if it is none for sensors.
func (a adapter) foreign() string {
	name := strings.ToLower(a.name)
	for _, word := range []string{"i915", "nvidia", "nouveau", "amdgpu", "radeon", "dpddc", "hdmi", "drm", "gmbus", "ddc"} {
		if strings.Contains(name, word) {
			return "belongs to a display"
		}
	}
	if strings.Contains(name, "smbus") {
		return "belongs to the main board"
	}
	return ""
}

func (s Scanner) bus(ctx context.Context, a adapter) ([]sensors.Found, error) {
	if whose := a.foreign(); whose != "" && s.Bus == "" {
		note := fmt.Sprintf("not looked at: it %s; --bus %d does", whose, a.number)
		return []sensors.Found{{Where: a.where(), Note: note}}, nil
	}
	bus, err := s.Open(strconv.Itoa(a.number))
	if err != nil {
		return nil, err
	}
	found, err := s.addresses(ctx, a, bus)
	return found, errors.Join(err, bus.Close())
}

func (s Scanner) addresses(ctx context.Context, a adapter, bus i2c.Bus) ([]sensors.Found, error) {
	var out []sensors.Found
	answers, timeouts := 0, 0
	for addr := uint16(firstAddress); addr <= lastAddress; addr++ {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		if driver := s.holder(a, addr); driver != "" {
			out = append(out, sensors.Found{
				Where: a.where(), Place: hex(addr), What: "held by the kernel's driver " + driver,
				Note: "not touched; see hwmon and iio",
			})
			continue
		}
		fits, err := s.probe(ctx, bus, addr)
		switch {
		case err == nil:
			answers++
			out = append(out, s.found(a, addr, fits))
		case isNobody(err):
		default:
			if timeouts++; timeouts == maxTimeouts {
				return out, fmt.Errorf("%s is given up at 0x%02x: %w", a.where(), addr, err)
			}
		}
	}
	if answers >= crowded {
		return []sensors.Found{{
			Where: a.where(),
			Note:  fmt.Sprintf("%d addresses answer: the data line is held low, or there are no pull-ups", answers),
		}}, nil
	}
	if len(out) == 0 {
		out = append(out, sensors.Found{Where: a.where(), Note: "nothing answers"})
	}
	return out, nil
}

// holder names the driver of the kernel that has taken an address.
func (s Scanner) holder(a adapter, addr uint16) string {
	link, err := os.Readlink(filepath.Join("/", s.Root, "sys/bus/i2c/devices", fmt.Sprintf("%d-%04x", a.number, addr), "driver"))
	if err != nil {
		return ""
	}
	return filepath.Base(link)
}

func hex(addr uint16) string { return fmt.Sprintf("0x%02x", addr) }

// fit is a candidate that was or was not recognised.
type fit struct {
	candidate
	chip string // "" if nobody knows
}

// probe asks whether somebody is at an address, and who that could be.
func (s Scanner) probe(ctx context.Context, bus i2c.Bus, addr uint16) ([]fit, error) {
	here := slices.DeleteFunc(candidates(), func(c candidate) bool { return !slices.Contains(c.addresses, addr) })
	err := s.transact(ctx, bus, addr, func(g *guard) error {
		_, err := g.command(1)
		return err
	})
	if err == nil {
		return s.recognise(ctx, bus, addr, here), nil
	}
	if !isNobody(err) {
		return nil, err
	}
	// Whoever is here acknowledges no read that it was not asked for.
	silent := slices.DeleteFunc(here, func(c candidate) bool { return c.wake == nil })
	for i, c := range silent {
		err = s.transact(ctx, bus, addr, func(g *guard) error { return g.write(c.wake...) })
		if err == nil {
			silent = append([]candidate{c}, slices.Delete(silent, i, i+1)...)
			return s.recognise(ctx, bus, addr, silent), nil
		}
	}
	return nil, err
}

// transact does a group of transactions with its own deadline.
func (s Scanner) transact(ctx context.Context, bus i2c.Bus, addr uint16, do func(g *guard) error) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	g := newGuard(bus, addr)
	g.begin(ctx)
	defer g.end()
	if err := do(&g); err != nil {
		return g.cause(err)
	}
	return nil
}

// recognise puts the candidate that knows itself first, and alone.
func (s Scanner) recognise(ctx context.Context, bus i2c.Bus, addr uint16, here []candidate) []fit {
	var out []fit
	for _, c := range here {
		f := fit{candidate: c}
		if s.Identify && c.identify != nil {
			err := s.transact(ctx, bus, addr, func(g *guard) error { f.chip = c.identify(g); return nil })
			if err == nil && f.chip != "" {
				return []fit{f}
			}
			if err == nil {
				continue // it would have known itself
			}
		}
		out = append(out, f)
	}
	return out
}

func (s Scanner) found(a adapter, addr uint16, fits []fit) sensors.Found {
	f := sensors.Found{Where: a.where(), Place: hex(addr), What: "answers"}
	for _, x := range fits {
		if x.chip != "" {
			f.What = x.chip
		}
		f.Fits = append(f.Fits, sensors.Stanza{
			Name: sensors.SafeName(x.driver, strconv.Itoa(a.number), fmt.Sprintf("%02x", addr)), Driver: x.driver,
			Keys: []sensors.Key{{Name: "bus", Value: strconv.Itoa(a.number)}, {Name: "address", Value: hex(addr)}},
		})
	}
	if len(fits) == 0 {
		f.Note = "no driver here knows a chip at this address"
	}
	return f
}

func span(low, high uint16) []uint16 {
	var out []uint16
	for a := low; a <= high; a++ {
		out = append(out, a)
	}
	return out
}

// candidates lists the chips of this package by address, those that can be recognised
// first.
func candidates() []candidate {
	return []candidate{
		{driver: "bmxx80", addresses: span(0x76, 0x77), identify: func(g *guard) string {
			r, err := g.command(1, regID)
			if err != nil {
				return ""
			}
			return map[byte]string{0x60: "BME280", 0x58: "BMP280", 0x55: "BMP180"}[r[0]]
		}},
		{driver: "mcp9808", addresses: span(0x18, 0x1F), identify: func(g *guard) string {
			maker, err := g.word(mcpMaker)
			device, err2 := g.word(mcpDevice)
			if err != nil || err2 != nil || maker != 0x0054 || device>>8 != 0x04 {
				return ""
			}
			return "MCP9808"
		}},
		{driver: "ads1x15", addresses: span(0x48, 0x4B), identify: settingsAre("ADS1115 or ADS1015", adsConfig, 0x8583, 0xFFFF)},
		{driver: "tmp102", addresses: span(0x48, 0x4B), identify: settingsAre("TMP102", regSettings, 0x60A0, 0xFFFF)},
		{driver: "lm75", addresses: span(0x48, 0x4F)},
		{driver: "sht4x", addresses: span(0x44, 0x46), wake: []byte{0x89}, identify: sensirion("SHT4x", 10, 6, 0x89)},
		{driver: "sht3x", addresses: span(0x44, 0x45), wake: []byte{0xF3, 0x2D}, identify: sensirion("SHT3x", 1, 3, 0xF3, 0x2D)},
		{driver: "scd4x", addresses: []uint16{scd4xAddress}, wake: []byte{scdReady >> 8, scdReady & 0xFF}, identify: sensirion("SCD4x", 1, 3, scdReady>>8, scdReady&0xFF)},
		{driver: "ina219", addresses: span(0x40, 0x4F), identify: settingsAre("INA219", inaConfig, 0x399F, 0x3FFF)},
		{driver: "aht20", addresses: []uint16{aht20Address}},
		{driver: "bh1750", addresses: []uint16{0x23, 0x5C}},
	}
}

// settingsAre recognises a chip by the settings that it has after power-on: one that is
// in use is not recognised, and stays a candidate by its address.
func settingsAre(chip string, reg byte, want, mask uint16) func(*guard) string {
	return func(g *guard) string {
		got, err := g.word(reg)
		if err != nil || got&mask != want&mask {
			return ""
		}
		return chip
	}
}

// sensirion recognises a chip by an answer whose checksums are right.
func sensirion(chip string, waitMS, n int, command ...byte) func(*guard) string {
	return func(g *guard) string {
		if g.write(command...) != nil || g.wait(time.Duration(waitMS)*ms) != nil {
			return ""
		}
		r, err := g.command(n)
		if err != nil {
			return ""
		}
		for i := range n / 3 {
			if _, err := sensirionWord(r, i); err != nil {
				return ""
			}
		}
		return chip
	}
}
