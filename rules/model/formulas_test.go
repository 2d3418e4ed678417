package model

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"testing"
)

// stump is LightGBM's text of one tree with one split of one feature: below 5 it
// adds 1, above 2.
func stump(decision, objective string) string {
	return "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=0\nobjective=" + objective +
		"\nfeature_names=x\n\nTree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature=0\nthreshold=5\ndecision_type=" + decision +
		"\nleft_child=-1\nright_child=-2\nleaf_value=1 2\nis_linear=0\nshrinkage=1\n\n\nend of trees\n"
}

func scoreOf(t *testing.T, data string, x ...float64) float64 {
	t.Helper()
	m, err := Read([]byte(data), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m.Scorer()(x)
}

// Bits 2 and 3 of decision_type are the missing type, bit 1 the default way.
func TestLightGBMMissingTypes(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name, decision string
		x, want        float64
	}{
		{"plain, left", "2", 5, 1},
		{"plain, right", "2", math.Nextafter(5, 6), 2},
		{"none: missing is 0, which is left", "0", nan, 1},
		{"none: so it is with a default to the left", "2", nan, 1},
		{"zero, default left", "6", 0, 1},
		{"zero, default right", "4", 0, 2},
		{"zero: almost 0 is 0", "4", 9e-36, 2},
		{"zero: small is not", "4", 2e-35, 1},
		{"zero: not a number is 0", "4", nan, 2},
		{"zero: others are compared", "4", 3, 1},
		{"nan, default left", "10", nan, 1},
		{"nan, default right", "8", nan, 2},
		{"nan: 0 is a number", "8", 0, 1},
		{"infinite", "8", math.Inf(1), 2},
		{"minus infinite", "8", math.Inf(-1), 1},
	} {
		if got := scoreOf(t, stump(c.decision, "regression"), c.x); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestLightGBMCategories(t *testing.T) {
	const text = "tree\nversion=v3\nnum_tree_per_iteration=1\nmax_feature_idx=0\nTree=0\nnum_leaves=3\nnum_cat=2\nsplit_feature=0 0\n" +
		"threshold=0 1\ndecision_type=1 9\nleft_child=-1 -2\nright_child=1 -3\nleaf_value=1 2 3\ncat_boundaries=0 2 3\ncat_threshold=1 2 8\nend of trees\n"
	for x, want := range map[float64]float64{0: 1, 33: 1, 33.9: 1, -0.5: 1, 3: 2, 1: 3, 32: 3, 64: 3, -1: 3, 1e10: 3, 1e300: 3} {
		if got := scoreOf(t, text, x); got != want {
			t.Errorf("category %v: %v, want %v", x, got, want)
		}
	}
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if got := scoreOf(t, text, x); got != 3 {
			t.Errorf("category %v: %v, want 3", x, got)
		}
	}
}

func TestLightGBMObjectives(t *testing.T) {
	s := func(v float64) float64 { return 1 / (1 + math.Exp(-v)) }
	for objective, want := range map[string]float64{
		"regression": 2, "regression sqrt": 4, "regression_l1": 2, "huber": 2, "quantile alpha:0.9": 2, "lambdarank": 2, "": 2,
		"poisson": math.Exp(2), "tweedie tweedie_variance_power:1.5": math.Exp(2), "gamma": math.Exp(2),
		"binary sigmoid:1": s(2), "binary sigmoid:0.5": s(1), "cross_entropy": s(2), "cross_entropy_lambda": math.Log(1 + math.Exp(2)),
		"multiclassova num_class:1 sigmoid:2": s(4), "multiclass num_class:1": 1,
	} {
		if got := scoreOf(t, stump("2", objective), 7); math.Abs(got-want) > 1e-15 {
			t.Errorf("%q: %v, want %v", objective, got, want)
		}
	}
	if got := scoreOf(t, stump("2", "regression sqrt"), 1); got != 1 {
		t.Errorf("sqrt of 1: %v", got)
	}
}

// safetensor is a file of float32 tensors, each [out, in] or [out].
func safetensor(t testing.TB, meta map[string]string, tensors ...any) []byte {
	t.Helper()
	head, data := map[string]any{"__metadata__": meta}, []byte{}
	for i := 0; i < len(tensors); i += 3 {
		from := len(data)
		for _, v := range tensors[i+2].([]float32) {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
		head[tensors[i].(string)] = map[string]any{"dtype": "F32", "shape": tensors[i+1], "data_offsets": []int{from, len(data)}}
	}
	text, err := json.Marshal(head)
	if err != nil {
		t.Fatal(err)
	}
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), data...)
}

