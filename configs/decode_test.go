package configs

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

func TestDecode(t *testing.T) {
	b := "text"
	tests := []struct {
		name, text string
		want       everything
	}{
		{"empty file", "", everything{}},
		{"comment", "# nothing\n", everything{}},
		{"text forms", "text: plain text # comment\n", everything{Text: "plain text"}},
		{"text of a number keeps its form", "text: 1.10\n", everything{Text: "1.10"}},
		{"text of a word YAML knows", "text: true\nlist: [no, on, ~x, 0x1F, 2026-01-01]\n", everything{Text: "true", List: []string{"no", "on", "~x", "0x1F", "2026-01-01"}}},
		{"quoted", `text: "a\tb \u00e9 'x'"` + "\n", everything{Text: "a\tb é 'x'"}},
		{"single quoted", "text: 'it''s'\n", everything{Text: "it's"}},
		{"literal", "text: |\n  a\n   b\n", everything{Text: "a\n b\n"}},
		{"folded", "text: >-\n  a\n  b\n", everything{Text: "a b"}},
		{"Windows line ends in a literal", "text: |\r\n  a\r\n  b\r\n", everything{Text: "a\nb\n"}},
		{"integers", "int: -0x7f\nunsigned: 0o17\nshared: +3\n", everything{Int: -127, Unsigned: 15, embedded: embedded{Shared: 3}}},
		{"floats", "float: 1e-3\n", everything{Float: 0.001}},
		{"float of a whole number", "float: 7\n", everything{Float: 7}},
		{"duration", "duration: 1h30m\ntable: {a: 5s, b.c: 100us, 7: 0}\n", everything{
			Duration: 90 * time.Minute,
			Table:    map[string]time.Duration{"a": 5 * time.Second, "b.c": 100 * time.Microsecond, "7": 0},
		}},
		{"through UnmarshalText", "size: 64MiB\nflag: true\n", everything{Size: 64 << 20, Flag: true}},
		{"structs", "inner: {a: 1, b: text}\npointer: {a: 2}\ninners: [{a: 3}, {}]\n", everything{
			Inner: inner{A: 1, B: &b}, Pointer: &inner{A: 2}, Inners: []inner{{A: 3}, {}},
		}},
		{"empty parts keep their defaults", "inner:\npointer:\ninners:\nlist: ~\ntable:\n", everything{}},
		{"anchor and alias", "x-a: &a {a: 5, b: text}\ninner: *a\ninners: [*a, *a]\n", everything{
			Inner: inner{A: 5, B: &b}, Inners: []inner{{A: 5, B: &b}, {A: 5, B: &b}},
		}},
		{"pointers to single values", "rules: [{id: a}, {id: b, severity: info}]\n", everything{
			Rules: []rules.Rule{{ID: "a"}, {ID: "b", Severity: new(edgeagent.Info)}},
		}},
		{"byte order mark", "\ufefftext: a\n", everything{Text: "a"}},
		{"marks around a document", "# c\n---\ntext: a\n...\n", everything{Text: "a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got everything
			if err := Decode("f.yaml", []byte(tt.text), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(everything{}), cmpopts.EquateEmpty(), cmp.Comparer(sameSecret)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func sameSecret(a, b edgeagent.Secret) bool { return a == b }

func TestDecodeKeepsDefaults(t *testing.T) {
	got := everything{Text: "default", Inner: inner{A: 7}, List: []string{"a"}}
	if err := Decode("f.yaml", []byte("int: 1\ninner: {b: x}\n"), &got); err != nil {
		t.Fatal(err)
	}
	if got.Text != "default" || got.Inner.A != 7 || len(got.List) != 1 {
		t.Errorf("defaults are gone: %+v", got)
	}
}

func TestDecodeErrors(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"a field without a tag is no key", "Untagged: x\nSkipped: y\n", []string{
			`f.yaml:1:1: unknown field "Untagged" at the top level (fields here: text, flag, int, unsigned, float, duration, size, secret, list, table, inner, pointer, inners, rules, shared)`,
			`f.yaml:2:1: unknown field "Skipped" at the top level (fields here: text, flag, int, unsigned, float, duration, size, secret, list, table, inner, pointer, inners, rules, shared)`,
		}},
		{"x- keys are free at the top only", "x-any: [1]\ninner: {x-any: 1}\n", []string{
			`f.yaml:2:9: unknown field "x-any" in inner (fields here: a, b)`,
		}},
		{"validation at the value", "inners: [{a: 1}, {a: -2}]\ninner:\n  a: -1\n", []string{
			"f.yaml:1:22: inners[1].a: is negative",
			"f.yaml:3:6: inner.a: is negative",
		}},
		{"no validation of what was not read", "inner: {a: -x}\n", []string{
			`f.yaml:1:12: inner.a: want a whole number, got "-x"`,
		}},
		{"a single value behind a pointer must be there", "inner: {b: }\nrules: [{severity: ~}]\n", []string{
			"f.yaml:1:9: inner.b: a value is missing (write one, or remove the key to get the default)",
			"f.yaml:2:20: rules[0].severity: a value is missing (write one, or remove the key to get the default)",
		}},
		{"everything at once", "int: 200\nunsigned: -1\nfloat: x\nduration: 1\nflag: yes\n", []string{
			"f.yaml:1:6: int: 200 is out of range (the range is -128 to 127)",
			"f.yaml:2:11: unsigned: -1 is negative (the range is 0 to 65535)",
			`f.yaml:3:8: float: want a number, got "x"`,
			`f.yaml:4:11: duration: duration "1" has no unit (write it with a unit: "1s")`,
			`f.yaml:5:7: flag: want true or false, got "yes" (write true)`,
		}},
		{"place after Windows line ends and comments", "# c\r\ntext: a # b\r\n# d\r\nint: x\r\n", []string{
			`f.yaml:4:6: int: want a whole number, got "x"`,
		}},
		{"place after a byte order mark", "\ufeffint: x\n", []string{`f.yaml:1:6: int: want a whole number, got "x"`}},
		{"columns are characters", "{text: äöü, int: x}\n", []string{`f.yaml:1:18: int: want a whole number, got "x"`}},
		{"a problem behind an alias stands at the alias", "x-a: &a x\nint: *a\n", []string{
			`f.yaml:2:6: int: want a whole number, got "x"`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Decode("f.yaml", []byte(tt.text), new(everything))
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(tt.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestDecodeIntoTheWrongThingIsAMistakeOfTheProgram(t *testing.T) {
	for _, v := range []any{nil, everything{}, new(int), (*everything)(nil), &struct {
		C chan int `yaml:"c"`
	}{}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Decode into %T did not panic", v)
				}
			}()
			_ = Decode("f.yaml", []byte("c: 1\n"), v)
		}()
	}
}

func TestProblemsAreBounded(t *testing.T) {
	err := Decode("f.yaml", []byte("list:\n"+strings.Repeat("- [a]\n", 500)), new(everything))
	problems := problemsOf(t, err)
	if len(problems) != maxProblems+1 {
		t.Fatalf("%d problems", len(problems))
	}
	if last := problems[maxProblems].Error(); last != "f.yaml: too many errors, 400 more are not shown" {
		t.Errorf("last problem: %s", last)
	}
}

// TestNoSecretInASnippet: a password written where a reference belongs must not
// reach a terminal or a log.
func TestNoSecretInASnippet(t *testing.T) {
	const password = "hunter2 correct"
	for _, text := range []string{
		"secret: hunter2 correct\n", "secret: 'hunter2 correct'\nint: x\n", "secret: \"hunter2 correct\"\nint: x\n",
		"secret: |\n  hunter2 correct\n\n  hunter2 correct\nint: x\n", "secret: >\n  hunter2 correct\nint: x\n",
		"secret:\n  hunter2 correct\nint: x\n", "secret: first\n  hunter2 correct\nint: x\n", "{secret: hunter2 correct, int: x}\n",
		"secrets: hunter2 correct\nint: x\n", "secret: \"a\\x20\n  hunter2 correct\"\nint: x\n",
	} {
		err := Decode("f.yaml", []byte(text), new(everything))
		if err == nil {
			t.Errorf("%q: no error", text)
			continue
		}
		var b strings.Builder
		if renderErr := problemsOf(t, err).Render(&b); renderErr != nil {
			t.Fatal(renderErr)
		}
		if out := b.String() + err.Error(); strings.Contains(out, "hunter2") || strings.Contains(out, password) {
			t.Errorf("%q shows the password:\n%s", text, out)
		}
	}
}
