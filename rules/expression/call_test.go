package expression_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edgeagent/edgeagent/rules/expression"
)

func TestCalls(t *testing.T) {
	scope := expression.NewScope([]string{"a", "b"})
	for _, source := range []string{
		`a > 80 and a - avg(a, "5m") > 2`,
		`a < avg(a, "300s") or min(b, "n=20") > 1 or min(a, b) > 1`, // avg again
		`quantile(b, 0.5 + 0.45, "1h") > 1 and flat(a, "30m", -(-0.05))`,
		`fraction(avg(a, "5m") > b, "1m") > 0.5 and prev(a) > prev(a, 2)`,
		`rule("x").firing and model("m", a, b * 2) > 1 and hour() < 6 and stale(b)`,
	} {
		if _, err := scope.Compile(source); err != nil {
			t.Fatalf("%s: %v", source, err)
		}
	}
	minutes := func(n int) expression.Window { return expression.Window{Duration: time.Duration(n) * time.Minute} }
	want := []expression.Call{
		{Func: "avg", Window: minutes(5), Source: `avg(a, "5m")`, Offset: 15},
		{Func: "min", Input: 1, Window: expression.Window{Count: 20}, Source: `min(b, "n=20")`, Offset: 22},
		{Func: "quantile", Input: 1, Window: minutes(60), Arg: 0.95, Source: `quantile(b, 0.5 + 0.45, "1h")`},
		{Func: "flat", Window: minutes(30), Arg: 0.05, Source: `flat(a, "30m", -(-0.05))`, Offset: 38},
		{Func: "fraction", Input: -1, Window: minutes(1), Source: `fraction(avg(a, "5m") > b, "1m")`},
		{Func: "prev", Arg: 1, Source: "prev(a)", Offset: 43},
		{Func: "prev", Arg: 2, Source: "prev(a, 2)", Offset: 53},
		{Func: "rule", Input: -1, Text: "x", Source: `rule("x").firing`},
		{Func: "model", Input: -1, Text: "m", Source: `model("m", a, b * 2)`, Offset: 21},
		{Func: "hour", Input: -1, Source: "hour()", Offset: 50},
		{Func: "stale", Input: 1, Source: "stale(b)", Offset: 65},
	}
	if diff := cmp.Diff(want, scope.Calls(), cmpopts.IgnoreFields(expression.Call{}, "Condition", "Features")); diff != "" {
		t.Error(diff)
	}
	calls := scope.Calls()
	if got := calls[4].Condition.Inputs(); !cmp.Equal(got, []int{0, 1}) {
		t.Errorf("fraction looks at %v", got)
	}
	if got := calls[8].Features[1].Eval([]float64{1, 4}); got != 8 {
		t.Errorf("second feature is %v", got)
	}
}

func TestCallValues(t *testing.T) {
	nan := math.NaN()
	tests := []struct {
		source string
		slot   float64
		want   expression.Truth
	}{
		{`a - avg(a, "5m") > 2`, 0, expression.True},
		{`a - avg(a, "5m") > 2`, 2, expression.False},
		{`a - avg(a, "5m") > 2`, nan, expression.Unknown},
		{`flat(a, "5m", 1)`, 1, expression.True},
		{`flat(a, "5m", 1)`, 0, expression.False},
		{`not flat(a, "5m", 1)`, 0, expression.True},
		{`not flat(a, "5m", 1)`, nan, expression.Unknown},
		{`known(avg(a, "5m"))`, nan, expression.False},
		{`hour() in [3, 4]`, 4, expression.True},
		{`rule("x").firing ? a > 1 : a > 5`, 1, expression.True},
		{`rule("x").firing ? a > 1 : a > 5`, 0, expression.False},
	}
	for _, tt := range tests {
		p, err := expression.Compile(tt.source, []string{"a"})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Eval([]float64{3, tt.slot}); got != tt.want {
			t.Errorf("%s with %v: %v, want %v", tt.source, tt.slot, got, tt.want)
		}
	}
}

func TestExplain(t *testing.T) {
	p, err := expression.Compile(`temp > 80 and temp - avg(temp, "5m") > 2 * 1`, []string{"temp"})
	if err != nil {
		t.Fatal(err)
	}
	want := []expression.Part{
		{Source: `temp > 80 and temp - avg(temp, "5m") > 2 * 1`, Value: "unknown"},
		{Source: "temp > 80", Value: "true", Depth: 1},
		{Source: "temp", Value: "81.5", Depth: 2},
		{Source: `temp - avg(temp, "5m") > 2 * 1`, Value: "unknown", Depth: 1},
		{Source: `temp - avg(temp, "5m")`, Value: "unknown", Depth: 2},
		{Source: "temp", Value: "81.5", Depth: 3},
		{Source: `avg(temp, "5m")`, Value: "unknown", Depth: 3},
		{Source: "temp", Value: "81.5", Depth: 4},
		{Source: "2 * 1", Value: "2", Depth: 2},
	}
	if diff := cmp.Diff(want, p.Explain([]float64{81.5, math.NaN()})); diff != "" {
		t.Error(diff)
	}
}
