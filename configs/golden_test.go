package configs

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent/rules"
)

var update = flag.Bool("update", false, "write the golden files")

// parseFile reads a file of testdata as what its name says it is.
func parseFile(t *testing.T, path string) error {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Names in golden files have slashes on every system.
	path = filepath.ToSlash(path)
	if strings.HasPrefix(filepath.Base(path), "rules") {
		err = Decode(path, text, new(rules.File))
	} else {
		_, err = Parse(path, text, Options{Drivers: fakeDrivers(), Secrets: true})
	}
	return err
}

func TestGood(t *testing.T) {
	t.Setenv("EDGEAGENT_TEST_PASSWORD", "x")
	for _, path := range glob(t, "testdata/*.good.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			if err := parseFile(t, path); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBad holds what a user sees for each kind of mistake, to the letter.
func TestBad(t *testing.T) {
	for _, path := range glob(t, "testdata/*.bad.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			golden := strings.TrimSuffix(path, ".bad.yaml") + ".golden"
			problems := problemsOf(t, parseFile(t, path))
			var b strings.Builder
			if err := problems.Render(&b); err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// problemsOf returns the problems that err is.
func problemsOf(t *testing.T, err error) Errors {
	t.Helper()
	problems, ok := errors.AsType[Errors](err)
	if !ok {
		t.Fatalf("want Errors, got %T: %v", err, err)
	}
	return problems
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %v, %d files", pattern, err, len(paths))
	}
	return paths
}
