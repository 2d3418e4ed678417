package expression

import (
	"fmt"
	"slices"
	"strconv"
)

type valueType uint8

const (
	noType        valueType = iota // already reported
	numberType                     // float64
	conditionType                  // Truth
	textType                       // belongs in the brackets of a function
)

// checker gives every node its type and every name its slot. It goes on after an
// error, so that all are reported at once.
type checker struct {
	src   string
	scope *Scope
	used  []int
	errs  []error
}

func (c *checker) errorf(n *node, format string, args ...any) {
	c.errs = append(c.errs, errorAt(n.pos, n.end, format, args...))
}

// check sets n.typ, and that of everything in n.
func (c *checker) check(n *node) {
	n.typ = c.typeOf(n)
}

func (c *checker) typeOf(n *node) valueType {
	switch n.kind {
	case numberNode:
		return numberType
	case boolNode:
		return conditionType
	case inputNode:
		return c.input(n)
	case textNode:
		return textType
	}
	for _, a := range n.args {
		c.check(a)
	}
	switch n.kind {
	case unaryNode:
		return c.unary(n)
	case binaryNode:
		return c.binary(n)
	case compareNode:
		return c.compare(n)
	case inNode:
		c.want(numberType, n.args, `"in"`)
		return conditionType
	case ternaryNode:
		return c.ternary(n)
	case elvisNode:
		c.want(conditionType, n.args, `"?:"`)
		return conditionType
	default:
		return c.call(n)
	}
}

func (c *checker) input(n *node) valueType {
	n.slot = slices.Index(c.scope.inputs, n.name)
	switch {
	case n.slot >= 0:
		if !slices.Contains(c.used, n.slot) {
			c.used = append(c.used, n.slot)
		}
	case functions[n.name].typ != noType:
		c.errorf(n, "%q is a function, call it: %s", n.name, functions[n.name].usage)
		return noType
	default:
		c.errorf(n, "unknown name %q%s", n.name, didYouMean(n.name, c.scope.inputs))
		return noType
	}
	return numberType
}

func (c *checker) unary(n *node) valueType {
	if n.ops[0] != "not" {
		c.want(numberType, n.args, quoteOp(n))
		return numberType
	}
	if a := n.args[0]; a.typ == textType {
		c.want(conditionType, n.args, `"not"`)
	} else if a.typ == numberType {
		c.errorf(a, `"not" wants a condition, but %s is a number: put the comparison in brackets, as in "not (x > 1)"`, c.text(a))
		return noType // "not x > 1" is one mistake
	}
	return conditionType
}

func (c *checker) binary(n *node) valueType {
	if op := n.ops[0]; op == "and" || op == "or" {
		c.want(conditionType, n.args, quoteOp(n))
		return conditionType
	}
	c.want(numberType, n.args, quoteOp(n))
	return numberType
}

// compare: order is for numbers, equality for two values of one type.
func (c *checker) compare(n *node) valueType {
	if op := n.ops[0]; op != "==" && op != "!=" || slices.ContainsFunc(n.args, func(a *node) bool { return a.typ == textType }) {
		c.want(numberType, n.args, quoteOp(n))
		return conditionType
	}
	if a, b := n.args[0], n.args[1]; a.typ != b.typ && a.typ != noType && b.typ != noType {
		c.errorf(n, "%s is %s and %s is %s: they are never equal", c.text(a), typeNames[a.typ], c.text(b), typeNames[b.typ])
	}
	return conditionType
}

func (c *checker) ternary(n *node) valueType {
	c.want(conditionType, n.args[:1], `"?"`)
	a, b := n.args[1], n.args[2]
	switch {
	case a.typ == textType || b.typ == textType:
		c.want(numberType, n.args[1:], `"?"`)
		return noType
	case a.typ == noType:
		return b.typ
	case b.typ != noType && a.typ != b.typ:
		c.errorf(n, "the branches differ: %s is %s and %s is %s", c.text(a), typeNames[a.typ], c.text(b), typeNames[b.typ])
		return noType
	}
	return a.typ
}

func (c *checker) call(n *node) valueType {
	sig := functions[n.name]
	if w, ok := windowed[n.name]; ok && len(n.args) > 0 && n.args[len(n.args)-1].kind == textNode {
		sig = w
	}
	if sig.isCall() {
		c.slotCall(n, sig)
		return sig.typ
	}
	switch {
	case len(n.args) == 0:
		c.errorf(n, "%s wants a number in its brackets", n.name)
	case sig.params == "x" && len(n.args) > 1:
		c.errorf(n.args[1], "%s wants one number, not %d", n.name, len(n.args))
	}
	c.want(numberType, n.args, n.name)
	return sig.typ
}

var typeNames = map[valueType]string{numberType: "a number", conditionType: "a condition", textType: "a text"}

// want reports each argument that is not of type t.
func (c *checker) want(t valueType, args []*node, who string) {
	for _, a := range args {
		switch {
		case a.typ == t || a.typ == noType:
		case a.typ == textType:
			c.errorf(a, "texts stand in the brackets of some functions only, as in avg(x, \"5m\")")
		case t == conditionType:
			c.errorf(a, "%s wants a condition, but %s is a number: compare it, as in \"x > 0\"", who, c.text(a))
		default:
			c.errorf(a, "%s wants a number, but %s is a condition", who, c.text(a))
		}
	}
}

func quoteOp(n *node) string { return strconv.Quote(n.ops[0]) }

// maxQuoted bounds how much of the source an error repeats.
const maxQuoted = 40

func (c *checker) text(n *node) string {
	if s := c.src[n.pos:n.end]; len(s) <= maxQuoted {
		return fmt.Sprintf("%q", s)
	}
	return "this"
}
