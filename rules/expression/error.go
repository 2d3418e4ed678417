package expression

import (
	"fmt"
	"strconv"
	"strings"
)

// Error is a mistake in a source.
type Error struct {
	offset int
	length int
	text   string
}

// Error returns what is wrong, without the position.
func (e *Error) Error() string { return e.text }

// Offset returns where the mistake begins, in bytes from the start of the source.
func (e *Error) Offset() int { return e.offset }

// Length returns how many bytes the mistake spans; 0 at the end of the source.
func (e *Error) Length() int { return e.length }

func errorAt(pos, end int, format string, args ...any) *Error {
	return &Error{pos, end - pos, fmt.Sprintf(format, args...)}
}

// maxListed bounds how many names an error lists.
const maxListed = 8

// didYouMean says what the writer of name may have meant: the closest of names,
// or all of them when none is close and they are few.
func didYouMean(name string, names []string) string {
	if best := closest(name, names); best != "" {
		return fmt.Sprintf(", did you mean %q?", best)
	}
	if len(names) == 0 || len(names) > maxListed {
		return ""
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote(n)
	}
	return ", known are " + strings.Join(quoted, ", ")
}

// closest returns the name at the smallest edit distance, the first of equals, or
// "" when none is near enough to be a slip of the finger.
func closest(name string, names []string) string {
	best, bestDist := "", min(1+max(1, len(name)/3), len(name))
	for _, n := range names {
		if n == name || len(n) > maxName || len(name) > maxName {
			continue
		}
		d := distance(strings.ToLower(name), strings.ToLower(n))
		if d < bestDist {
			best, bestDist = n, d
		}
	}
	return best
}

// distance is the optimal string alignment distance (Damerau-Levenshtein with
// adjacent transpositions) in bytes.
func distance(a, b string) int {
	var rows [3][maxName + 1]int
	prev2, prev, cur := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
