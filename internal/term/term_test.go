package term

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCount(t *testing.T) {
	tests := []struct {
		got, want string
	}{
		{Count(0), "0"},
		{Count(999), "999"},
		{Count(1204), "1,204"},
		{Count(-1204), "-1,204"},
		{Count(int64(math.MinInt64)), "-9,223,372,036,854,775,808"},
		{Count(uint64(math.MaxUint64)), "18,446,744,073,709,551,615"},
		{Plural(1, "sensor"), "1 sensor"},
		{Plural(0, "sensor"), "0 sensors"},
		{Plural(1204, "reading"), "1,204 readings"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func TestSize(t *testing.T) {
	tests := map[int64]string{
		-5: "-5 B", 0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB",
		31 << 10: "31 KiB", 64 << 20: "64 MiB", 1<<20 - 1: "1 MiB", math.MaxInt64: "8 EiB",
	}
	for n, want := range tests {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	tests := []struct {
		d    time.Duration
		want string
	}{
		{0, "0s"},
		{1500 * time.Nanosecond, "2µs"},
		{350 * time.Millisecond, "350ms"},
		{999*time.Millisecond + 700*time.Microsecond, "1s"},
		{7*time.Second + 400*time.Millisecond, "7s"},
		{59*time.Second + 600*time.Millisecond, "1m"},
		{2*time.Minute + 10*time.Second, "2m10s"},
		{time.Hour - time.Second/4, "1h"},
		{3*time.Hour + 20*time.Minute, "3h20m"},
		{47*time.Hour + 59*time.Minute + 40*time.Second, "2 days"},
		{18 * 24 * time.Hour, "18 days"},
		{18*24*time.Hour + 13*time.Hour, "19 days"},
		{-2 * time.Minute, "-2m"},
		{math.MinInt64, "-106,752 days"},
		{math.MaxInt64, "106,752 days"},
	}
	for _, tt := range tests {
		if got := Duration(tt.d); got != tt.want {
			t.Errorf("Duration(%d) = %q, want %q", tt.d, got, tt.want)
		}
	}
}

func TestTable(t *testing.T) {
	tab := Table{Right: []int{1}, Indent: "  "}
	tab.Row("boiler", "1,204", "ok")
	tab.Row(Paint(true, Red, "plant1/line0"), "7", "dial:\nrefused")
	tab.Row("x")
	want := "  boiler        1,204  ok\n" +
		"  \x1b[31mplant1/line0\x1b[0m      7  dial: refused\n" +
		"  x\n"
	if diff := cmp.Diff(want, tab.String()); diff != "" {
		t.Error(diff)
	}
	if got := (&Table{}).String(); got != "" {
		t.Errorf("empty table prints %q", got)
	}
}

func TestClip(t *testing.T) {
	tests := []struct {
		name, in string
		width    int
		want     string
	}{
		{"fits", "abc", 3, "abc"},
		{"cut", "abcdefghij", 8, "abcde..."},
		{"too narrow for a mark", "abcdefghij", 4, "abcd"},
		{"nothing", "abc", 0, ""},
		{"runes are not cut", "ääääääääää", 8, "äääää..."},
		{"colour survives", "\x1b[31mabcdefghij\x1b[0m", 8, "\x1b[31mabcde...\x1b[0m"},
		{"unfinished escape", "\x1b[31", 2, "\x1b["},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Clip(tt.in, tt.width); got != tt.want {
				t.Errorf("Clip(%q, %d) = %q, want %q", tt.in, tt.width, got, tt.want)
			}
		})
	}
}

type hintErr struct {
	error
	hint string
}

func (h hintErr) Hint() string  { return h.hint }
func (h hintErr) Unwrap() error { return h.error }

func TestPrintError(t *testing.T) {
	plain := errors.New("dial: refused")
	hinted := hintErr{plain, "start the broker"}
	tests := []struct {
		name string
		err  error
		want string
		n    int
	}{
		{"nil", nil, "", 0},
		{"plain", plain, "error: dial: refused\n", 1},
		{"hint", hinted, "error: dial: refused\nhint: start the broker\n", 1},
		{"hint below a wrap", fmt.Errorf("connect: %w", hinted), "error: connect: dial: refused\nhint: start the broker\n", 1},
		{"the outer hint wins", hintErr{fmt.Errorf("connect: %w", hinted), "see docs"}, "error: connect: dial: refused\nhint: see docs\n", 1},
		{"join", errors.Join(hinted, plain), "error: dial: refused\nhint: start the broker\nerror: dial: refused\n", 2},
		{"join of joins", errors.Join(errors.Join(plain, plain), plain), strings.Repeat("error: dial: refused\n", 3), 3},
		{"hint on a join", hintErr{errors.Join(plain, plain), "mend both"}, "error: dial: refused\nerror: dial: refused\nhint: mend both\n", 2},
		{
			"join inside a sentence", fmt.Errorf("check: %w", errors.Join(hinted, hinted)),
			"error: check: dial: refused\n  dial: refused\nhint: start the broker\n", 1,
		},
		{"snippet stays", errors.New("bad key\n  a.yaml:1:2\n > 1 | x"), "error: bad key\n  a.yaml:1:2\n > 1 | x\n", 1},
		{"two hints in one sentence", fmt.Errorf("%w and %w", hinted, hintErr{plain, "or not"}), "error: dial: refused and dial: refused\nhint: start the broker\nhint: or not\n", 1},
		{"empty hint", hintErr{plain, ""}, "error: dial: refused\n", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if n := PrintError(&b, tt.err); n != tt.n {
				t.Errorf("printed %d errors, want %d", n, tt.n)
			}
			if diff := cmp.Diff(tt.want, b.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFilesAreNoTerminals(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, f := range []*os.File{f, null, nil} {
		if IsTerminal(f) {
			t.Errorf("%v is taken for a terminal", f)
		}
	}
}

func TestWidth(t *testing.T) {
	t.Setenv("COLUMNS", "")
	if got := Width(&bytes.Buffer{}); got != DefaultWidth {
		t.Errorf("width of a buffer = %d, want %d", got, DefaultWidth)
	}
	t.Setenv("COLUMNS", "72")
	if got := Width(&bytes.Buffer{}); got != 72 {
		t.Errorf("width with COLUMNS=72 is %d", got)
	}
	t.Setenv("COLUMNS", "1")
	if got := Width(&bytes.Buffer{}); got != 20 {
		t.Errorf("width with COLUMNS=1 is %d, want the floor of 20", got)
	}
}

func TestColorAllowed(t *testing.T) {
	tests := []struct {
		env  map[string]string
		want bool
	}{
		{nil, true},
		{map[string]string{"TERM": "xterm"}, true},
		{map[string]string{"TERM": "dumb"}, false},
		{map[string]string{"NO_COLOR": "1"}, false},
		{map[string]string{"NO_COLOR": ""}, true},
	}
	for _, tt := range tests {
		if got := colorAllowed(func(k string) string { return tt.env[k] }); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.env, got, tt.want)
		}
	}
	if HasColor(&bytes.Buffer{}) {
		t.Error("a buffer would be coloured")
	}
}

// vt is as much of a terminal as Screen needs; it scrolls as a real one does.
type vt struct {
	rows   int
	lines  []string // the whole scroll-back; the last rows of it are visible
	y      int      // the line the cursor is on
	x      int
	t      *testing.T
	writes int
}

func (v *vt) Write(p []byte) (int, error) {
	v.writes++
	for s := string(p); s != ""; {
		if l := escapeLen(s); l > 0 {
			v.escape(s[2:l])
			s = s[l:]
			continue
		}
		switch s[0] {
		case '\r':
			v.x = 0
		case '\n':
			v.x, v.y = 0, v.y+1
		default:
			v.put(s[0])
		}
		s = s[1:]
	}
	return len(p), nil
}

func (v *vt) line() *string {
	for len(v.lines) <= v.y {
		v.lines = append(v.lines, "")
	}
	return &v.lines[v.y]
}

func (v *vt) put(c byte) {
	l := v.line()
	for len(*l) <= v.x {
		*l += " "
	}
	*l = (*l)[:v.x] + string(c) + (*l)[v.x+1:]
	v.x++
}

func (v *vt) escape(seq string) {
	v.line()
	switch {
	case strings.HasSuffix(seq, "A"):
		var n int
		fmt.Sscanf(seq, "%dA", &n)
		v.y = max(v.y-n, len(v.lines)-v.rows, 0)
	case seq == "K":
		l := v.line()
		*l = (*l)[:min(v.x, len(*l))]
	case seq == "J":
		l := v.line()
		*l = (*l)[:min(v.x, len(*l))]
		v.lines = v.lines[:v.y+1]
	default:
		v.t.Errorf("unknown sequence %q", seq)
	}
}

func TestScreenRedrawsInPlace(t *testing.T) {
	v := &vt{rows: 6, t: t}
	fmt.Fprintln(v, "intro")
	s := &Screen{w: v, size: func() (int, int) { return 20, v.rows }}
	s.Draw("one\ntwo\nthree\n")
	s.Draw("ONE")
	s.Draw("1\n2\nabcdefghijklmnopqrstuvwxyz")
	want := []string{"intro", "1", "2", "abcdefghijklmnop...", ""}
	if diff := cmp.Diff(want, v.lines); diff != "" {
		t.Error(diff)
	}
	if v.writes != 1+3 {
		t.Errorf("%d writes for an intro and 3 frames", v.writes)
	}
}

func TestScreenOfAHighFrame(t *testing.T) {
	v := &vt{rows: 4, t: t}
	fmt.Fprint(v, "a\nb\nc\n")
	s := &Screen{w: v, size: func() (int, int) { return 20, v.rows }}
	for i := range 5 {
		s.Draw(fmt.Sprintf("%d.1\n%d.2\n%d.3\n%d.4\n%d.5", i, i, i, i, i))
	}
	want := []string{"a", "b", "c", "4.1", "4.2", "4.3", ""}
	if diff := cmp.Diff(want, v.lines); diff != "" {
		t.Error(diff)
	}
	if s.Err() != nil {
		t.Error(s.Err())
	}
}

type failing struct{ n int }

func (f *failing) Write([]byte) (int, error) { f.n++; return 0, os.ErrClosed }

func TestScreenStopsAtTheFirstError(t *testing.T) {
	f := &failing{}
	s := NewScreen(f)
	s.Draw("a")
	s.Draw("b")
	if f.n != 1 || !errors.Is(s.Err(), os.ErrClosed) {
		t.Errorf("%d writes, error %v", f.n, s.Err())
	}
}
