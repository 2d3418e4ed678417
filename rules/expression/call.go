package expression

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Window says how much of a series' past a function looks at: Duration for
// "5m", Count for "n=20". One of them is 0.
type Window struct {
	Duration time.Duration
	Count    int
}

// Bounds of a window.
const (
	MinWindow  = time.Millisecond
	MaxWindow  = 31 * 24 * time.Hour
	MaxSamples = 4096 // of "n=…"
)

// String returns the window as it is written.
func (w Window) String() string {
	if w.Count > 0 {
		return "n=" + strconv.Itoa(w.Count)
	}
	return w.Duration.String()
}

// Call is a part of a source whose value depends on more than the last values of
// the inputs. The engine works it out and puts it into the slot behind the
// inputs: see [Scope.Calls].
type Call struct {
	Func   string  // "avg", "age", "hour", "rule" …
	Input  int     // index of the input it is about, or -1
	Window Window  // of functions that have one
	Arg    float64 // the constant: share of quantile, tolerance of flat, steps of prev
	Text   string  // the rule's id, the model's name
	// Condition is what fraction asks of each reading. It may use the slots of
	// calls before this one, and so may Features.
	Condition *Program
	Features  []*Formula // what a model is asked about
	Source    string     // as written
	Offset    int        // in the source of the condition, in bytes
}

// Formula is a compiled number. It is immutable and safe for concurrent use.
type Formula struct{ run numberFunc }

// Eval returns the number, NaN when it is unknown. values is as for
// [Program.Eval].
func (f *Formula) Eval(values []float64) float64 { return f.run(values) }

// Scope is what several conditions share: the inputs and the calls. The same call
// in two conditions has one slot. It is not safe for concurrent use.
type Scope struct {
	inputs []string
	calls  []Call
	slots  map[string]int // of calls, by what makes two of them the same
}

// NewScope returns a scope of inputs, whose names are as [ValidName] says.
func NewScope(inputs []string) *Scope {
	return &Scope{inputs: inputs, slots: map[string]int{}}
}

// Calls returns the calls of all conditions compiled so far. The value of the
// i-th stands in values[len(inputs)+i]: NaN while it is unknown, and for a
// condition 1 or 0. A call uses only inputs and calls before it.
func (s *Scope) Calls() []Call { return s.calls }

// slot returns the place of a call among the values.
func (s *Scope) slot(c Call) int {
	key := fmt.Sprintf("%s/%d/%v/%x/%q", c.Func, c.Input, c.Window, math.Float64bits(c.Arg), c.Text)
	if c.Condition != nil || c.Features != nil {
		key += c.Source
	}
	if i, ok := s.slots[key]; ok {
		return i
	}
	i := len(s.inputs) + len(s.calls)
	s.slots[key] = i
	s.calls = append(s.calls, c)
	return i
}

// parseWindow reads "5m" or "n=20".
func parseWindow(text string) (Window, error) {
	if rest, ok := strings.CutPrefix(text, "n="); ok {
		n, err := strconv.Atoi(rest)
		if err != nil || n < 2 || n > MaxSamples {
			return Window{}, fmt.Errorf("window %q: want n=2 to n=%d", text, MaxSamples)
		}
		return Window{Count: n}, nil
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return Window{}, fmt.Errorf(`bad window %q, write it like "30s", "5m", "24h" or "n=20"`, text)
	case d < MinWindow || d > MaxWindow:
		return Window{}, fmt.Errorf("window %q: want %v to %v", text, MinWindow, MaxWindow)
	}
	return Window{Duration: d}, nil
}

