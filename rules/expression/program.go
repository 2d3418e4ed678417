package expression

import "errors"

// Program is a compiled condition.
type Program struct {
	run    conditionFunc
	inputs []int
}

// Compile parses, checks and compiles a condition over the given inputs, whose
// names are as [ValidName] says. Its errors are of type [*Error]; mistakes of
// type and name are all reported, joined by errors.Join, a mistake of syntax
// alone.
func Compile(source string, inputs []string) (*Program, error) {
	n, err := parse(source)
	if err != nil {
		return nil, err
	}
	c := checker{src: source, inputs: inputs}
	if c.check(n); n.typ == numberType {
		c.errorf(n, `want a condition, got a number: compare it, as in "x > 0"`)
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	fold(n)
	return &Program{condition(n), c.used}, nil
}

// Eval returns the condition's value. values holds one number per input in the
// order given to [Compile], NaN where it is unknown; a shorter slice panics. It
// allocates nothing.
func (p *Program) Eval(values []float64) Truth { return p.run(values) }

// Inputs returns the indexes of the inputs that the source names, in order of
// first appearance. The caller must not change the slice.
func (p *Program) Inputs() []int { return p.inputs }
