package expression_test

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/expr-lang/expr"

	"github.com/edgeagent/edgeagent/rules/expression"
)

// The language is a subset of expr's syntax, so expr itself says what a source
// means. It is a dependency of this test only.

// writer makes random conditions. Windows stay what they are: a call whose value
// both sides are told. It writes no 0.0: expr keeps one constant for 0.0 and -0.0,
// whichever comes first.
type writer struct{ r *rand.Rand }

func (w *writer) pick(options ...string) string { return options[w.r.IntN(len(options))] }

func (w *writer) condition(depth int) string {
	if depth <= 0 {
		return w.pick("true", "false", "a > 1.0", "b <= a", `changed(a, "5m")`, `rule("x").firing`, `flat(b, "1h", 0.5)`)
	}
	d := depth - 1
	switch w.r.IntN(11) {
	case 0:
		return w.condition(d) + w.pick(" and ", " && ") + w.condition(d)
	case 1:
		return w.condition(d) + w.pick(" or ", " || ") + w.condition(d)
	case 2:
		return w.pick("not ", "!") + "(" + w.condition(d) + ")"
	case 3:
		return "(" + w.condition(d) + ")"
	case 4:
		return "(" + w.condition(d) + ") " + w.pick("==", "!=") + " (" + w.condition(d) + ")"
	case 5:
		return w.number(d) + " " + w.pick("in", "not in") + " [" + w.number(d) + ", " + w.number(d) + "]"
	case 6:
		return "(" + w.condition(d) + " ? " + w.condition(d) + " : " + w.condition(d) + ")"
	case 7:
		return w.number(d) + w.order() + w.number(d) + w.order() + w.number(d)
	default:
		return w.number(d) + w.pick(" == ", " != ", w.order()) + w.number(d)
	}
}

func (w *writer) order() string { return w.pick(" < ", " <= ", " > ", " >= ") }

func (w *writer) number(depth int) string {
	if depth <= 0 {
		return w.pick("a", "b", "z", "1.0", "2.5", "0.25", "1_0.5", ".5", "1e1", "7.0", `avg(a, "5m")`, `max(b, "n=20")`, `quantile(a, 0.9, "1m")`, "hour()", "age(b)", "prev(a, 2)", `model("m", a, b)`)
	}
	d := depth - 1
	switch w.r.IntN(9) {
	case 0:
		return w.pick("-", "+") + w.number(d)
	case 1:
		return "(" + w.number(d) + ")"
	case 2:
		return w.number(d) + w.pick("**", "^") + w.number(d)
	case 3:
		return w.pick("abs", "ceil", "floor", "round") + "(" + w.number(d) + ")"
	case 4:
		return w.pick("min", "max") + "(" + w.number(d) + ", " + w.number(d) + ")"
	case 5:
		return "(" + w.condition(d) + " ? " + w.number(d) + " : " + w.number(d) + ")"
	case 6: // expr's % wants integers, whose zero has no sign: 1 / -0 differs
		return "(" + strconv.Itoa(w.r.IntN(30)) + " % " + strconv.Itoa(1+w.r.IntN(9)) + " + 1) * 1.0"
	default:
		return w.number(d) + w.pick(" + ", " - ", " * ", " / ") + w.number(d)
	}
}

// told is the value that both sides give a call.
func told(parts ...any) float64 {
	h := fnv.New64a()
	fmt.Fprint(h, parts...)
	return float64(h.Sum64()%9) - 2
}

