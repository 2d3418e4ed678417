package configs

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

func TestLocate(t *testing.T) {
	_, root := open("f.yaml", []byte(`a:
  b: [x, {c: y}]
  b.c: z
  "odd[0]": w
list:
  - n: 1
`))
	tests := []struct {
		path, found string
		want        pos
	}{
		{"", "", pos{1, 1}},
		{"a.b", "a.b", pos{2, 6}},
		{"a.b[0]", "a.b[0]", pos{2, 7}},
		{"a.b[1].c", "a.b[1].c", pos{2, 14}},
		{"a.b[2]", "a.b", pos{2, 6}},
		{"a.b[-1]", "a.b", pos{2, 6}},
		{"a.b[x", "a.b", pos{2, 6}},
		{"a.b.c", "a.b.c", pos{3, 8}},
		{"a.odd[0]", "a.odd[0]", pos{4, 13}},
		{"a.missing.deep", "a", pos{2, 3}},
		{"list[0].missing", "list[0]", pos{6, 5}},
		{"list[0].n.below", "list[0].n", pos{6, 8}},
		{"lis", "", pos{1, 1}},
	}
	for _, tt := range tests {
		n, found := locate(root, tt.path)
		if n.pos != tt.want || found != tt.found {
			t.Errorf("locate(%q) = %v %q, want %v %q", tt.path, n.pos, found, tt.want, tt.found)
		}
	}
}

// TestWithin finds the word "HERE" of a value in the source.
func TestWithin(t *testing.T) {
	tests := []struct {
		name, text string
		exact      bool
	}{
		{"plain", "k: ab > HERE and\n", true},
		{"plain with wide characters", "k: grö > HERE\n", true},
		{"plain with a comment", "k:    ab HERE   # HER\n", true},
		{"plain on two lines, first", "k: HERE\n  then\n", true},
		{"plain on two lines, second", "k: first\n  HERE\n", false},
		{"double quoted", `k: "ab HERE"` + "\n", true},
		{"double quoted with escapes", `k: "\"\\\u00e9\x41\t HERE"` + "\n", true},
		{"double quoted, unknown escape", `k: "\N HERE"` + "\n", false},
		{"double quoted over lines", "k: \"ab\n  HERE\"\n", false},
		{"single quoted", "k: 'it''s HERE'\n", true},
		{"flow", "k: {x: 1}\nl: [ab HERE]\n", true},
		{"literal, first line", "k: |\n  ab HERE\n", true},
		{"literal, later line", "k: |\n  ab\n\n    and HERE\n", true},
		{"literal with an indentation", "k: |2\n    ab HERE\n", true},
		{"folded", "k: >\n  ab\n  HERE\n", false},
		{"alias", "x: &a ab HERE\nk: *a\n", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, root := open("f.yaml", []byte(tt.text))
			if d.problems != nil {
				t.Fatal(asError(d.problems))
			}
			n := root.get("k")
			if l := root.get("l"); l != nil {
				n = l.items[0]
			}
			got := d.src.within(n, strings.Index(n.text, "HERE"))
			want := n.pos
			if tt.exact {
				for i, line := range d.src.lines {
					if before, _, ok := strings.Cut(line, "HERE"); ok {
						want = pos{i + 1, len([]rune(before)) + 1}
						break
					}
				}
			}
			if got != want {
				t.Errorf("at %v, want %v", got, want)
			}
			for _, offset := range []int{-1, len(n.text) + 1, 1 << 30} {
				if at := d.src.within(n, offset); at != n.pos {
					t.Errorf("offset %d at %v, want the start", offset, at)
				}
			}
		})
	}
}

func TestFlatten(t *testing.T) {
	plain := errors.New("plain")
	err := errors.Join(
		edgeagent.Field("a", "one"),
		edgeagent.InField("b[0]", errors.Join(edgeagent.Field("c", "two"), nil, edgeagent.WithHint(edgeagent.Field("d", "three"), "h3"))),
		edgeagent.WithHint(errors.Join(edgeagent.Field("e", "four"), &edgeagent.FieldError{Path: "f", Err: edgeagent.WithHint(plain, "own")}), "shared"),
		&edgeagent.FieldError{Path: "g", Err: errors.Join(edgeagent.Field("[1]", "five"), plain)},
		fmt.Errorf("wrapped: %w", plain),
	)
	var got []string
	for _, f := range flatten(err, "", "") {
		got = append(got, fmt.Sprintf("%s|%v|%s", f.path, f.err, f.hint))
	}
	want := []string{"a|one|", "b[0].c|two|", "b[0].d|three|h3", "e|four|shared", "f|plain|own", "g[1]|five|", "g|plain|", "|wrapped: plain|"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if flatten(nil, "a", "") != nil {
		t.Error("nil is an error")
	}
}

func TestNearest(t *testing.T) {
	known := []string{"name", "driver", "interval", "max_bytes", "url", "id"}
	tests := map[string]string{
		"intervall": "interval", "Interval": "interval", "maxBytes": "max_bytes", "max-bytes": "max_bytes",
		"nmae": "name", "dirver": "driver", "urls": "url", "ur": "url", "ids": "id", "name": "name",
		"temperature": "", "x": "", "": "", "interval_of_sampling": "", "_": "", strings.Repeat("name", 1000): "",
	}
	for name, want := range tests {
		if got := nearest(name, known); got != want {
			t.Errorf("nearest(%.40q) = %q, want %q", name, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"é", "e", 1},
	}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b); got != tt.want || distance(tt.b, tt.a) != got {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
