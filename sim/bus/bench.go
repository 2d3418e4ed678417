package bus

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Placed is a chip of a bench.
type Placed struct {
	Name string // what it is: "BME280"
	Breakable
}

// Bench is a bus with a chip of each kind, at addresses that do not clash, in one room
// whose air can be set. It is safe for concurrent use.
type Bench struct {
	*Bus
	chips []Placed

	mu   sync.Mutex
	room map[string]float64
}

// NewBench makes a bench in a mild room.
func NewBench() *Bench {
	b := &Bench{room: map[string]float64{
		"celsius": 21.5, "pascal": 101325, "percent": 48, "ppm": 640, "lux": 210, "volts": 12, "amps": 0.4,
	}}
	quantity := func(name string) Quantity { return func() float64 { return b.value(name) } }
	air := func() (celsius, pascal, percent float64) {
		return b.value("celsius"), b.value("pascal"), b.value("percent")
	}
	b.chips = []Placed{
		{"BME280", NewBME280(0x76, air)},
		{"BMP280", NewBMP280(0x77, air)},
		{"TMP102", NewTMP102(0x49, air)},
		{"TMP105", NewTMP105(0x4B, air)},
		{"MCP9808", NewMCP9808(0x1C, air)},
		{"AHT20", NewAHT20(air)},
		{"SHT31", NewSHT3x(0x45, air)},
		{"SHT40", NewSHT4x(0x44, air)},
		{"SCD41", NewSCD4x(air, quantity("ppm"))},
		{"BH1750", NewBH1750(0x23, quantity("lux"))},
		{"INA219", NewINA219(0x40, 0.1, quantity("volts"), quantity("amps"))},
		{"ADS1115", NewADS1115(0x48, func(input int) float64 { return b.value("volts") / 12 * float64(input) })},
		{"DS2482 with a DS18B20", NewDS2482(0x18, quantity("celsius"))},
	}
	var chips []Chip
	for _, c := range b.chips {
		chips = append(chips, c)
	}
	b.Bus = New(chips...)
	return b
}

// Chips lists the chips by address.
func (b *Bench) Chips() []Placed {
	return slices.SortedFunc(slices.Values(b.chips), func(x, y Placed) int { return int(x.Addr()) - int(y.Addr()) })
}

func (b *Bench) value(name string) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.room[name]
}

// Quantities lists what can be set, with its values: celsius, pascal, percent, ppm,
// lux, volts (the supply; the ADS1115 has a twelfth of it at input 1, two at 2), amps.
func (b *Bench) Quantities() map[string]float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.room)
}

// Command does what a line says: "set celsius 84", "fault 0x76 unplugged", "fault all
// none", "power 0x76" (away for an instant).
func (b *Bench) Command(line string) error {
	f := strings.Fields(line)
	switch {
	case len(f) == 3 && f[0] == "set":
		return b.set(f[1], f[2])
	case len(f) == 3 && f[0] == "fault":
		fault, err := parseFault(f[2])
		if err != nil {
			return err
		}
		return b.each(f[1], func(c Breakable) { c.SetFault(fault) })
	case len(f) == 2 && f[0] == "power":
		return b.each(f[1], Breakable.PowerCycle)
	}
	return fmt.Errorf(`unknown command %q, want "set celsius 25", "fault 0x76 unplugged" or "power 0x76"`, line)
}

func (b *Bench) set(name, text string) error {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return fmt.Errorf("%q is no number", text)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.room[name]; !ok {
		return fmt.Errorf("unknown quantity %q, want %s", name, strings.Join(slices.Sorted(maps.Keys(b.room)), ", "))
	}
	b.room[name] = v
	return nil
}

func (b *Bench) each(address string, do func(Breakable)) error {
	if address == "all" {
		for _, c := range b.chips {
			do(c)
		}
		return nil
	}
	addr, err := strconv.ParseUint(address, 0, 8)
	if err != nil {
		return fmt.Errorf("%q is no address, want one like 0x76, or all", address)
	}
	for _, c := range b.chips {
		if uint64(c.Addr()) == addr {
			do(c)
			return nil
		}
	}
	return fmt.Errorf("there is no chip at %s", address)
}

func parseFault(name string) (Fault, error) {
	var names []string
	for _, f := range Faults() {
		if f.String() == name {
			return f, nil
		}
		names = append(names, f.String())
	}
	return None, fmt.Errorf("unknown fault %q, want %s", name, strings.Join(names, ", "))
}