func oracleOptions() []expr.Option {
	opts := []expr.Option{expr.DisableAllBuiltins(), expr.AsBool()}
	add := func(name string, f func(args ...any) (any, error), types ...any) {
		opts = append(opts, expr.Function(name, f, types...))
	}
	number := func(f func(float64) float64) func(args ...any) (any, error) {
		return func(args ...any) (any, error) { return f(args[0].(float64)), nil }
	}
	add("abs", number(math.Abs), new(func(float64) float64))
	add("ceil", number(math.Ceil), new(func(float64) float64))
	add("floor", number(math.Floor), new(func(float64) float64))
	add("round", number(math.Round), new(func(float64) float64))
	called := func(name string) func(args ...any) (any, error) {
		return func(args ...any) (any, error) { return told(append([]any{name}, args...)...), nil }
	}
	minmax := func(name string, f func(a, b float64) float64) func(args ...any) (any, error) {
		return func(args ...any) (any, error) {
			if _, text := args[1].(string); text {
				return called(name)(args...)
			}
			return f(args[0].(float64), args[1].(float64)), nil
		}
	}
	type window = func(float64, string) float64
	add("min", minmax("min", func(a, b float64) float64 { return min(a, b) }), new(window), new(func(float64, float64) float64))
	add("max", minmax("max", func(a, b float64) float64 { return max(a, b) }), new(window), new(func(float64, float64) float64))
	add("avg", called("avg"), new(window))
	add("quantile", called("quantile"), new(func(float64, float64, string) float64))
	add("hour", called("hour"), new(func() float64))
	add("age", called("age"), new(func(float64) float64))
	add("prev", called("prev"), new(func(float64, int) float64))
	add("model", called("model"), new(func(string, float64, float64) float64))
	truth := func(name string) func(args ...any) (any, error) {
		return func(args ...any) (any, error) { return told(append([]any{name}, args...)...) > 0, nil }
	}
	add("changed", truth("changed"), new(func(float64, string) bool))
	add("flat", truth("flat"), new(func(float64, string, float64) bool))
	add("rule", func(args ...any) (any, error) {
		return map[string]bool{"firing": told("rule", args[0]) > 0}, nil
	}, new(func(string) map[string]bool))
	return opts
}

// tell fills the slots of calls with what the oracle is told.
func tell(calls []expression.Call, values []float64, inputs int) {
	for i, c := range calls {
		parts := []any{c.Func}
		if c.Input >= 0 {
			parts = append(parts, values[c.Input])
		}
		switch c.Func {
		case "quantile":
			parts = append(parts, c.Arg, windowText(c.Window))
		case "prev":
			parts = append(parts, int(c.Arg))
		case "flat":
			parts = append(parts, windowText(c.Window), c.Arg)
		case "rule":
			parts = append(parts, c.Text)
		case "model":
			parts = append(parts, c.Text)
			for _, f := range c.Features {
				parts = append(parts, f.Eval(values))
			}
		case "hour", "age":
		default:
			parts = append(parts, windowText(c.Window))
		}
		v := told(parts...)
		if c.Func == "changed" || c.Func == "flat" || c.Func == "rule" {
			v = map[bool]float64{true: 1}[v > 0]
		}
		values[inputs+i] = v
	}
}

func windowText(w expression.Window) string {
	return map[string]string{"5m0s": "5m", "1m0s": "1m", "1h0m0s": "1h", "n=20": "n=20"}[w.String()]
}

// differ holds one source against the oracle, for several values of the inputs.
// It returns how many verdicts were compared.
func differ(t *testing.T, source string, r *rand.Rand) (compared int) {
	t.Helper()
	inputs := []string{"a", "b", "z"}
	env := map[string]any{"a": 0.0, "b": 0.0, "z": 0.0}
	want, err := expr.Compile(source, append(oracleOptions(), expr.Env(env))...)
	if err != nil {
		return 0 // a difference of types that the oracle minds and we do not: integers and floats
	}
	scope := expression.NewScope(inputs)
	got, err := scope.Compile(source)
	if err != nil {
		t.Fatalf("%s: expr takes it, we say: %v", source, err)
	}
	values := make([]float64, len(inputs)+len(scope.Calls()))
	for range 4 {
		for i, name := range inputs {
			values[i] = []float64{0, 1, 2.5, -3, 7, math.Inf(1)}[r.IntN(6)]
			env[name] = values[i]
		}
		tell(scope.Calls(), values, len(inputs))
		said := got.Eval(values)
		out, err := expr.Run(want, env)
		if err != nil {
			continue // integer division by zero
		}
		if said == expression.Unknown {
			continue // not a number on the way: expr lets it compare
		}
		compared++
		if out.(bool) != (said == expression.True) {
			t.Fatalf("%s with %v: expr says %v, we say %v", source, values, out, said)
		}
		checkUnknown(t, source, got, scope, values, said)
	}
	return compared
}

