package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/edgeagent/edgeagent"
)

// The fields of XGBoost's JSON that decide a score; the rest is statistics. The
// format is described in XGBoost's "Introduction to Model IO" and its JSON schema,
// doc/model.schema.
type xgbFile struct {
	Learner xgbLearner      `json:"learner"`
	Trees   json.RawMessage `json:"tree_info"` // of LightGBM's dump_model
}

type xgbLearner struct {
	FeatureNames []string   `json:"feature_names"`
	Booster      xgbBooster `json:"gradient_booster"`
	Param        struct {
		BaseScore  string `json:"base_score"`
		NumClass   string `json:"num_class"`
		NumFeature string `json:"num_feature"`
		NumTarget  string `json:"num_target"`
	} `json:"learner_model_param"`
	Objective struct {
		Name string `json:"name"`
	} `json:"objective"`
}

type xgbBooster struct {
	Name  string    `json:"name"`
	Model *xgbModel `json:"model"`
	// DART keeps trees one level down and weighs each of them.
	GBTree     *xgbBooster `json:"gbtree"`
	WeightDrop []number    `json:"weight_drop"`
}

type xgbModel struct {
	TreeInfo []int     `json:"tree_info"` // the output that a tree adds to
	Trees    []xgbTree `json:"trees"`
}

type xgbTree struct {
	Left        []int32  `json:"left_children"` // -1 of a leaf
	Right       []int32  `json:"right_children"`
	Index       []int32  `json:"split_indices"`
	Condition   []number `json:"split_conditions"` // of a leaf: what it adds
	DefaultLeft []bit    `json:"default_left"`
	SplitType   []bit    `json:"split_type"` // categorical
	Categories  []int32  `json:"categories"`
	CatNodes    []int32  `json:"categories_nodes"`
	CatSegments []int32  `json:"categories_segments"`
	CatSizes    []int32  `json:"categories_sizes"`
	Param       struct {
		SizeLeafVector string `json:"size_leaf_vector"`
	} `json:"tree_param"`
}

// bit is written as 0 and 1, or by XGBoost before 1.6 as false and true.
type bit bool

// UnmarshalJSON reads 0, 1, false or true.
func (f *bit) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "0", "false":
		*f = false
	case "1", "true":
		*f = true
	default:
		return fmt.Errorf("want 0 or 1, got %.20s", b)
	}
	return nil
}

// number is a float32, which XGBoost may write as NaN: a categorical split has no
// threshold.
type number float32

// UnmarshalJSON reads a number, and null as NaN.
func (n *number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = number(math.NaN())
		return nil
	}
	v, err := strconv.ParseFloat(string(b), 32)
	if err != nil {
		return fmt.Errorf("bad number %.40q", b)
	}
	*n = number(v)
	return nil
}

// strict returns XGBoost's JSON as JSON: outside of strings it writes NaN, Infinity
// and -Infinity, for which JSON has no words, and which become null.
func strict(data []byte) []byte {
	out := make([]byte, 0, len(data)+len(data)/16)
	quoted := false
	for i := 0; i < len(data); i++ {
		c := data[i]
		switch {
		case quoted && c == '\\' && i+1 < len(data):
			out = append(out, c)
			i++
			c = data[i]
		case c == '"':
			quoted = !quoted
		case !quoted && (c == 'N' || c == 'I' || c == '-'):
			if n := notFinite(data[i:]); n > 0 {
				out = append(out, "null"...)
				i += n - 1
				continue
			}
		}
		out = append(out, c)
	}
	return out
}

// notFinite returns the length of the word for something infinite or not a number
// that data begins with, or 0.
func notFinite(data []byte) int {
	for _, word := range [...]string{"NaN", "Infinity", "-Infinity", "-NaN"} {
		if len(data) >= len(word) && string(data[:len(word)]) == word {
			return len(word)
		}
	}
	return 0
}

