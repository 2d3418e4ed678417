package expression_test

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent/rules/expression"
)

var update = flag.Bool("update", false, "write the golden files anew")

var inf = math.Inf(1)

// inputs of every test: a = 3, b = -2.5, z = 0, i = +Inf, u and v are unknown.
var (
	names  = []string{"a", "b", "z", "i", "u", "v"}
	values = []float64{3, -2.5, 0, inf, expression.NaN(), expression.NaN()}
)

func eval(t *testing.T, source string) expression.Truth {
	t.Helper()
	p, err := expression.Compile(source, names)
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	return p.Eval(values)
}

func TestNumbers(t *testing.T) {
	tests := []struct {
		source string
		want   float64
	}{
		{"12", 12},
		{"02", 2},
		{"1_000", 1000},
		{"0x1F", 31},
		{"0b101", 5},
		{"0o17", 15},
		{".5", 0.5},
		{"1.", 1},
		{"1.2e-4", 0.00012},
		{"1e3", 1000},
		{"9007199254740992", 1 << 53},
		{"7 / 2", 3.5},
		{"7 % 3", 1},
		{"-7 % 3", -1},
		{"7.5 % 2", 1.5},
		{"2 + 3 * 4", 14},
		{"(2 + 3) * 4", 20},
		{"2 - 3 - 4", -5},
		{"2 ** 3 ** 2", 512},
		{"2 ^ 3", 8},
		{"-2 ** 2", -4},
		{"2 ** -1 * 3", 1.5},
		{"-a * b", 7.5},
		{"+a - -b", 0.5},
		{"a / z", inf},
		{"-a / z", -inf},
		{"i", inf},
		{"abs(b)", 2.5},
		{"ceil(b)", -2},
		{"floor(b)", -3},
		{"round(b)", -3},
		{"round(0.5 + 2)", 3},
		{"min(a, b, z)", -2.5},
		{"max(a)", 3},
		{"max(a, b, i)", inf},
		{"a > 1 ? b : 7", -2.5},
		{"a < 1 ? b : a > 2 ? 8 : 9", 8},
		{"true ? a : u", 3},
		{"a // comment\n + 1", 4},
		{"a /* + \n 7 */ + 1", 4},
	}
	for _, tt := range tests {
		t.Run(tt.source, func(t *testing.T) {
			want := fmt.Sprintf("(%.17g)", tt.want)
			switch {
			case math.IsInf(tt.want, 1):
				want = "(1/z)"
			case math.IsInf(tt.want, -1):
				want = "(-1/z)"
			}
			if got := eval(t, "("+tt.source+") == "+want); got != expression.True {
				t.Errorf("(%s) == %s is %v", tt.source, want, got)
			}
			if got := eval(t, "("+tt.source+") != "+want); got != expression.False {
				t.Errorf("(%s) != %s is %v", tt.source, want, got)
			}
		})
	}
}