// slotCall checks a call that gets a slot.
func (c *checker) slotCall(n *node, sig signature) {
	out := Call{Func: n.name, Input: -1, Source: c.src[n.pos:n.end], Offset: n.pos}
	before := len(c.errs)
	if !c.countArgs(n, sig) {
		return
	}
	params := sig.params
	for i, a := range n.args {
		p := byte(numberParam)
		if i < len(params) && params[i] != numbersParam {
			p = params[i]
		}
		c.argument(n, a, p, sig, &out)
	}
	if n.name == "prev" && len(n.args) == 1 {
		out.Arg = 1
	}
	if len(c.errs) == before {
		c.checkArg(n, &out)
	}
	if len(c.errs) == before {
		n.slot, n.slotted = c.scope.slot(out), true
	}
}

// countArgs reports a wrong number of arguments.
func (c *checker) countArgs(n *node, sig signature) bool {
	most := len(sig.params)
	least := most - sig.optional
	if strings.HasSuffix(sig.params, "*") {
		most = 1 + maxFeatures
	}
	switch {
	case len(n.args) < least:
		c.errorf(n, "%s wants more in its brackets: %s", n.name, sig.usage)
		return false
	case len(n.args) > most:
		c.errorf(n.args[most], "too much in the brackets of %s: %s", n.name, sig.usage)
		return false
	}
	return true
}

// maxFeatures bounds what a model is asked about.
const maxFeatures = 64

// argument checks one argument and puts what it says into out.
func (c *checker) argument(n, a *node, param byte, sig signature, out *Call) {
	if a.typ == noType {
		return // reported
	}
	switch param {
	case inputParam:
		if a.kind != inputNode {
			c.errorf(a, "%s wants the name of an input here: %s", n.name, sig.usage)
			return
		}
		out.Input = a.slot
	case windowParam:
		c.window(n, a, sig, out)
	case textParam:
		if a.kind != textNode {
			c.errorf(a, "%s wants a text here: %s", n.name, sig.usage)
			return
		}
		out.Text = a.name
	case constantParam:
		if c.want(numberType, []*node{a}, n.name); a.typ != numberType {
			return
		}
		if fold(a); a.kind != numberNode {
			c.errorf(a, "%s wants a number that is the same always here: %s", n.name, sig.usage)
			return
		}
		out.Arg = a.num
	case conditionParam:
		if c.want(conditionType, []*node{a}, n.name); a.typ == conditionType {
			fold(a)
			out.Condition = &Program{run: condition(a), inputs: inputsOf(a, nil)}
		}
	default:
		if c.want(numberType, []*node{a}, n.name); a.typ == numberType {
			fold(a)
			out.Features = append(out.Features, &Formula{number(a)})
		}
	}
}

func (c *checker) window(n, a *node, sig signature, out *Call) {
	if a.kind != textNode {
		c.errorf(a, "%s wants a window in quotes here: %s", n.name, sig.usage)
		return
	}
	w, err := parseWindow(a.name)
	if err != nil {
		c.errorf(a, "%v", err)
	}
	out.Window = w
}

// checkArg checks the range of the constant.
func (c *checker) checkArg(n *node, out *Call) {
	switch v := out.Arg; {
	case n.name == "quantile" && !(v >= 0 && v <= 1):
		c.errorf(n.args[1], "quantile wants a share from 0 to 1")
	case n.name == "flat" && !(v >= 0 && v <= math.MaxFloat64):
		c.errorf(n.args[2], "flat wants a tolerance of 0 or more")
	case n.name == "prev" && !(v >= 1 && v < MaxSamples && v == math.Trunc(v)):
		c.errorf(n.args[1], "prev wants 1 to %d readings", MaxSamples-1)
	case n.name == "fraction" && len(out.Condition.inputs) == 0:
		c.errorf(n.args[0], "the condition names no input: it would never change")
	}
}

// inputsOf appends the inputs that a tree names to dst, each once, in order.
func inputsOf(n *node, dst []int) []int {
	if n.kind == inputNode {
		if slices.Contains(dst, n.slot) {
			return dst
		}
		return append(dst, n.slot)
	}
	for _, a := range n.args {
		dst = inputsOf(a, dst)
	}
	return dst
}
