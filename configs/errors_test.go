package configs

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTranscript is the screen that the tutorial promises.
func TestTranscript(t *testing.T) {
	text := "version: 1\nsensors:\n  - name: t1\n    intervall: 5s\n    driver: file\n    file: a.csv\n"
	_, err := Parse("edge.yaml", []byte(text), Options{Drivers: fakeDrivers()})
	var b strings.Builder
	if renderErr := problemsOf(t, err).Render(&b); renderErr != nil {
		t.Fatal(renderErr)
	}
	want := `error: unknown field "intervall" in sensors[0]
  edge.yaml:4:5
   3 |   - name: t1
 > 4 |     intervall: 5s
           ^
hint: did you mean "interval"?
1 error
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if want := `edge.yaml:4:5: unknown field "intervall" in sensors[0] (did you mean "interval"?)`; err.Error() != want {
		t.Errorf("one line: %s", err)
	}
}

func TestErrorsCanBeExamined(t *testing.T) {
	err := error(Errors{{File: "a", Message: "x"}, {File: "b", Message: "y", Err: fs.ErrNotExist}})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("the cause cannot be found")
	}
	var p *Problem
	if !errors.As(err, &p) || p.File != "a" {
		t.Errorf("first problem: %v", p)
	}
}

func TestLongAndStrangeLines(t *testing.T) {
	long := strings.Repeat("x", 300)
	tests := []struct {
		name, line string
		col        int
	}{
		{"short", "abc", 2},
		{"behind the end", "abc", 4},
		{"start of a long line", long, 1},
		{"middle of a long line", long, 150},
		{"end of a long line", long, 300},
		{"tabs and controls", "\ta\x1b[31mb\u202e" + "c", 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			writeLine(&b, "> ", tt.line, tt.col)
			lines := strings.Split(b.String(), "\n")
			if n := len([]rune(lines[0])); n > 2+maxShown {
				t.Errorf("%d characters shown", n)
			}
			if strings.ContainsAny(b.String(), "\t\x1b\u202e") {
				t.Errorf("not safe to print: %q", b.String())
			}
			caret := strings.Index(lines[1], "^") - 2
			shown := []rune(lines[0])[2:]
			if caret < 0 || caret > len(shown) {
				t.Fatalf("caret at %d of %d", caret, len(shown))
			}
			if original := []rune(tt.line); tt.col <= len(original) && original[tt.col-1] != shown[caret] && original[tt.col-1] != '\x1b' {
				t.Errorf("caret under %q, want %q", shown[caret], original[tt.col-1])
			}
		})
	}
}
