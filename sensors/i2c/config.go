package i2c

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/edgeagent/edgeagent"
)

// checkBus checks the key bus, which has no default.
func checkBus(bus string) error {
	if bus != "" {
		return nil
	}
	return edgeagent.Field("bus", "%w", edgeagent.WithHint(errors.New("missing key bus"),
		`add bus: "1" for /dev/i2c-1; "ls /dev/i2c-*" lists the buses of a machine`))
}

// checkAddress checks the key address against the range that a chip's pins choose
// from.
func checkAddress(addr, low, high uint16) error {
	if addr >= low && addr <= high {
		return nil
	}
	between := "to"
	if high == low+1 {
		between = "or"
	}
	return edgeagent.Field("address", "0x%02x is not an address of this chip, want 0x%02x %s 0x%02x", addr, low, between, high)
}

// checkWord checks a key that is one of a few words.
func checkWord(key, word string, words ...string) error {
	if slices.Contains(words, word) {
		return nil
	}
	last := len(words) - 1
	return edgeagent.Field(key, "%q is not known, want %s or %s", word, strings.Join(words[:last], ", "), words[last])
}

// checkNumber checks a key that is one of a few numbers.
func checkNumber(key string, n int, numbers ...int) error {
	if slices.Contains(numbers, n) {
		return nil
	}
	var words []string
	for _, x := range numbers {
		words = append(words, strconv.Itoa(x))
	}
	last := len(words) - 1
	return edgeagent.Field(key, "%d is not possible, want %s or %s", n, strings.Join(words[:last], ", "), words[last])
}

// oneAddress is the error of a chip that has one address.
func oneAddress(got, want uint16) error {
	return edgeagent.Field("address", "0x%02x is not the address of this chip, 0x%02x is", got, want)
}

func outOfRange(key string, got any, want string) error {
	return edgeagent.Field(key, "%v is out of range, want %s", got, want)
}
