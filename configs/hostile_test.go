package configs

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// hostile returns inputs of about n bytes that make a careless parser recurse
// without end or take quadratic time.
func hostile(n int) map[string]string {
	r := func(s string) string { return strings.Repeat(s, max(1, n/len(s))) }
	count := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	var steps strings.Builder
	for i := 0; steps.Len() < n; i++ {
		steps.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	var laughs strings.Builder
	laughs.WriteString("a0: &a0 [x, x]\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&laughs, "a%d: &a%d [*a%d, *a%d]\n", i, i, i-1, i-1)
	}
	return map[string]string{
		"keys": count("k%d: 1\n"), "empty keys": count("k%d:\n"), "steps": steps.String(),
		"items": r("- a\n"), "empty items": r("-\n"), "dashes": r("- "), "brackets": r("["),
		"braces": r("{a: "), "complex keys": r("? "), "anchors": r("&a "), "anchor lines": r("- &a\n"),
		"tags": r("!a "), "aliases": r("*a "), "tag lines": r("- !!str\n"), "same key": r("a: b\n"),
		"blank literal": "a: |\n" + r("\n"), "blanks in literals": r("a: |\n" + strings.Repeat("\n", maxBlankRun-2)),
		"spaced blanks": "a: |\n" + r("   \n"), "blanks and text": "a: |\n" + r(" x\n"+strings.Repeat("\n", maxBlankRun-2)),
		"folded": "a: >\n" + r(" x\n\n"), "plain lines": "a:\n" + r(" x\n"), "plain blanks": "a: x\n" + r("\n  y\n"),
		"open quote": "a: \"" + r("x\n"), "quoted lines": "a: \"" + r("x\n\n") + "\"", "open single": "a: '" + r("b: c\n"),
		"escapes": "a: \"" + r("\\n") + "\"", "documents": r("---\n"), "colons": r(": "), "comments": r("# a\n"),
		"comment steps": "a:\n" + r("  # c\n"), "long line": "a: " + r("x "), "flow items": "[" + r("a,") + "]",
		"flow pairs": "{" + r("a: b,") + "}", "item mappings": r("- a: b\n"), "literals": r("a: |\n"),
		"directives": r("%a\n"), "percent": r("a: %\n"), "laughs": laughs.String(), "many aliases": "a: &a [" + strings.Repeat("x,", 5000) + "]\nb: [" + r("*a,") + "]",
		"unknown items": "inners:\n" + r("- {q: 1}\n"), "wrong items": "list:\n" + r("- [a]\n"), "dash steps": "-\n" + r(" -\n"),
		"indented dashes": r("- - - -\n"), "flow lines": "[" + r("a,\n"), "question lines": r("? a\n"), "tabs": "a:\n" + r("\t\n"),
	}
}

// TestHostileInput holds the bound on time: some inputs are as large as a
// file may be, some have just about as many tokens. The limit is generous because other tests run beside it.
func TestHostileInput(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	run := func(name string, size int) {
		t.Run(fmt.Sprintf("%s, %d bytes", name, size), func(t *testing.T) {
			text := hostile(size)[name]
			start := time.Now()
			checkProblems(t, []byte(text), Decode("f.yaml", []byte(text), new(everything)))
			if d := time.Since(start); d > time.Minute {
				t.Errorf("took %v", d)
			}
		})
	}
	for name := range hostile(1) {
		run(name, 20_000)
	}
	// What passes the bound on tokens even in the largest file, or comes before it.
	for _, name := range []string{
		"blanks in literals", "steps", "long line", "escapes", "folded", "dashes", "brackets",
	} {
		run(name, maxBytes-2000)
	}
}
