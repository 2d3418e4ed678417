package expression

import (
	"math"
	"slices"
)

// A number is computed from the inputs' values, NaN being unknown; a condition
// likewise.
type (
	numberFunc    func(values []float64) float64
	conditionFunc func(values []float64) Truth
)

// fold replaces numbers that depend on no input by their value.
func fold(n *node) {
	constant := len(n.args) > 0 && n.typ == numberType
	for _, a := range n.args {
		fold(a)
		constant = constant && a.kind == numberNode // a call with a slot names an input or a text
	}
	if constant {
		*n = node{kind: numberNode, num: number(n)(nil), typ: numberType, pos: n.pos, end: n.end}
	}
}

func numbers(args []*node) []numberFunc {
	fs := make([]numberFunc, len(args))
	for i, a := range args {
		fs[i] = number(a)
	}
	return fs
}

// number compiles a node of type number.
func number(n *node) numberFunc {
	switch n.kind {
	case numberNode:
		v := n.num
		return func([]float64) float64 { return v }
	case inputNode:
		slot := n.slot
		return func(values []float64) float64 { return values[slot] }
	case unaryNode:
		return sign(n)
	case binaryNode:
		return arithmetic(n)
	case ternaryNode:
		return choose(n)
	default:
		return call(n)
	}
}

func sign(n *node) numberFunc {
	f := number(n.args[0])
	if n.ops[0] == "+" {
		return f
	}
	return func(values []float64) float64 { return -f(values) }
}

func arithmetic(n *node) numberFunc {
	a, b := number(n.args[0]), number(n.args[1])
	switch n.ops[0] {
	case "+":
		return func(values []float64) float64 { return a(values) + b(values) }
	case "-":
		return func(values []float64) float64 { return a(values) - b(values) }
	case "*":
		return func(values []float64) float64 { return a(values) * b(values) }
	case "/":
		return func(values []float64) float64 { return a(values) / b(values) }
	case "%":
		return func(values []float64) float64 { return math.Mod(a(values), b(values)) }
	default: // "**"
		return func(values []float64) float64 { return power(a(values), b(values)) }
	}
}

func choose(n *node) numberFunc {
	cond, a, b := condition(n.args[0]), number(n.args[1]), number(n.args[2])
	return func(values []float64) float64 {
		switch cond(values) {
		case True:
			return a(values)
		case False:
			return b(values)
		default:
			return math.NaN()
		}
	}
}

func call(n *node) numberFunc {
	if slot := n.slot; n.slotted {
		return func(values []float64) float64 { return values[slot] }
	}
	switch n.name {
	case "min":
		return reduce(numbers(n.args), func(a, b float64) float64 { return min(a, b) })
	case "max":
		return reduce(numbers(n.args), func(a, b float64) float64 { return max(a, b) })
	}
	f := number(n.args[0])
	switch n.name {
	case "abs":
		return func(values []float64) float64 { return math.Abs(f(values)) }
	case "ceil":
		return func(values []float64) float64 { return math.Ceil(f(values)) }
	case "floor":
		return func(values []float64) float64 { return math.Floor(f(values)) }
	default: // "round"
		return func(values []float64) float64 { return math.Round(f(values)) }
	}
}

// reduce keeps NaN, as the built-in min and max do.
func reduce(fs []numberFunc, f func(a, b float64) float64) numberFunc {
	return func(values []float64) float64 {
		v := fs[0](values)
		for _, g := range fs[1:] {
			v = f(v, g(values))
		}
		return v
	}
}

// condition compiles a node of type condition.
func condition(n *node) conditionFunc {
	switch n.kind {
	case boolNode:
		t := truth(n.num != 0)
		return func([]float64) Truth { return t }
	case unaryNode:
		f := condition(n.args[0])
		return func(values []float64) Truth { return f(values).Not() }
	case binaryNode:
		return logic(n)
	case compareNode:
		return comparison(n)
	case inNode:
		return membership(n)
	case ternaryNode:
		return branch(condition(n.args[0]), condition(n.args[1]), condition(n.args[2]))
	case elvisNode: // a ?: b is a ? a : b, and a is true there
		return branch(condition(n.args[0]), func([]float64) Truth { return True }, condition(n.args[1]))
	default: // known, or a call
		if slot := n.slot; n.slotted {
			return func(values []float64) Truth { return truthOf(values[slot]) }
		}
		f := number(n.args[0])
		return func(values []float64) Truth { return truth(Known(f(values))) }
	}
}

