package gpio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Place names a line. It is the part that inputs and outputs have in common.
type Place struct {
	// Chip is the device ("gpiochip0", "/dev/gpiochip0") or the label of a chip
	// ("pinctrl-bcm2711"). It may be left out where Line is a name.
	Chip string
	// Line is an offset ("17"), a name ("GPIO17"), or both chip and offset
	// ("gpiochip0:17").
	Line string
	// Active says which level on the wire is high: high (default) or low.
	Active string
}

// maxOffset is far beyond what chips have.
const maxOffset = 1 << 16

// resolve takes chip and line apart. The offset is -1 where the line has a name.
func (p Place) resolve() (chip, name string, offset int) {
	chip, name = p.Chip, p.Line
	if before, after, ok := strings.Cut(p.Line, ":"); ok && isNumber(after) {
		chip, name = cmp.Or(chip, before), after
	}
	if !isNumber(name) {
		return chip, name, -1
	}
	n, err := strconv.Atoi(name)
	if err != nil {
		n = maxOffset + 1
	}
	return chip, "", n
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// validate checks the keys.
func (p Place) validate() error {
	var errs []error
	chip, name, offset := p.resolve()
	switch {
	case p.Line == "":
		errs = append(errs, edgeagent.Field("line", "%w", edgeagent.WithHint(errors.New("missing key line"),
			`name it as "gpioinfo" lists it: line: GPIO17, or chip: gpiochip0 and line: 17`)))
	case len(name) > maxLabel:
		errs = append(errs, edgeagent.Field("line", "longer than %d bytes, which no line's name is", maxLabel))
	case offset > maxOffset:
		errs = append(errs, edgeagent.Field("line", "no chip has a line %s", p.Line))
	case offset >= 0 && chip == "":
		errs = append(errs, edgeagent.Field("chip", "%w", edgeagent.WithHint(errors.New("missing key chip"),
			`line is a number, which every chip has: write chip: gpiochip0 as well`)))
	case p.Chip != "" && strings.Contains(p.Line, ":") && offset >= 0:
		errs = append(errs, edgeagent.Field("line", "names a chip, and so does the key chip"))
	}
	return errors.Join(append(errs, oneOf("active", p.Active, "", "high", "low"))...)
}

// String names the line for people.
func (p Place) String() string {
	chip, name, offset := p.resolve()
	switch {
	case offset >= 0:
		return chip + ":" + strconv.Itoa(offset)
	case chip != "":
		return name + " of " + chip
	}
	return name
}

// oneOf checks a key with few values.
func oneOf(key, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return edgeagent.Field(key, "%q is not possible, want %s", value, strings.Join(trimEmpty(allowed), ", "))
}

func trimEmpty(list []string) []string {
	if len(list) > 0 && list[0] == "" {
		return list[1:]
	}
	return list
}

// maxLabel is the length of the names of chips and lines in the kernel's interface.
const maxLabel = 31

// request is what a line is opened for.
type request struct {
	place  Place
	output bool
	high   bool   // of an output: its level from the first moment
	bias   string // of an input: "", up, down, off
	// rising and falling are the edges that are reported.
	rising, falling bool
	debounce        time.Duration // a level counts once it has held this long
}

// edge is a change of a line.
type edge struct {
	high bool
	// age is how long ago it was when it was read.
	age time.Duration
	// number counts the edges of the line since it was opened, from 1, modulo
	// 2^32. Edges that found the kernel's queue full are missing and counted.
	number uint32
}

// line is an open line.
type line interface {
	level() (high bool, err error)
	set(high bool) error
	// await returns when there is an edge, or when ctx has ended, which is no
	// error.
	await(ctx context.Context) error
	// edges appends the edges that are there, in order, and waits for none.
	edges(dst []edge) ([]edge, error)
	Close() error
}

// opener opens lines: the kernel's, or those of a test.
type opener func(r request) (line, error)

var errClosed = errors.New("line is closed")

// openError says what to do about a line that cannot be opened.
func openError(p Place, err error) error {
	return edgeagent.WithHint(fmt.Errorf("open line %s: %w", p, err), hintFor(err))
}