// xgbObjective returns how the base score becomes the beginning of the sum, and how the
// sum becomes the score (src/objective of XGBoost).
func xgbObjective(name string) (base func(float64) (float64, error), l link, class bool, err error) {
	same := func(p float64) (float64, error) { return p, nil }
	logit := func(p float64) (float64, error) {
		if !(p > 0 && p < 1) {
			return 0, fmt.Errorf("base_score %v of %s: want between 0 and 1", p, name)
		}
		return -math.Log(1/p - 1), nil
	}
	log := func(p float64) (float64, error) {
		if !(p > 0) {
			return 0, fmt.Errorf("base_score %v of %s: want above 0", p, name)
		}
		return math.Log(p), nil
	}
	switch name {
	case "reg:squarederror", "reg:linear", "reg:squaredlogerror", "reg:absoluteerror", "reg:pseudohubererror", "reg:quantileerror",
		"binary:logitraw", "rank:pairwise", "rank:ndcg", "rank:map":
		return same, link{}, false, nil
	case "reg:logistic", "binary:logistic":
		return logit, link{linkSigmoid, 1}, false, nil
	case "binary:hinge":
		return same, link{kind: linkStep}, false, nil
	case "count:poisson", "reg:gamma", "reg:tweedie", "survival:cox":
		return log, link{kind: linkExp}, false, nil
	case "multi:softprob", "multi:softmax":
		return same, link{kind: linkSoftmax}, name == "multi:softmax", nil
	}
	return nil, link{}, false, fmt.Errorf("objective %.40q is not one that can be evaluated here", name)
}

func readXGBoost(data []byte, maxBytes int) (parsed, error) {
	var file xgbFile
	if err := json.Unmarshal(strict(data), &file); err != nil {
		return parsed{}, fmt.Errorf("parse XGBoost JSON: %w", err)
	}
	l := &file.Learner
	if file.Trees != nil && l.Objective.Name == "" {
		return parsed{}, edgeagent.WithHint(errors.New("this is the JSON of LightGBM's dump_model, which leaves out what a score needs"),
			"write LightGBM's text: booster.save_model('model.txt')")
	}
	booster, weights, err := l.Booster.trees()
	if err != nil {
		return parsed{}, err
	}
	toMargin, lk, class, err := xgbObjective(l.Objective.Name)
	if err != nil {
		return parsed{}, err
	}
	width, err := count("num_feature", l.Param.NumFeature, 1, MaxFeatures)
	if err != nil {
		return parsed{}, err
	}
	outputs, err := l.outputs()
	if err != nil {
		return parsed{}, err
	}
	base, err := baseScores(l.Param.BaseScore, outputs, toMargin)
	if err != nil {
		return parsed{}, err
	}
	b := &builder{forest: forest{base: base, single: true, divide: 1, link: lk}, width: width, maxBytes: maxBytes}
	for i := range booster.Trees {
		weight := float32(1)
		if weights != nil {
			weight = float32(weights[i])
		}
		if err := b.xgbTree(&booster.Trees[i], booster.TreeInfo[i], weight); err != nil {
			return parsed{}, fmt.Errorf("tree %d: %w", i, err)
		}
	}
	if names := l.FeatureNames; len(names) != 0 && len(names) != width {
		return parsed{}, fmt.Errorf("%d feature_names for %d features", len(names), width)
	}
	return parsed{"xgboost", width, named(l.FeatureNames), outputs, class, b.finish()}, nil
}

func named(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	return names
}

// trees finds the trees of either kind of booster, and their weights.
func (x *xgbBooster) trees() (*xgbModel, []number, error) {
	m, weights := x.Model, []number(nil)
	switch x.Name {
	case "gbtree":
	case "dart":
		m = nil
		if x.GBTree != nil {
			m, weights = x.GBTree.Model, x.WeightDrop
		}
		if m != nil && len(weights) != len(m.Trees) {
			return nil, nil, fmt.Errorf("%d weights for %d trees", len(weights), len(m.Trees))
		}
	default:
		return nil, nil, fmt.Errorf("booster %.40q: only gbtree and dart can be evaluated here", x.Name)
	}
	if m == nil {
		return nil, nil, errors.New("the file has no learner.gradient_booster.model")
	}
	if len(m.TreeInfo) != len(m.Trees) {
		return nil, nil, fmt.Errorf("%d entries of tree_info for %d trees", len(m.TreeInfo), len(m.Trees))
	}
	return m, weights, nil
}

// outputs returns how many numbers a score has: classes or targets.
func (l *xgbLearner) outputs() (int, error) {
	classes, err := count("num_class", l.Param.NumClass, 0, MaxOutputs)
	if err != nil {
		return 0, err
	}
	targets := 1
	if l.Param.NumTarget != "" {
		if targets, err = count("num_target", l.Param.NumTarget, 0, MaxOutputs); err != nil {
			return 0, err
		}
	}
	return max(classes, targets, 1), nil
}

