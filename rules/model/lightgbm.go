package model

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/edgeagent/edgeagent"
)

// readLightGBM reads the text of LightGBM's save_model, versions v2 to v4: lines
// "key=value", first of the model, then of each tree, which begins with "Tree=n".
// What the keys mean is told by GBDT::SaveModelToString, Tree::ToString and
// Tree::NumericalDecision in its sources.
func readLightGBM(data []byte, maxBytes int) (parsed, error) {
	lines := &lineReader{rest: data}
	head, err := lines.section()
	if err != nil {
		return parsed{}, err
	}
	b, p, err := lgbHead(head)
	if err != nil {
		return parsed{}, err
	}
	b.maxBytes = maxBytes
	perIteration := len(b.base)
	for i := 0; lines.more(); i++ {
		keys, err := lines.section()
		if err == nil {
			err = b.lgbTree(keys, i%perIteration)
		}
		if err != nil {
			return parsed{}, fmt.Errorf("tree %d: %w", i, err)
		}
	}
	if !lines.ended {
		return parsed{}, errors.New(`the file is cut short: no line "end of trees"`)
	}
	if len(b.trees) == 0 || len(b.trees)%perIteration != 0 {
		return parsed{}, fmt.Errorf("%d trees for %d in an iteration", len(b.trees), perIteration)
	}
	if _, ok := head["average_output"]; ok {
		b.divide = float64(len(b.trees) / perIteration)
	}
	p.eval = b.finish()
	return p, nil
}

// lineReader cuts the file into sections, each begun by a line "Tree=n".
type lineReader struct {
	rest  []byte
	ended bool // "end of trees" has been seen
}

const treeStart = "Tree="

func (r *lineReader) more() bool { return !r.ended && len(r.rest) > 0 }

// section returns the keys up to the next tree or the end of trees.
func (r *lineReader) section() (map[string][]byte, error) {
	keys := map[string][]byte{}
	for len(r.rest) > 0 {
		var line []byte
		line, r.rest, _ = bytes.Cut(r.rest, []byte("\n"))
		line = bytes.TrimRight(line, " \t\r")
		switch {
		case len(line) == 0:
			continue
		case bytes.HasPrefix(line, []byte(treeStart)):
			return keys, nil
		case string(line) == "end of trees":
			r.ended = true
			return keys, nil
		}
		key, value, _ := bytes.Cut(line, []byte("="))
		if _, ok := keys[string(key)]; ok {
			return nil, fmt.Errorf("key %.40q stands there twice", key)
		}
		keys[string(key)] = value
	}
	return keys, nil
}

func lgbHead(head map[string][]byte) (*builder, parsed, error) {
	version := string(head["version"])
	if version != "v2" && version != "v3" && version != "v4" {
		return nil, parsed{}, fmt.Errorf("version %.20q of LightGBM's text: want v2, v3 or v4", version)
	}
	top, err := count("max_feature_idx", string(head["max_feature_idx"]), 0, MaxFeatures-1)
	if err != nil {
		return nil, parsed{}, err
	}
	outputs, err := count("num_tree_per_iteration", string(head["num_tree_per_iteration"]), 1, MaxOutputs)
	if err != nil {
		return nil, parsed{}, err
	}
	l, err := lgbObjective(strings.Fields(string(head["objective"])))
	if err != nil {
		return nil, parsed{}, err
	}
	if _, averaged := head["average_output"]; averaged && version == "v2" && l.kind != linkNone {
		// LightGBM 2 kept probabilities in the leaves at first, and margins later,
		// under the same version of the text.
		return nil, parsed{}, edgeagent.WithHint(errors.New("a random forest of LightGBM 2 does not say what its leaves hold"),
			"train and save it with LightGBM 3 or later")
	}
	width := top + 1
	names := strings.Fields(string(head["feature_names"]))
	if len(names) != 0 && len(names) != width {
		return nil, parsed{}, fmt.Errorf("%d feature_names for %d features", len(names), width)
	}
	b := &builder{forest: forest{base: make([]float64, outputs), divide: 1, link: l}, width: width}
	return b, parsed{format: "lightgbm", width: width, features: named(names), outputs: outputs}, nil
}

// lgbObjective returns how the sum becomes the score (ConvertOutput of
// src/objective of LightGBM); words are those of the line objective.
func lgbObjective(words []string) (link, error) {
	if len(words) == 0 {
		return link{}, nil // custom
	}
	slope := 1.0
	for _, w := range words[1:] {
		if v, ok := strings.CutPrefix(w, "sigmoid:"); ok {
			var err error
			if slope, err = strconv.ParseFloat(v, 64); err != nil || !(slope > 0) || math.IsInf(slope, 0) {
				return link{}, fmt.Errorf("objective: bad %.40q", w)
			}
		}
	}
	switch words[0] {
	case "regression":
		if len(words) > 1 && words[1] == "sqrt" {
			return link{kind: linkSquare}, nil
		}
		return link{}, nil
	case "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom", "none":
		return link{}, nil
	case "poisson", "gamma", "tweedie":
		return link{kind: linkExp}, nil
	case "binary", "multiclassova":
		return link{linkSigmoid, slope}, nil
	case "multiclass":
		return link{kind: linkSoftmax}, nil
	case "cross_entropy", "xentropy":
		return link{linkSigmoid, 1}, nil
	case "cross_entropy_lambda", "xentlambda":
		return link{kind: linkSoftplus}, nil
	}
	return link{}, fmt.Errorf("objective %.40q is not one that can be evaluated here", words[0])
}

// lgbLists are the lists of a tree: those of splits have one entry less than those of
// leaves. A negative child is a leaf: ~number.
type lgbLists struct {
	left, right, feature, decision []int
	threshold, leaf                []float64
	boundaries                     []int
	bits                           []uint32
}

