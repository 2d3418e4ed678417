package api

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const cliPath = "../../docs/reference/cli-json.md"

// TestStatusReference holds the reference page against the types, both ways, and
// its example against the golden file.
func TestStatusReference(t *testing.T) {
	page, err := os.ReadFile(cliPath)
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("testdata/status-degraded.json")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), docBegin)
	old, tail, ok2 := strings.Cut(rest, docEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has lost its marks", cliPath)
	}
	want := "```json\n" + string(example) + "```\n"
	if *update {
		if err := os.WriteFile(cliPath, []byte(head+docBegin+want+docEnd+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(want, old); diff != "" {
		t.Errorf("the example in %s is old (run with -update):\n%s", cliPath, diff)
	}

	_, section, _ := strings.Cut(head, "## edgeagent status --json\n")
	var documented []string
	for line := range strings.Lines(section) {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		if strings.HasPrefix(line, "| `") {
			for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
				documented = append(documented, m[1])
			}
		}
	}
	var keys []string
	walkKeys(reflect.TypeFor[Status](), "", func(path string) { keys = append(keys, path) })
	slices.Sort(keys)
	slices.Sort(documented)
	if diff := cmp.Diff(keys, documented); diff != "" {
		t.Errorf("keys of Status (-) and of %s (+):\n%s", cliPath, diff)
	}
}

// walkKeys calls yield for every key of the JSON form of typ. A part's health is
// described once, below health.warnings.
func walkKeys(typ reflect.Type, prefix string, yield func(string)) {
	for f := range typ.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous {
			walkKeys(f.Type, prefix, yield)
			continue
		}
		path, inner := prefix+name, f.Type
		switch f.Type.Kind() {
		case reflect.Slice:
			path, inner = path+"[]", f.Type.Elem()
		case reflect.Map:
			yield(path)
			path, inner = path+".*", f.Type.Elem()
			if inner.Kind() != reflect.Struct {
				continue
			}
		}
		ours := inner.Kind() == reflect.Struct && inner.PkgPath() == typ.PkgPath() && inner != reflect.TypeFor[Time]() && inner != reflect.TypeFor[PartHealth]()
		if !ours || strings.HasSuffix(path, "[]") {
			yield(path)
		}
		if ours {
			walkKeys(inner, path+".", yield)
		}
	}
}
