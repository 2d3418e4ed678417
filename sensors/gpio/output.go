package gpio

import (
	"errors"
	"fmt"

	"github.com/edgeagent/edgeagent"
)

// OutputConfig is one of the outputs that rules drive.
type OutputConfig struct {
	// Name is what rules call it: 1 to 64 letters, digits, dots, dashes and
	// underscores.
	Name   string `yaml:"name"`
	Chip   string `yaml:"chip"` // as in [Place], like the next two
	Line   string `yaml:"line"`
	Active string `yaml:"active"`
	// Safe is the level in which nobody is harmed: low (default) or high. The
	// output has it from when it is opened, and when the agent ends.
	Safe string `yaml:"safe"`
}

// Validate checks the keys but the name, which is checked together with those of
// the other outputs.
func (c OutputConfig) Validate() error {
	return errors.Join(c.place().validate(), oneOf("safe", c.Safe, "", "low", "high"))
}

// SafeHigh reports whether the safe level is high.
func (c OutputConfig) SafeHigh() bool { return c.Safe == "high" }

func (c OutputConfig) place() Place { return Place{c.Chip, c.Line, c.Active} }

// Output is an open output. It is used by one goroutine.
type Output struct {
	place Place
	line  line
}

// OpenOutput opens an output with the level high. root is where /dev is looked for.
func OpenOutput(root string, c OutputConfig, high bool) (*Output, error) {
	return openOutput(kernel(root), c, high)
}

func openOutput(open opener, c OutputConfig, high bool) (*Output, error) {
	p := c.place()
	l, err := open(request{place: p, output: true, high: high})
	if err != nil {
		return nil, openError(p, err)
	}
	o := &Output{p, l}
	if err := o.check(high); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// Set sets the output and reads it back. An error means that its level is not
// known; the output may be set again, or closed and opened anew.
func (o *Output) Set(high bool) error {
	if err := o.line.set(high); err != nil {
		return fmt.Errorf("set line %s: %w", o.place, err)
	}
	return o.check(high)
}

func (o *Output) check(high bool) error {
	got, err := o.line.level()
	if err != nil {
		return fmt.Errorf("read line %s back: %w", o.place, err)
	}
	if got != high {
		return edgeagent.WithHint(fmt.Errorf("line %s was set %s and reads %s", o.place, levelName(high), levelName(got)),
			"look for a short circuit, or another driver of the line")
	}
	return nil
}

// Close gives the line back to the kernel; see the package comment for what is on
// the wire then.
func (o *Output) Close() error { return o.line.Close() }

func levelName(high bool) string {
	if high {
		return "high"
	}
	return "low"
}
