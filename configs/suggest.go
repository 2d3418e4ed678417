package configs

import (
	"strconv"
	"strings"
)

// didYouMean returns a hint for a name that is not among known: the nearest one,
// or all of them.
func didYouMean(name, what string, known []string) string {
	if best := nearest(name, known); best != "" {
		return "did you mean " + strconv.Quote(best) + "?"
	}
	if len(known) == 0 {
		return ""
	}
	return what + " here: " + strings.Join(known, ", ")
}

// nearest returns the known name that name was probably meant to be, or nothing.
// Case, dashes and underscores do not count as differences.
func nearest(name string, known []string) string {
	fold := strings.NewReplacer("_", "", "-", "", " ", "")
	folded := fold.Replace(strings.ToLower(name))
	if folded == "" || len(folded) > 64 {
		return ""
	}
	best, bestDistance := "", 1+max(1, len(folded)/3)
	for _, k := range known {
		if d := distance(folded, fold.Replace(strings.ToLower(k))); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours
// between a and b (optimal string alignment).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}
