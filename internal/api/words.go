package api

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/edgeagent/edgeagent"
)

// The words of the status screen. internal/term has richer ones; this package
// imports nothing of ours but the root.

// count prints n with commas.
func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func size(n int64) string { return edgeagent.Bytes(n).String() }

// span prints a duration in at most two units: "7s", "2m10s", "18 days".
func span(d time.Duration) string {
	if d >= 48*time.Hour {
		return count(uint64(d.Hours()/24+0.5)) + " days"
	}
	unit := time.Second
	if d >= time.Hour {
		unit = time.Minute
	}
	s := max(d, 0).Round(unit).String() // "2m10s", "1h0m0s"
	if rest, ok := strings.CutSuffix(s, "m0s"); ok {
		s = rest + "m"
	}
	if rest, ok := strings.CutSuffix(s, "h0m"); ok {
		s = rest + "h"
	}
	return s
}

// oneLine makes text from elsewhere (errors, device names) safe to print: no line
// ends, no control characters that would move the cursor.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
}

func clip(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(width-3, 0)]) + "..."
}