func TestActivations(t *testing.T) {
	for name, f := range map[string]func(float64) float64{
		"linear":     func(v float64) float64 { return v },
		"relu":       func(v float64) float64 { return max(v, 0) },
		"leaky_relu": func(v float64) float64 { return max(v, 0) + 0.01*min(v, 0) },
		"elu":        func(v float64) float64 { return max(v, 0) + min(math.Exp(v)-1, 0) },
		"tanh":       math.Tanh,
		"sigmoid":    func(v float64) float64 { return 1 / (1 + math.Exp(-v)) },
		"softplus":   func(v float64) float64 { return math.Log(1 + math.Exp(v)) },
	} {
		data := safetensor(t, map[string]string{"activations": name}, "0.weight", []int{1, 2}, []float32{1, -2}, "0.bias", []int{1}, []float32{0.5})
		for _, x := range []float64{-3, -0.25, 0, 1, 4} {
			if got, want := scoreOf(t, string(data), x, 1), f(x-2+0.5); math.Abs(got-want) > 1e-6 {
				t.Errorf("%s(%v): %v, want %v", name, x-1.5, got, want)
			}
		}
	}
}

func TestLargeSumsDoNotOverflow(t *testing.T) {
	for _, name := range []string{"softplus", "sigmoid", "softmax"} {
		data := safetensor(t, map[string]string{"activations": name}, "0.weight", []int{1, 1}, []float32{1e6})
		if got := scoreOf(t, string(data), 1e6); math.IsNaN(got) || math.IsInf(got, 0) {
			t.Errorf("%s of 1e12: %v", name, got)
		}
	}
}

func TestOutputsAreScaledBack(t *testing.T) {
	data := safetensor(t, map[string]string{"activations": "linear"}, "fc.weight", []int{1, 1}, []float32{2},
		"input.mean", []int{1}, []float32{10}, "input.scale", []int{1}, []float32{4},
		"output.mean", []int{1}, []float32{100}, "output.scale", []int{1}, []float32{0.5})
	if got := scoreOf(t, string(data), 18); got != (18.0-10)/4*2*0.5+100 {
		t.Errorf("got %v", got)
	}
	// The autoencoder's error is then in the unit of the features.
	m, err := Read(data, Options{Output: "error"})
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Scorer()([]float64{18}); got != (102-18)*(102-18) {
		t.Errorf("error %v", got)
	}
}

func TestLayersFollowTheirNumbers(t *testing.T) {
	w := func(v float32) []float32 { return []float32{v} }
	one := []int{1, 1}
	tensors := []any{"net.10.weight", one, w(3), "net.2.weight", one, w(-1), "net.0.weight", one, w(2)}
	data := safetensor(t, map[string]string{"activations": "linear relu linear"}, tensors...)
	if got := scoreOf(t, string(data), -4); got != 24 {
		t.Errorf("by number: %v, want 24", got)
	}
	data = safetensor(t, map[string]string{"activations": "relu linear linear", "layers": "net.0 net.10 net.2"}, tensors...)
	if got := scoreOf(t, string(data), 4); got != -24 {
		t.Errorf("by metadata: %v, want -24", got)
	}
}

func TestHalf(t *testing.T) {
	for b, want := range map[uint16]float64{
		0x0000: 0, 0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 0x0400: math.Ldexp(1, -14), 0x0001: math.Ldexp(1, -24), 0x3555: 0.333251953125, 0x7c00: math.Inf(1),
	} {
		if got := half(b); got != want {
			t.Errorf("%#04x: %v, want %v", b, got, want)
		}
	}
	if !math.IsNaN(half(0x7e00)) {
		t.Error("0x7e00 is a number")
	}
}