func TestConditions(t *testing.T) {
	const f, u, y = expression.False, expression.Unknown, expression.True
	tests := []struct {
		source string
		want   expression.Truth
	}{
		{"true", y},
		{"a > 2", y},
		{"a >= 3", y},
		{"a < 3", f},
		{"a <= 3", y},
		{"a == 3", y},
		{"a != 3", f},
		{"2 < a", y},
		{"1 < a < 4", y},
		{"1 < a < 2", f},
		{"4 > a > b > -3", y},
		{"1 < a == true", y},
		{"a in [1, 2, 3]", y},
		{"a in [1, 2,]", f},
		{"a not in [1, 2]", y},
		{"a in [b, z + 3]", y},
		{"a > 1 and b > 1", f},
		{"a > 1 && b < 1", y},
		{"a > 5 or b < 1", y},
		{"a > 5 || b > 1", f},
		{"true or false and false", y},
		{"not (a > 5)", y},
		{"!(a > 5) && true", y},
		{"(a > 1) == (b < 1)", y},
		{"(a > 1) != (b < 1)", f},
		{"a > 1 ? b < 0 : u > 0", y},
		{"a > 5 ? true : false", f},
		{"a > 5 ?: b < 0", y},
		{"a > 1 ?: u > 0", y},
		{"known(a)", y},
		{"i > 1e308", y},

		// Unknown values.
		{"u > 1", u},
		{"u == u", u},
		{"u != 1", u},
		{"not (u > 1)", u},
		{"u + 1 > 0", u},
		{"-u > 0", u},
		{"u ** 0 == 1", u},
		{"1 ** u == 1", u},
		{"min(a, u) > 0", u},
		{"max(u, a) > 0", u},
		{"abs(u) > 0", u},
		{"0 / z == 0", u},
		{"a % z == 0", u},
		{"i - i == 0", u},
		{"0 / 0 == 1", u},
		{"u > 1 and false", f},
		{"false and u > 1", f},
		{"u > 1 and true", u},
		{"true and u > 1", u},
		{"u > 1 or true", y},
		{"true or u > 1", y},
		{"u > 1 or false", u},
		{"false or u > 1", u},
		{"u > 1 and v > 1", u},
		{"u > 1 or v > 1", u},
		{"(u > 1) == (u > 1)", u},
		{"u in [1, 2]", u},
		{"u in [1, v]", u},
		{"a in [u, 3]", y},
		{"a in [u, 4]", u},
		{"a not in [u, 4]", u},
		{"a in [0/0, 3]", y},
		{"a in [0/0, 4]", u},
		{"1 < u < 2", u},
		{"5 < a < u", f},
		{"1 < a < u", u},
		{"u < 1 < 0", f},
		{"u > 1 ? true : true", u},
		{"(u > 1 ? 1 : 1) == 1", u},
		{"u > 1 ?: true", u},
		{"a > 5 ? u > 1 : true", y},
		{"known(u)", f},
		{"not known(u)", y},
		{"known(a + u)", f},
		{"known(z / z)", f},
	}
	for _, tt := range tests {
		t.Run(tt.source, func(t *testing.T) {
			if got := eval(t, tt.source); got != tt.want {
				t.Errorf("%s is %v, want %v", tt.source, got, tt.want)
			}
		})
	}
}

// TestLaws holds Kleene's laws for all values of two conditions.
func TestLaws(t *testing.T) {
	p := "(a > 0)"
	q := "(b > 0)"
	laws := [][2]string{
		{p + " and " + q, q + " and " + p},
		{p + " or " + q, q + " or " + p},
		{"not (" + p + " and " + q + ")", "not " + p + " or not " + q},
		{"not not " + p, p},
		{p + " and (" + p + " or " + q + ")", p},
		{p + " or " + p + " and " + q, p},
	}
	compile := func(src string) *expression.Program {
		prog, err := expression.Compile(src, names)
		if err != nil {
			t.Fatal(err)
		}
		return prog
	}
	for _, law := range laws {
		left, right := compile(law[0]), compile(law[1])
		for _, a := range []float64{-1, 1, expression.NaN()} {
			for _, b := range []float64{-1, 1, expression.NaN()} {
				in := []float64{a, b, 0, 0, 0, 0}
				if x, y := left.Eval(in), right.Eval(in); x != y {
					t.Errorf("a=%v b=%v: %s is %v, %s is %v", a, b, law[0], x, law[1], y)
				}
			}
		}
	}
}

func TestInputs(t *testing.T) {
	p, err := expression.Compile("z > 1 or a > z and known(i)", names)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{2, 0, 3}, p.Inputs()); diff != "" {
		t.Error(diff)
	}
}

// TestErrors renders each line of testdata/errors.txt that is a source, with a
// caret under the mistake, and compares with the golden file.
func TestErrors(t *testing.T) {
	src, err := os.ReadFile(filepath.Join("testdata", "errors.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	inputs := []string{"temp", "load", "door"}
	for line := range strings.Lines(string(src)) {
		line = strings.TrimSuffix(line, "\n")
		_, err := expression.Compile(line, inputs)
		if err == nil {
			t.Errorf("%q: no error", line)
			continue
		}
		out.WriteString("  " + line + "\n")
		for _, e := range flatten(err) {
			mistake, ok := errors.AsType[*expression.Error](e)
			if !ok {
				t.Fatalf("%q: error of type %T", line, e)
			}
			caret := strings.Repeat(" ", mistake.Offset()) + "^" + strings.Repeat("~", max(0, mistake.Length()-1))
			fmt.Fprintf(&out, "  %s\n%d: %s\n", caret, mistake.Offset(), mistake)
		}
		out.WriteString("\n")
	}
	golden(t, "errors.golden", out.String())
}

func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-update writes it anew):\n%s", path, diff)
	}
}