// checkUnknown forgets one input: what is still known must be what it was.
func checkUnknown(t *testing.T, source string, p *expression.Program, s *expression.Scope, values []float64, said expression.Truth) {
	t.Helper()
	if strings.Contains(source, "model") {
		return // its value depends on the input behind our back
	}
	for i := range 3 {
		forgetful := append([]float64(nil), values...)
		forgetful[i] = math.NaN()
		for j, c := range s.Calls() {
			if c.Input == i {
				forgetful[3+j] = math.NaN()
			}
		}
		if now := p.Eval(forgetful); now != expression.Unknown && now != said {
			t.Fatalf("%s: without input %d %v became %v", source, i, said, now)
		}
	}
}

// TestAgainstExpr compares thousands of random conditions with expr.
func TestAgainstExpr(t *testing.T) {
	compared := 0
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 99))
		w := writer{r: r}
		compared += differ(t, w.condition(1+r.IntN(4)), r)
	}
	if compared < 5000 {
		t.Errorf("only %d verdicts were compared", compared)
	}
}

// TestOracleCanFail: the comparison notices a wrong answer.
func TestOracleCanFail(t *testing.T) {
	want, err := expr.Compile("a - b - z > 0.0", append(oracleOptions(), expr.Env(map[string]any{"a": 0.0, "b": 0.0, "z": 0.0}))...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := expr.Run(want, map[string]any{"a": 1.0, "b": 2.0, "z": 3.0})
	if err != nil {
		t.Fatal(err)
	}
	p, err := expression.Compile("a - (b - z) > 0.0", []string{"a", "b", "z"})
	if err != nil {
		t.Fatal(err)
	}
	if out.(bool) == (p.Eval([]float64{1, 2, 3}) == expression.True) {
		t.Error("a different reading of the same words went unnoticed")
	}
}

// FuzzAgainstExpr goes on where TestAgainstExpr stops.
func FuzzAgainstExpr(f *testing.F) {
	f.Add([]byte("seed"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var seed [16]byte
		copy(seed[:], data)
		r := rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed[:]), binary.LittleEndian.Uint64(seed[8:])))
		w := writer{r: r}
		differ(t, w.condition(1+r.IntN(6)), r)
	})
}

var zero = regexp.MustCompile(`(^|[^0-9.])[0_]*\.?[0_]+([^0-9]|$)`)

// FuzzSourceAgainstExpr: what both accept, whatever it is, means the same.
func FuzzSourceAgainstExpr(f *testing.F) {
	for _, s := range []string{"a > 1.0", "1.0 < a < 4.0", "not (a == b) or z in [1.0, 2.0]", "a ? b : z", "a > b ?: true"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		inputs := []string{"a", "b", "z"}
		p, err := expression.Compile(source, inputs)
		if err != nil {
			return
		}
		env := map[string]any{"a": 3.0, "b": -2.5, "z": 0.25}
		oracle, err := expr.Compile(source, append(oracleOptions(), expr.Env(env))...)
		if err != nil {
			return
		}
		out, err := expr.Run(oracle, env)
		if err != nil {
			return
		}
		if said := p.Eval([]float64{3, -2.5, 0.25}); said != expression.Unknown && out.(bool) != (said == expression.True) {
			if strings.ContainsAny(source, "0123456789") && !strings.Contains(source, ".") {
				return // integers overflow and divide there, and are floats here
			}
			if zero.MatchString(source) && strings.Contains(source, "-") {
				return // see writer
			}
			t.Fatalf("%q: expr says %v, we say %v", source, out, said)
		}
	})
}