// Bits of decision_type; the two above are the missing type.
const (
	lgbCategorical = 1
	lgbDefaultLeft = 2
	lgbNone        = 0
	lgbZero        = 1
	lgbNaN         = 2
)

func (b *builder) lgbTree(keys map[string][]byte, output int) error {
	if v := string(keys["is_linear"]); v != "" && v != "0" {
		return errors.New("it is linear (linear_tree), which cannot be evaluated here")
	}
	leaves, err := count("num_leaves", string(keys["num_leaves"]), 1, 1<<24)
	if err != nil {
		return err
	}
	t, err := lgbRead(keys, leaves)
	if err != nil {
		return err
	}
	sets, err := b.lgbCategories(t)
	if err != nil {
		return err
	}
	root := 0
	if leaves == 1 {
		root = -1
	}
	return b.tree(output, root, 2*leaves-1, func(id int) (split, error) {
		if id < 0 {
			if ^id >= leaves {
				return split{}, errTreeLoops
			}
			return split{node: node{value: t.leaf[^id], flags: isLeaf}}, nil
		}
		if id >= leaves-1 {
			return split{}, errTreeLoops
		}
		return t.split(id, sets)
	})
}

// split returns the id-th split.
func (t *lgbLists) split(id int, sets []float64) (split, error) {
	feature := t.feature[id]
	if feature < 0 || feature >= MaxFeatures {
		return split{}, fmt.Errorf("bad split_feature %d", feature)
	}
	s := split{node: node{value: t.threshold[id], feature: uint16(feature)}, left: t.left[id], right: t.right[id]}
	d := t.decision[id]
	if d < 0 || d > lgbCategorical|lgbDefaultLeft|lgbNaN<<2 {
		return split{}, fmt.Errorf("bad decision_type %d", d)
	}
	if d&lgbCategorical != 0 {
		// What is missing or was never seen goes right.
		if !(s.value >= 0 && s.value < float64(len(sets))) {
			return split{}, fmt.Errorf("set of categories %v of %d", s.value, len(sets))
		}
		s.value, s.flags = sets[int(s.value)], isCategorical
		return s, nil
	}
	if math.IsNaN(s.value) {
		return split{}, errors.New("a threshold is not a number")
	}
	missing := d&lgbDefaultLeft != 0
	switch d >> 2 {
	case lgbNone:
		missing = 0 <= s.value // NaN is taken as 0
	case lgbZero:
		s.flags |= zeroIsMissing
	}
	if missing {
		s.flags |= missingLeft
	}
	return s, nil
}

func lgbRead(keys map[string][]byte, leaves int) (*lgbLists, error) {
	t := &lgbLists{}
	var err error
	if t.leaf, err = list(keys, "leaf_value", leaves, parseFloat); err != nil || leaves == 1 {
		return t, err
	}
	splits := leaves - 1
	for _, l := range []struct {
		key string
		to  *[]int
	}{{"left_child", &t.left}, {"right_child", &t.right}, {"split_feature", &t.feature}, {"decision_type", &t.decision}} {
		if *l.to, err = list(keys, l.key, splits, parseInt); err != nil {
			return nil, err
		}
	}
	if t.threshold, err = list(keys, "threshold", splits, parseFloat); err != nil {
		return nil, err
	}
	if n := string(keys["num_cat"]); n == "" || n == "0" {
		return t, nil
	}
	sets, err := count("num_cat", string(keys["num_cat"]), 1, splits)
	if err != nil {
		return nil, err
	}
	if t.boundaries, err = list(keys, "cat_boundaries", sets+1, parseInt); err != nil {
		return nil, err
	}
	words := t.boundaries[sets]
	if words < 0 {
		return nil, fmt.Errorf("bad cat_boundaries %d", words)
	}
	t.bits, err = list(keys, "cat_threshold", words, parseBits)
	return t, err
}

// lgbCategories stores the sets of categories of a tree.
func (b *builder) lgbCategories(t *lgbLists) ([]float64, error) {
	if len(t.boundaries) == 0 {
		return nil, nil
	}
	sets := make([]float64, len(t.boundaries)-1)
	for i := range sets {
		from, to := t.boundaries[i], t.boundaries[i+1]
		if from < 0 || to < from || to > len(t.bits) {
			return nil, errors.New("cat_boundaries do not rise")
		}
		sets[i] = b.categories(t.bits[from:to])
		if err := b.room(); err != nil {
			return nil, err
		}
	}
	return sets, nil
}

func parseInt(s string) (int, error)       { return strconv.Atoi(s) }
func parseFloat(s string) (float64, error) { return strconv.ParseFloat(s, 64) }
func parseBits(s string) (uint32, error) {
	v, err := strconv.ParseUint(s, 10, 32)
	return uint32(v), err
}

// list reads the n numbers of a key.
func list[T any](keys map[string][]byte, key string, n int, parse func(string) (T, error)) ([]T, error) {
	text := keys[key]
	if 2*n-1 > len(text) { // before memory is asked for
		return nil, fmt.Errorf("%s is missing or has fewer than %d numbers", key, n)
	}
	out := make([]T, 0, n)
	for field := range bytes.FieldsSeq(text) {
		v, err := parse(string(field))
		if err != nil {
			return nil, fmt.Errorf("%s: bad number %.40q", key, field)
		}
		if len(out) == n {
			return nil, fmt.Errorf("%s has more than %d numbers", key, n)
		}
		out = append(out, v)
	}
	if len(out) != n {
		return nil, fmt.Errorf("%s has %d numbers, want %d", key, len(out), n)
	}
	return out, nil
}