func TestBounds(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("(", n) + "a > 1" + strings.Repeat(")", n) }
	tests := []struct {
		name, source string
		offset       int // -1: accepted
	}{
		{"as deep as allowed", deep(64), -1},
		{"brackets", deep(65), 64},
		{"signs", strings.Repeat("-", 65) + "a > 1", 64},
		{"nots", strings.Repeat("!", 65) + "(a > 1)", 64},
		{"powers", "a" + strings.Repeat("**a", 65) + " > 1", 193},
		{"calls", strings.Repeat("abs(", 65) + "a" + strings.Repeat(")", 65) + " > 1", 64*4 + 3},
		{"branches", strings.Repeat("a>1?a:", 65) + "a > 1", 64*6 + 3},
		{"long sums are flat", strings.Repeat("a+", 1000) + "a > 1", -1},
		{"long alternatives are flat", strings.Repeat("a>1||", 700) + "a > 1", -1},
		{"as long as allowed", "a > 1" + strings.Repeat(" ", expression.MaxLength-5), -1},
		{"too long", "a > 1" + strings.Repeat(" ", expression.MaxLength-4), expression.MaxLength},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := expression.Compile(tt.source, names)
			if tt.offset < 0 {
				if err != nil {
					t.Fatal(err)
				}
				p.Eval(values)
				return
			}
			mistake, ok := errors.AsType[*expression.Error](err)
			if !ok || mistake.Offset() != tt.offset {
				t.Errorf("got %v, want an error at %d", err, tt.offset)
			}
		})
	}
}

// TestChainsAreEvaluatedOnce: sharing the middle operand by copying it would make
// nested chains cost 2^depth.
func TestChainsAreEvaluatedOnce(t *testing.T) {
	src := "a"
	for range 60 {
		src = "(0 < " + src + " < 9 ? a : b)"
	}
	p, err := expression.Compile(src+" > 1", names)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Eval(values); got != expression.True {
		t.Errorf("got %v", got)
	}
}

func TestEvalAllocatesNothing(t *testing.T) {
	p, err := expression.Compile("a > 1 and max(a, b) ** 2 in [9, a, b] and (1 < a < 4 ? known(a) : a % 2 == 1)", names)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { p.Eval(values) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestValidName(t *testing.T) {
	tests := []struct {
		name string
		want bool
	}{
		{"temp", true},
		{"t_1", true},
		{"_", true},
		{"größe", true},
		{"max", true},
		{"", false},
		{"1t", false},
		{"a-b", false},
		{"a b", false},
		{"a/b", false},
		{"not", false},
		{"true", false},
		{"nil", false},
		{"\xff", false},
		{"\ufffd", false},
		{strings.Repeat("n", 65), false},
	}
	for _, tt := range tests {
		if got := expression.ValidName(tt.name); got != tt.want {
			t.Errorf("ValidName(%q) = %v", tt.name, got)
		}
		if _, err := expression.Compile(tt.name+" > 1", []string{tt.name}); tt.want && err != nil {
			t.Errorf("valid name %q: %v", tt.name, err)
		}
	}
}

// FuzzCompile: whatever the source, Compile ends without a panic, its errors lie
// within the source, and what it accepts evaluates.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		"a > 1", "1 < a < 4 ?: b in [1, 2] or not known(u)", "-2 ** -a % .5e3", "a not in [0x1f,]",
		"a ? b : c", "((((", "a /* b", "'text", "1..2", "\xff", "a\u00a0> 1", "min(a,", "let x = 1; x", "a?.b", "0b2", "1e+",
	} {
		f.Add(s)
	}
	in := []float64{1, -2, 0, inf, expression.NaN(), 1e300}
	f.Fuzz(func(t *testing.T, source string) {
		p, err := expression.Compile(source, names)
		if err != nil {
			for _, e := range flatten(err) {
				m, ok := errors.AsType[*expression.Error](e)
				if !ok || m.Error() == "" || m.Offset() < 0 || m.Length() < 0 || m.Offset()+m.Length() > len(source) {
					t.Fatalf("%q: bad error %#v", source, e)
				}
			}
			return
		}
		first := p.Eval(in)
		if first > expression.True || p.Eval(in) != first {
			t.Fatalf("%q: bad or unsteady value %d", source, first)
		}
	})
}

func BenchmarkEval(b *testing.B) {
	for _, bench := range []struct{ name, source string }{
		{"one term", "a > 80"},
		{"two terms", "a > 2 and a - b > 2"},
		{"ten terms", strings.Repeat("a > 2 and a - b > 2 and ", 4) + "a < 5 and b < 4"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			p, err := expression.Compile(bench.source, names)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				p.Eval(values)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := expression.Compile("a > 80 and a - b > 2", names); err != nil {
			b.Fatal(err)
		}
	}
}
