package sensors

import (
	"slices"
	"strconv"
	"strings"
)

// Found is something that a scan of the machine has found: a chip that answers, a device
// that the kernel reads, a port.
type Found struct {
	Where string // the section that it belongs to: "I2C bus 1 (bcm2835)"
	Place string // within that: "0x76", "28-00000a1b2c3d"
	What  string // "BME280", "answers", "held by the kernel's driver lm75"
	Note  string // what to know; "" if nothing
	// Fits are stanzas of drivers that could read it, the likeliest first.
	Fits []Stanza
}

// Stanza is a sensor as it could stand in a configuration.
type Stanza struct {
	Name   string // a suggestion: lower-case letters, digits, dashes, dots
	Driver string
	Keys   []Key // of the driver
}

// Key is a key of a stanza with its value as it stands in a file.
type Key struct{ Name, Value string }

// String writes the stanza as an element of the list of sensors, on one line:
// {name: air, driver: sht4x, bus: 1}.
func (s Stanza) String() string {
	words := []string{"name: " + yamlText(s.Name), "driver: " + s.Driver}
	for _, k := range s.Keys {
		words = append(words, k.Name+": "+yamlText(k.Value))
	}
	return "{" + strings.Join(words, ", ") + "}"
}

// SafeName makes a sensor's name of parts: what may not stand in one becomes a dash.
func SafeName(parts ...string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '_':
			return r
		}
		return '-'
	}, strings.Join(slices.DeleteFunc(slices.Clone(parts), func(p string) bool { return p == "" }), "-"))
	return strings.Trim(name, "-.")
}

// yamlText quotes what YAML would take for something else than text, but for numbers
// such as 0x76.
func yamlText(s string) string {
	plain := s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./") == "" &&
		!strings.HasPrefix(s, "-")
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
		plain = false
	}
	if plain {
		return s
	}
	return strconv.Quote(s)
}
