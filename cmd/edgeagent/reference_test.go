package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// TestReference holds docs/reference/cli.md against what the program says of itself.
func TestReference(t *testing.T) {
	const begin, end = "<!-- begin: written by go test ./cmd/edgeagent -update -->\n", "<!-- end: edgeagent -->"
	path := filepath.Join("..", "..", "docs", "reference", "cli.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	was, after, okEnd := strings.Cut(rest, end)
	if !ok || !okEnd {
		t.Fatalf("%s has no place for edgeagent", path)
	}
	now := helpOf(t, newRoot(), nil)
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+now+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(was, now); diff != "" {
		t.Errorf("%s (-) and the program (+):\n%s", path, diff)
	}
}

// helpOf returns the help of a command and of those below it.
func helpOf(t *testing.T, cmd *cobra.Command, words []string) string {
	t.Helper()
	var out bytes.Buffer
	if code := run(t.Context(), append(words, "--help"), &out, &out); code != 0 {
		t.Fatalf("%v --help: exit %d\n%s", words, code, out.String())
	}
	text := "### edgeagent " + strings.Join(words, " ")
	text = strings.TrimSpace(text) + "\n\n```text\n" + strings.TrimRight(out.String(), "\n") + "\n```\n\n"
	for _, sub := range cmd.Commands() {
		text += helpOf(t, sub, append(slices.Clip(words), sub.Name()))
	}
	return text
}
