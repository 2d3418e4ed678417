package main

import (
	"bytes"
	"fmt"
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
	var help strings.Builder
	writeHelp(t, &help, newRoot(), nil)
	now := help.String()
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

// writeHelp writes the help of a command and of those below it.
func writeHelp(t *testing.T, w *strings.Builder, cmd *cobra.Command, words []string) {
	t.Helper()
	var out bytes.Buffer
	if code := run(t.Context(), append(slices.Clip(words), "--help"), &out, &out); code != 0 {
		t.Fatalf("%v --help: exit %d\n%s", words, code, out.String())
	}
	heading := strings.TrimSpace("### edgeagent " + strings.Join(words, " "))
	fmt.Fprintf(w, "%s\n\n```text\n%s\n```\n\n", heading, strings.TrimRight(out.String(), "\n"))
	for _, sub := range cmd.Commands() {
		writeHelp(t, w, sub, append(slices.Clip(words), sub.Name()))
	}
}
