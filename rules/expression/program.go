package expression

import "errors"

// Program is a compiled condition. It is immutable and safe for concurrent use.
type Program struct {
	run    conditionFunc
	inputs []int
	source string
	root   *node
}

// Compile compiles a condition without calls beside it: see [Scope.Compile].
func Compile(source string, inputs []string) (*Program, error) {
	return NewScope(inputs).Compile(source)
}

// Compile parses, checks and compiles a condition over the scope's inputs. Its
// errors are of type [*Error]; mistakes of type and name are all reported, joined
// by errors.Join, a mistake of syntax alone. After an error the scope may hold
// calls of the refused source.
func (s *Scope) Compile(source string) (*Program, error) {
	n, err := parse(source)
	if err != nil {
		return nil, err
	}
	c := checker{src: source, scope: s}
	switch c.check(n); n.typ {
	case numberType:
		c.errorf(n, `want a condition, got a number: compare it, as in "x > 0"`)
	case textType:
		c.want(conditionType, []*node{n}, "a rule")
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	fold(n)
	return &Program{condition(n), c.used, source, n}, nil
}

// Eval returns the condition's value. values holds one number per input in the
// order given to the scope, and one per call behind them, NaN where it is unknown;
// a shorter slice panics. It allocates nothing.
func (p *Program) Eval(values []float64) Truth { return p.run(values) }

// Inputs returns the indexes of the inputs that the source names, in order of
// first appearance. The caller must not change the slice.
func (p *Program) Inputs() []int { return p.inputs }

// Thresholds returns the numbers that the call in slot is compared with in this
// condition. other reports whether it is used in any other way: then nobody can
// tell when a change of its value matters.
func (p *Program) Thresholds(slot int) (limits []float64, other bool) {
	return thresholds(p.root, slot, nil)
}

func thresholds(n *node, slot int, limits []float64) (_ []float64, other bool) {
	if n.slotted && n.slot == slot {
		return limits, true // nobody above has compared it
	}
	for i, a := range n.args {
		if n.kind == compareNode && a.slotted && a.slot == slot {
			compared, constant := neighbours(n.args, i)
			if constant {
				limits = append(limits, compared...)
				continue
			}
		}
		var o bool
		if limits, o = thresholds(a, slot, limits); o {
			other = true
		}
	}
	return limits, other
}

// neighbours returns the numbers beside args[i], and whether all beside it are
// numbers.
func neighbours(args []*node, i int) (limits []float64, constant bool) {
	for _, j := range []int{i - 1, i + 1} {
		if j < 0 || j >= len(args) {
			continue
		}
		if args[j].kind != numberNode {
			return nil, false
		}
		limits = append(limits, args[j].num)
	}
	return limits, true
}