func count(key, text string, least, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%s %.20q: want %d to %d", key, text, least, most)
	}
	return n, nil
}

// baseScores reads "5E-1", or, as XGBoost 3 writes it, "[5E-1,…]" with one for all
// or one for each output, and returns what the sums begin with.
func baseScores(text string, outputs int, toMargin func(float64) (float64, error)) ([]float64, error) {
	inner, _ := strings.CutPrefix(text, "[")
	inner, _ = strings.CutSuffix(inner, "]")
	parts := strings.Split(inner, ",")
	if len(parts) != 1 && len(parts) != outputs {
		return nil, fmt.Errorf("%d base scores for %d outputs", len(parts), outputs)
	}
	base := make([]float64, outputs)
	for i := range base {
		v, err := strconv.ParseFloat(strings.TrimSpace(parts[min(i, len(parts)-1)]), 32)
		if err != nil {
			return nil, fmt.Errorf("bad base_score %.40q", text)
		}
		if v, err = toMargin(v); err != nil {
			return nil, err
		}
		base[i] = float64(float32(v))
	}
	return base, nil
}

// xgbTree adds a tree whose leaves are multiplied by weight.
func (b *builder) xgbTree(t *xgbTree, output int, weight float32) error {
	n := len(t.Left)
	if size := t.Param.SizeLeafVector; size != "" && size != "0" && size != "1" {
		return errors.New("its leaves hold vectors (multi_strategy multi_output_tree), which cannot be evaluated here")
	}
	categorical := len(t.SplitType) > 0
	if n == 0 || len(t.Right) != n || len(t.Index) != n || len(t.Condition) != n || len(t.DefaultLeft) != n || categorical && len(t.SplitType) != n {
		return errors.New("its lists are empty or of different lengths")
	}
	sets, err := b.xgbCategories(t)
	if err != nil {
		return err
	}
	return b.tree(output, 0, n, func(id int) (split, error) {
		if id < 0 || id >= n {
			return split{}, errTreeLoops
		}
		if t.Left[id] == -1 {
			return split{node: node{value: float64(weight * float32(t.Condition[id])), flags: isLeaf}}, nil
		}
		index := t.Index[id]
		if index < 0 || index >= MaxFeatures {
			return split{}, fmt.Errorf("bad split_indices %d", index)
		}
		s := split{node: node{value: below(float32(t.Condition[id])), feature: uint16(index)}, left: int(t.Left[id]), right: int(t.Right[id])}
		missing := bool(t.DefaultLeft[id])
		if categorical && bool(t.SplitType[id]) {
			// The categories of the list go right, everything else left.
			set, ok := sets[int32(id)]
			if !ok {
				return split{}, errors.New("a categorical split has no categories")
			}
			s.value, s.flags = set, isCategorical|roundFirst
			s.left, s.right, missing = s.right, s.left, !missing
		} else if math.IsNaN(float64(t.Condition[id])) {
			return split{}, errors.New("a split has no threshold")
		}
		if missing {
			s.flags |= missingLeft
		}
		return s, nil
	})
}

// maxCategory bounds XGBoost's categories here: a set takes a bit for each up to its
// largest.
const maxCategory = 1 << 16

// xgbCategories stores the sets of categories of a tree, by node.
func (b *builder) xgbCategories(t *xgbTree) (map[int32]float64, error) {
	if len(t.CatNodes) == 0 {
		return nil, nil
	}
	if len(t.CatSegments) != len(t.CatNodes) || len(t.CatSizes) != len(t.CatNodes) {
		return nil, errors.New("its lists of categories are of different lengths")
	}
	sets := make(map[int32]float64, len(t.CatNodes))
	for i, id := range t.CatNodes {
		from, size := int(t.CatSegments[i]), int(t.CatSizes[i])
		if from < 0 || size < 0 || from > len(t.Categories) || size > len(t.Categories)-from {
			return nil, errors.New("its categories lie outside their list")
		}
		var words []uint32
		for _, c := range t.Categories[from : from+size] {
			if c < 0 || c >= maxCategory {
				return nil, fmt.Errorf("category %d: want 0 to %d", c, maxCategory-1)
			}
			for int(c/32) >= len(words) {
				words = append(words, 0)
			}
			words[c/32] |= 1 << (c % 32)
		}
		sets[id] = b.categories(words)
		if err := b.room(); err != nil {
			return nil, err
		}
	}
	return sets, nil
}
