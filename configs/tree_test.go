package configs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// writer writes a random tree as YAML in random styles and remembers where each
// value went.
type writer struct {
	t     *rapid.T
	lines []string
	want  []placed
}

type placed struct {
	path, text string
	at         pos
}

// end finishes a line, perhaps with a comment and lines that say nothing.
func (w *writer) end(line string) {
	w.lines = append(w.lines, line+rapid.SampledFrom([]string{"", "", "", " # comment: x", "  "}).Draw(w.t, "tail"))
	if rapid.IntRange(0, 5).Draw(w.t, "gap") == 0 {
		w.lines = append(w.lines, rapid.SampledFrom([]string{"", "# note", "     # far note", "  "}).Draw(w.t, "filler"))
	}
}

// value writes a value behind prefix ("key:" or "-"), which is indented by indent.
func (w *writer) value(prefix, path string, indent, depth int) {
	kind := rapid.SampledFrom([]string{"scalar", "scalar", "flow", "literal", "mapping", "mapping", "compact", "list"}).Draw(w.t, "kind")
	item := strings.HasSuffix(prefix, "-")
	switch {
	case kind == "flow":
		w.flow(prefix+" ", path)
	case kind == "literal":
		w.literal(prefix, path, indent)
	case kind == "compact" && item && depth < 4:
		first := prefix + strings.Repeat(" ", rapid.IntRange(1, 3).Draw(w.t, "space"))
		w.mapping(path, first, len(first), depth+1)
	case kind == "mapping" && depth < 4:
		w.end(prefix)
		deeper := indent + rapid.IntRange(1, 3).Draw(w.t, "step")
		w.mapping(path, strings.Repeat(" ", deeper), deeper, depth+1)
	case kind == "list" && depth < 4:
		w.end(prefix)
		deeper := indent + rapid.IntRange(0, 3).Draw(w.t, "step")
		if item && deeper == indent {
			deeper++
		}
		for i := range rapid.IntRange(1, 3).Draw(w.t, "items") {
			w.value(strings.Repeat(" ", deeper)+"-", indexed(path, i), deeper, depth+1)
		}
	default:
		w.scalar(prefix, path)
	}
}

// mapping writes a mapping whose first key stands behind first.
func (w *writer) mapping(path, first string, indent, depth int) {
	for i := range rapid.IntRange(1, 4).Draw(w.t, "keys") {
		key := fmt.Sprintf("k%d%s", i, rapid.SampledFrom([]string{"", "é", "_long.name"}).Draw(w.t, "key"))
		w.value(first+key+":", join(path, key), indent, depth)
		first = strings.Repeat(" ", indent)
	}
}

// flow writes a flow mapping that holds a flow list, on one line.
func (w *writer) flow(prefix, path string) {
	line := prefix + "{"
	put := func(key, before, text, after string) {
		line += before
		w.want = append(w.want, placed{join(path, key), text, pos{len(w.lines) + 1, len([]rune(line)) + 1}})
		line += text + after
	}
	put("a", "a: ", "5s", ", ")
	put("b[0]", "b: [", "x y", ",")
	put("b[1]", " ", "größe", " ]")
	put("c", ", c:   ", "0x76", " }")
	w.end(line)
}

// literal writes a block scalar of two lines.
func (w *writer) literal(prefix, path string, indent int) {
	header := rapid.SampledFrom([]string{"|", "|-", ">-", "|+"}).Draw(w.t, "header")
	text := map[string]string{"|": "one\ntwo: x\n", "|-": "one\ntwo: x", ">-": "one two: x", "|+": "one\ntwo: x\n"}[header]
	w.want = append(w.want, placed{path, text, pos{len(w.lines) + 1, len([]rune(prefix)) + 2}})
	deeper := strings.Repeat(" ", indent+rapid.IntRange(1, 3).Draw(w.t, "step"))
	w.lines = append(w.lines, prefix+" "+header, deeper+"one", deeper+"two: x")
}

func (w *writer) scalar(prefix, path string) {
	text := rapid.SampledFrom([]string{"5s", "plain words", "mqtt://h:1883", "a#b", "größe", "it's", `say "x"`, "0x76", "- dash"}).Draw(w.t, "text")
	written := text
	switch rapid.IntRange(0, 2).Draw(w.t, "style") {
	case 0:
		written = strconv.Quote(text)
	case 1:
		written = "'" + strings.ReplaceAll(text, "'", "''") + "'"
	default:
		if strings.HasPrefix(text, "-") {
			written = `"` + text + `"`
		}
	}
	prefix += strings.Repeat(" ", rapid.IntRange(1, 3).Draw(w.t, "space"))
	w.want = append(w.want, placed{path, text, pos{len(w.lines) + 1, len([]rune(prefix)) + 1}})
	w.end(prefix + written)
}

// TestPlacesOfRandomFiles holds every value and its place against what was
// written, with Unix and with Windows line ends.
func TestPlacesOfRandomFiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &writer{t: t}
		w.mapping("", "", 0, 0)
		end := rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "line end")
		text := strings.Join(w.lines, end) + end
		d, root := open("f.yaml", []byte(text))
		if d.problems != nil {
			t.Fatalf("%v\n%s", asError(d.problems), text)
		}
		for _, want := range w.want {
			n, found := locate(root, want.path)
			if found != want.path || n.text != want.text || n.pos != want.at {
				t.Fatalf("%s: %q at %v (%s), want %q at %v\n%s", want.path, n.text, n.pos, found, want.text, want.at, text)
			}
		}
	})
}

// TestPlacesOfExamples does the same for files that people write.
func TestPlacesOfExamples(t *testing.T) {
	for _, path := range append(glob(t, "examples/*.yaml"), glob(t, "examples/rules/*.yaml")...) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		d, root := open(path, text)
		if root == nil {
			t.Fatal(asError(d.problems))
		}
		checkPlaces(t, d.src, root)
	}
}

func checkPlaces(t *testing.T, src *source, n *node) {
	t.Helper()
	at := func(p pos) string { return string([]rune(src.line(p.line))[p.col-1:]) }
	for _, e := range n.entries {
		if !strings.HasPrefix(at(e.at), e.key) {
			t.Errorf("%s:%v: no key %q", src.name, e.at, e.key)
		}
		checkPlaces(t, src, e.value)
	}
	for _, item := range n.items {
		checkPlaces(t, src, item)
	}
	if n.kind == scalarNode && n.style == plain && !strings.HasPrefix(at(n.pos), n.text) {
		t.Errorf("%s:%v: no value %q", src.name, n.pos, n.text)
	}
}