// truthOf reads a condition from a slot.
func truthOf(v float64) Truth {
	switch {
	case math.IsNaN(v):
		return Unknown
	case v == 0:
		return False
	}
	return True
}

func logic(n *node) conditionFunc {
	a, b := condition(n.args[0]), condition(n.args[1])
	if n.ops[0] == "and" {
		return func(values []float64) Truth {
			t := a(values)
			if t == False {
				return False
			}
			return min(t, b(values))
		}
	}
	return func(values []float64) Truth {
		t := a(values)
		if t == True {
			return True
		}
		return max(t, b(values))
	}
}

func branch(cond, a, b conditionFunc) conditionFunc {
	return func(values []float64) Truth {
		switch cond(values) {
		case True:
			return a(values)
		case False:
			return b(values)
		default:
			return Unknown
		}
	}
}

// comparers hold one function per operator, for values that are known.
var comparers = map[string]func(a, b float64) bool{
	"==": func(a, b float64) bool { return a == b },
	"!=": func(a, b float64) bool { return a != b },
	"<":  func(a, b float64) bool { return a < b },
	"<=": func(a, b float64) bool { return a <= b },
	">":  func(a, b float64) bool { return a > b },
	">=": func(a, b float64) bool { return a >= b },
}

func compare(f func(a, b float64) bool, a, b float64) Truth {
	if !Known(a) || !Known(b) {
		return Unknown
	}
	return truth(f(a, b))
}

func comparison(n *node) conditionFunc {
	if n.args[0].typ == conditionType {
		return equality(n)
	}
	f, left, right := comparers[n.ops[0]], n.args[0], n.args[1]
	switch {
	case len(n.ops) > 1:
		return chain(n)
	case left.kind == inputNode && right.kind == numberNode: // most rules
		slot, limit := left.slot, right.num
		return func(values []float64) Truth { return compare(f, values[slot], limit) }
	default:
		a, b := number(left), number(right)
		return func(values []float64) Truth { return compare(f, a(values), b(values)) }
	}
}

// chain compares neighbours and evaluates each operand once.
func chain(n *node) conditionFunc {
	fs := make([]func(a, b float64) bool, len(n.ops))
	for i, op := range n.ops {
		fs[i] = comparers[op]
	}
	operands := numbers(n.args)
	return func(values []float64) Truth {
		t, a := True, operands[0](values)
		for i, f := range fs {
			b := operands[i+1](values)
			if t = min(t, compare(f, a, b)); t == False {
				return False
			}
			a = b
		}
		return t
	}
}

// equality compares two conditions.
func equality(n *node) conditionFunc {
	a, b, negate := condition(n.args[0]), condition(n.args[1]), n.ops[0] == "!="
	return func(values []float64) Truth {
		x, y := a(values), b(values)
		if x == Unknown || y == Unknown {
			return Unknown
		}
		return truth((x == y) != negate)
	}
}

func membership(n *node) conditionFunc {
	x := number(n.args[0])
	if list, ok := constants(n.args[1:]); ok {
		return func(values []float64) Truth {
			v := x(values)
			if !Known(v) {
				return Unknown
			}
			return truth(slices.Contains(list, v))
		}
	}
	members, equal := numbers(n.args[1:]), comparers["=="]
	return func(values []float64) Truth {
		v, t := x(values), False
		for _, m := range members {
			if t = max(t, compare(equal, v, m(values))); t == True {
				break
			}
		}
		return t
	}
}

// constants returns the values of args if all are known already.
func constants(args []*node) ([]float64, bool) {
	list := make([]float64, len(args))
	for i, a := range args {
		if a.kind != numberNode || !Known(a.num) {
			return nil, false
		}
		list[i] = a.num
	}
	return list, true
}
