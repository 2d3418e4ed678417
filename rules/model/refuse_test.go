package model

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

var update = flag.Bool("update", false, "write the golden files anew")

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// replace replaces the first old, which has to be there.
func replace(t *testing.T, s, old, with string) string {
	t.Helper()
	if !strings.Contains(s, old) {
		t.Fatalf("no %q to replace", old)
	}
	return strings.Replace(s, old, with, 1)
}

// TestRefusals holds what is said of files that cannot be used against
// testdata/refusals.golden.
func TestRefusals(t *testing.T) {
	xgb, lgb := read(t, "xgboost/exact.json"), read(t, "lightgbm/hist-binary.txt")
	cats := read(t, "lightgbm/hist-categories.txt")
	dart, set := read(t, "xgboost/dart.json"), read(t, "xgboost/categories.json")
	w := []float32{1, 2, 3, 4}
	act := func(s string) map[string]string { return map[string]string{"activations": s} }
	sq := []int{2, 2}
	var out strings.Builder
	say := func(name, data string, o Options) {
		t.Helper()
		_, err := Read([]byte(data), o)
		if err == nil {
			t.Errorf("%s: accepted", name)
			return
		}
		fmt.Fprintf(&out, "%s\n  error: %v\n", name, err)
		if h, ok := errors.AsType[edgeagent.Hinter](err); ok {
			fmt.Fprintf(&out, "  hint: %s\n", h.Hint())
		}
	}
	// first is a key with the first number of its list.
	first := func(data, key string) string {
		from := strings.Index(data, `"`+key+`":[`)
		return data[from : from+strings.IndexAny(data[from:], ",]")]
	}
	change := func(name, data, old, with string) { t.Helper(); say(name, replace(t, data, old, with), Options{}) }

	say("empty", "", Options{})
	say("text", "hello", Options{})
	say("ubjson", "{L\x00\x00", Options{})
	say("json of nothing", "{}", Options{})
	say("json cut short", xgb[:len(xgb)/2], Options{})
	say("dump_model of LightGBM", `{"name":"tree","version":"v4","tree_info":[]}`, Options{})
	change("linear booster", xgb, `"name":"gbtree"`, `"name":"gblinear"`)
	change("objective", xgb, "binary:logistic", "survival:aft")
	change("base score", xgb, `"base_score":"5E-1"`, `"base_score":"1.5"`)
	change("base score, two", xgb, `"base_score":"5E-1"`, `"base_score":"[1,2]"`)
	change("features", xgb, `"num_class":"0","num_feature":"4"`, `"num_class":"0","num_feature":"2"`)
	change("many features", xgb, `"num_class":"0","num_feature":"4"`, `"num_class":"0","num_feature":"100000"`)
	change("tree info", xgb, `"tree_info":[0,`, `"tree_info":[`)
	change("tree of another output", xgb, `"tree_info":[0,`, `"tree_info":[3,`)
	change("loop", xgb, `"left_children":[1,`, `"left_children":[0,`)
	change("child outside", xgb, `"left_children":[1,`, `"left_children":[99,`)
	change("negative child", xgb, `"right_children":[2,`, `"right_children":[-2,`)
	change("lists", xgb, `"left_children":[1,`, `"left_children":[`)
	change("no threshold", xgb, first(xgb, "split_conditions"), `"split_conditions":[NaN`)
	change("list too long", xgb, `"split_conditions":[`, `"split_conditions":[1,`)
	change("vector leaves", xgb, `"size_leaf_vector":"0"}}`, `"size_leaf_vector":"3"}}`)
	change("weights", dart, `"weight_drop":[`, `"weight_drop":[1,`)
	change("category", set, `"categories":[`, `"categories":[70000,`)
	change("categories outside", set, `"categories_sizes":[`, `"categories_sizes":[1`)
	say("memory", xgb, Options{MaxBytes: 100})
	say("output", xgb, Options{Output: "1"})
	say("output word", xgb, Options{Output: "best"})
	say("class of one", xgb, Options{Output: "class"})
	say("error of trees", xgb, Options{Output: "error"})
	say("several outputs", read(t, "xgboost/softprob.json"), Options{})

	change("version", lgb, "version=v4", "version=v5")
	change("old forest", read(t, "lightgbm/iris-forest.txt"), "average_output", "average_output\nobjective=binary sigmoid:1")
	change("lightgbm objective", lgb, "binary sigmoid:1", "binary_new")
	change("sigmoid", lgb, "sigmoid:1", "sigmoid:-1")
	change("names", lgb, "feature_names=temp", "feature_names=")
	change("twice", lgb, "num_class=", "version=v4\nnum_class=")
	change("linear tree", lgb, "is_linear=0", "is_linear=1")
	change("cut short", lgb, "end of trees", "")
	change("no leaves", lgb, "num_leaves=", "num_leaves=-")
	change("many leaves", lgb, "num_leaves=", "num_leaves=1111")
	change("lightgbm loop", lgb, "left_child=1", "left_child=0")
	change("lightgbm child outside", lgb, "left_child=1", "left_child=98")
	change("leaf outside", lgb, "right_child=", "right_child=-98")
	change("feature outside", lgb, "split_feature=0", "split_feature=7")
	change("nan leaf", stump("2", ""), "leaf_value=1", "leaf_value=nan")
	change("number", lgb, "threshold=", "threshold=x")
	change("threshold", stump("2", ""), "threshold=5", "threshold=nan")
	change("decision", stump("2", ""), "decision_type=2", "decision_type=12")
	change("trees", lgb, "num_tree_per_iteration=1", "num_tree_per_iteration=7")
	change("sets", cats, "num_cat=", "num_cat=9")
	change("boundaries", cats, "cat_boundaries=0", "cat_boundaries=9")

	say("layers", string(safetensor(t, act("relu"), "x", sq, w)), Options{})
	say("activations", string(safetensor(t, nil, "0.weight", sq, w)), Options{})
	say("activation", string(safetensor(t, act("swish"), "0.weight", sq, w)), Options{})
	say("softmax within", string(safetensor(t, act("softmax relu"), "0.weight", sq, w, "1.weight", sq, w)), Options{})
	say("shape", string(safetensor(t, act("relu"), "0.weight", []int{4}, w)), Options{})
	say("convolution", string(safetensor(t, act("relu"), "0.weight", []int{1, 2, 2}, w)), Options{})
	say("chain", string(safetensor(t, act("relu relu"), "0.weight", sq, w, "1.weight", []int{1, 4}, w)), Options{})
	say("bias", string(safetensor(t, act("relu"), "0.weight", sq, w, "0.bias", []int{4}, w)), Options{Output: "0"})
	say("stranger", string(safetensor(t, act("relu"), "0.weight", sq, w, "norm.running_mean", []int{2}, w[:2])), Options{Output: "0"})
	say("half a scale", string(safetensor(t, act("relu"), "0.weight", sq, w, "input.mean", []int{2}, w[:2])), Options{Output: "0"})
	say("scale 0", string(safetensor(t, act("relu"), "0.weight", sq, w, "input.mean", []int{2}, w[:2], "input.scale", []int{2}, []float32{1, 0})), Options{Output: "0"})
	say("said layer", string(safetensor(t, map[string]string{"activations": "relu", "layers": "fc"}, "0.weight", sq, w)), Options{})
	say("metadata features", string(safetensor(t, map[string]string{"activations": "relu", "features": "a b c"}, "0.weight", sq, w)), Options{Output: "0"})
	net := string(safetensor(t, act("relu"), "0.weight", sq, w))
	say("tensor cut short", net[:len(net)-1], Options{})
	say("more behind", net+"x", Options{})
	change("type", net, `"F32"`, `"I64"`)
	change("offsets", net, `[0,16]`, `[4,16]`)
	change("dimension", net, `[2,2]`, `[2,0]`)
	say("dimensions", string(safetensor(t, act("relu"), "0.weight", []int{4194304, 4194304}, w)), Options{})
	say("header", "\xff\xff\xff\x00\x00\x00\x00\x00{}", Options{})
	say("net memory", net, Options{MaxBytes: 15})
	say("several outputs of a net", net, Options{})

	golden := filepath.Join("testdata", "refusals.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(read(t, "refusals.golden"), out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none"), os.DevNull} {
		if _, err := Open(path, Options{}); err == nil {
			t.Errorf("%s: accepted", path)
		}
	}
}

func TestReadRefusesLargeFiles(t *testing.T) {
	if _, err := Read(make([]byte, maxFile+1), Options{}); err == nil {
		t.Error("accepted")
	}
}

func TestWordsThatJSONDoesNotKnow(t *testing.T) {
	got := string(strict([]byte(`{"NaN":"-Infinity \" NaN","a":[NaN,-Infinity,Infinity,-NaN,-1E0,"\\",NaN]}`)))
	if want := `{"NaN":"-Infinity \" NaN","a":[null,null,null,null,-1E0,"\\",null]}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
