package model

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// FuzzRead: whatever is read is refused, or fits its bounds and evaluates for any
// features, in no more steps than it said.
func FuzzRead(f *testing.F) {
	for _, pattern := range []string{"xgboost/*.json", "lightgbm/*.txt", "safetensors/*.safetensors"} {
		paths, err := filepath.Glob(filepath.Join("testdata", pattern))
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			if data, err := os.ReadFile(path); err == nil && len(data) < 12<<10 {
				f.Add(data, 1.5, "0")
			}
		}
	}
	f.Add([]byte(stump("2", "binary sigmoid:1")), 0.0, "")
	f.Add(safetensor(f, map[string]string{"activations": "elu softmax"}, "0.weight", []int{1, 1}, []float32{1}, "1.weight", []int{2, 1}, []float32{1, 2}), math.NaN(), "class")
	f.Fuzz(func(t *testing.T, data []byte, x float64, output string) {
		const limit = 64 << 10
		before := bytes.Clone(data)
		m, err := Read(data, Options{Output: output, MaxBytes: limit})
		if !bytes.Equal(before, data) {
			t.Fatal("the data was changed")
		}
		if err != nil {
			return
		}
		if m.Features() < 1 || m.Features() > MaxFeatures || m.Outputs() < 1 || m.Outputs() > MaxOutputs || m.Bytes() > limit {
			t.Fatalf("%d features, %d outputs, %d bytes", m.Features(), m.Outputs(), m.Bytes())
		}
		row := make([]float64, m.Features())
		score, other := m.Scorer(), m.Scorer()
		for _, v := range []float64{x, -x, 0, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, 1e-300} {
			for i := range row {
				row[i] = v
				if i%2 == 1 {
					row[i] = x
				}
			}
			a, b := score(row), other(row)
			if math.Float64bits(a) != math.Float64bits(b) && !(math.IsNaN(a) && math.IsNaN(b)) {
				t.Fatalf("two scorers give %v and %v", a, b)
			}
		}
		if f, ok := m.eval.(*forest); ok {
			checkForest(t, f, m.width)
		}
	})
}

// checkForest walks every node: children come after their parents and lie inside.
func checkForest(t *testing.T, f *forest, width int) {
	t.Helper()
	for i, n := range f.nodes {
		if n.flags&isLeaf != 0 {
			continue
		}
		if int(n.right) <= i+1 || int(n.right) >= len(f.nodes) || int(n.feature) >= width {
			t.Fatalf("node %d of %d: %+v", i, len(f.nodes), n)
		}
	}
}
