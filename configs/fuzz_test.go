package configs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

// everything has a field of every kind that Decode can read.
type everything struct {
	Text     string                   `yaml:"text"`
	Flag     bool                     `yaml:"flag"`
	Int      int8                     `yaml:"int"`
	Unsigned uint16                   `yaml:"unsigned"`
	Float    float64                  `yaml:"float"`
	Duration time.Duration            `yaml:"duration"`
	Size     edgeagent.Bytes          `yaml:"size"`
	Secret   edgeagent.Secret         `yaml:"secret"`
	List     []string                 `yaml:"list"`
	Table    map[string]time.Duration `yaml:"table"`
	Inner    inner                    `yaml:"inner"`
	Pointer  *inner                   `yaml:"pointer"`
	Inners   []inner                  `yaml:"inners"`
	Rules    []rules.Rule             `yaml:"rules"`
	embedded
	Skipped string `yaml:"-"`
	Untaged string
}

type embedded struct {
	Shared int `yaml:"shared"`
}

type inner struct {
	A int     `yaml:"a"`
	B *string `yaml:"b"`
}

func (i inner) Validate() error {
	if i.A < 0 {
		return edgeagent.Field("a", "is negative")
	}
	return nil
}

func (e everything) Validate() error {
	var errs []error
	for i, x := range e.Inners {
		errs = append(errs, edgeagent.InField(indexed("inners", i), x.Validate()))
	}
	return errors.Join(append(errs, edgeagent.InField("inner", e.Inner.Validate()))...)
}

func addCorpus(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no corpus: %v", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, s := range hostile(256) {
		f.Add([]byte(s))
	}
}

// FuzzDecode checks that no input panics or hangs, that every problem has a place
// inside the file, and that both forms of it can be printed.
func FuzzDecode(f *testing.F) {
	addCorpus(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		start := time.Now()
		checkProblems(t, text, Decode("f.yaml", text, new(everything)))
		_, err := Parse("f.yaml", text, Options{Drivers: fakeDrivers()})
		checkProblems(t, text, err)
		checkProblems(t, text, Decode("f.yaml", text, new(rules.File)))
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

func checkProblems(t *testing.T, text []byte, err error) {
	t.Helper()
	if err == nil {
		return
	}
	problems := problemsOf(t, err)
	lines := strings.Count(string(text), "\n") + 1
	for _, p := range problems {
		if p.File == "f.yaml" && (p.Line < 0 || p.Line > lines || p.Line > 0 && p.Col < 1) {
			t.Errorf("place %d:%d of %q is outside the %d lines", p.Line, p.Col, p.Message, lines)
		}
		if p.Message == "" || strings.ContainsAny(p.Message+p.Hint, "\n\x1b") {
			t.Errorf("bad message %q, hint %q", p.Message, p.Hint)
		}
	}
	var b strings.Builder
	if err := problems.Render(&b); err != nil || strings.ContainsAny(b.String(), "\x1b\x07\r") {
		t.Errorf("render: %v\n%q", err, b.String())
	}
}
