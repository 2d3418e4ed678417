package model_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/edgeagent/edgeagent/rules/model"
)

// full returns LightGBM's text of full trees of a depth, with random splits.
func full(trees, depth, features int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var s strings.Builder
	names := make([]string, features)
	for i := range names {
		names[i] = fmt.Sprintf("f%d", i)
	}
	fmt.Fprintf(&s, "tree\nversion=v4\nnum_tree_per_iteration=1\nmax_feature_idx=%d\nobjective=binary sigmoid:1\nfeature_names=%s\n\n", features-1, strings.Join(names, " "))
	splits := 1<<depth - 1
	list := func(key string, n int, f func(i int) any) {
		s.WriteString(key + "=")
		for i := range n {
			fmt.Fprintf(&s, "%v ", f(i))
		}
		s.WriteString("\n")
	}
	child := func(i int) any {
		if i < splits {
			return i
		}
		return -1 - (i - splits)
	}
	for t := range trees {
		fmt.Fprintf(&s, "Tree=%d\nnum_leaves=%d\nnum_cat=0\n", t, splits+1)
		list("split_feature", splits, func(int) any { return r.IntN(features) })
		list("threshold", splits, func(int) any { return r.Float64() })
		list("decision_type", splits, func(int) any { return 10 })
		list("left_child", splits, func(i int) any { return child(2*i + 1) })
		list("right_child", splits, func(i int) any { return child(2*i + 2) })
		list("leaf_value", splits+1, func(int) any { return r.Float64() - 0.5 })
		s.WriteString("shrinkage=1\n\n\n")
	}
	s.WriteString("end of trees\n")
	return []byte(s.String())
}

func BenchmarkForest(b *testing.B) {
	for _, c := range []struct{ trees, depth int }{{10, 4}, {100, 6}, {500, 8}} {
		b.Run(fmt.Sprintf("%dx%d", c.trees, c.depth), func(b *testing.B) {
			benchmark(b, full(c.trees, c.depth, 10))
		})
	}
}

func BenchmarkTrained(b *testing.B) {
	for _, path := range []string{"testdata/xgboost/binary.json", "testdata/lightgbm/hist-binary.txt", "testdata/safetensors/binary.safetensors"} {
		b.Run(path[len("testdata/"):], func(b *testing.B) {
			m, err := model.Open(path, model.Options{})
			if err != nil {
				b.Fatal(err)
			}
			run(b, m)
		})
	}
}

func benchmark(b *testing.B, data []byte) {
	m, err := model.Read(data, model.Options{})
	if err != nil {
		b.Fatal(err)
	}
	run(b, m)
}

func run(b *testing.B, m *model.Model) {
	r := rand.New(rand.NewPCG(3, 4))
	rows := make([][]float64, 512)
	for i := range rows {
		rows[i] = make([]float64, m.Features())
		for k := range rows[i] {
			rows[i][k] = r.Float64()
		}
	}
	score, sum, i := m.Scorer(), 0.0, 0
	b.ReportAllocs()
	for b.Loop() {
		sum += score(rows[i&511])
		i++
	}
	b.ReportMetric(float64(m.Bytes())/1024, "KiB")
	b.ReportMetric(float64(m.Steps()), "steps")
	if sum == 0 {
		b.Fatal("nothing was scored")
	}
}

func BenchmarkLoad(b *testing.B) {
	data := full(500, 8, 10)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := model.Read(data, model.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
