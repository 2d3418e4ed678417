package wire

import (
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// The short way of writing a number gives what the long one does.
func TestAppendFloatIsShortest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.OneOf(
			rapid.Float64(),
			rapid.Map(rapid.Uint64(), math.Float64frombits),
			rapid.Custom(func(t *rapid.T) float64 { // decimals, and what is next to them
				n := rapid.Int64Range(-1e17, 1e17).Draw(t, "digits")
				n /= int64(math.Pow10(rapid.IntRange(0, 17).Draw(t, "fewer")))
				v := float64(n) / math.Pow10(rapid.IntRange(0, 9).Draw(t, "places"))
				return []float64{v, math.Nextafter(v, math.Inf(1)), math.Nextafter(v, math.Inf(-1))}[rapid.IntRange(0, 2).Draw(t, "neighbour")]
			}),
		).Draw(t, "v")
		if !finite(v) {
			return
		}
		if got, want := string(appendFloat(nil, v)), shortest(v); got != want {
			t.Fatalf("%x is written as %s, want %s", math.Float64bits(v), got, want)
		}
	})
}

func TestAppendFloat(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", -1: "-1", 21.5: "21.5", 0.1: "0.1", -0.000001: "-0.000001", 0.000002: "0.000002", 1e-7: "1e-07",
		123456789.123456: "123456789.123456", 999999999.999999: "999999999.999999", 1e9: "1000000000", 1e21: "1e+21", 0.0625: "0.0625",
		100: "100", 1.000001: "1.000001", 0.30000000000000004: "0.30000000000000004", 0.0000005: "5e-07",
	} {
		if got := string(appendFloat([]byte("x"), v)); got != "x"+want {
			t.Errorf("%v is written as %s, want x%s", v, got, want)
		}
	}
	if got := string(appendFloat(nil, math.Copysign(0, -1))); got != "-0" {
		t.Errorf("minus zero is written as %s", got)
	}
}

func shortest(v float64) string {
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		return strconv.FormatFloat(v, 'e', -1, 64)
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

func TestNanos(t *testing.T) {
	var x nanos
	check := func(ns int64) string {
		if got, want := string(x.append([]byte("x"), ns)), "x"+strconv.FormatInt(ns, 10); got != want {
			return got + ", want " + want
		}
		return ""
	}
	for _, ns := range []int64{0, -1, 1, 999_999_999, 1e9, 1e9 + 1, 1_000_999_999, noon, noon + 1e6, noon / 1e6 * 1e6, math.MaxInt64, math.MinInt64} {
		if wrong := check(ns); wrong != "" {
			t.Error(wrong)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.OneOf(rapid.Int64(), rapid.Int64Range(noon-5e9, noon+5e9), rapid.Map(rapid.Int64Range(0, 4e12), func(ms int64) int64 { return 1e6 * ms })).Draw(t, "ns")
		if wrong := check(ns); wrong != "" {
			t.Fatal(wrong)
		}
	})
}
