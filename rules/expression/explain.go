package expression

import (
	"math"
	"strconv"
)

// Part is a part of a condition and what it came to.
type Part struct {
	Source string // as written
	Value  string // "true", "unknown", "81.5"
	Depth  int    // of nesting; 0 is the whole
}

// Explain returns the value of the condition and of each part of it, the whole
// first, each part before what it is made of. It is meant for people and allocates.
func (p *Program) Explain(values []float64) []Part {
	return p.explain(nil, p.root, values, 0)
}

func (p *Program) explain(dst []Part, n *node, values []float64, depth int) []Part {
	part := Part{Source: p.source[n.pos:n.end], Depth: depth}
	switch {
	case n.kind == textNode || n.kind == numberNode && part.Source != "" && isDigitText(part.Source):
		return dst // says itself
	case n.typ == numberType:
		part.Value = formatNumber(number(n)(values))
	default:
		part.Value = condition(n)(values).String()
	}
	dst = append(dst, part)
	for _, a := range n.args {
		dst = p.explain(dst, a, values, depth+1)
	}
	return dst
}

func isDigitText(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

func formatNumber(v float64) string {
	if math.IsNaN(v) {
		return "unknown"
	}
	return strconv.FormatFloat(v, 'g', 10, 64)
}
