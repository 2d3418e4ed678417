package hub

import (
	"slices"

	"github.com/edgeagent/edgeagent"
)

// spans remember which run each held number came under: sorted, disjoint, and
// neighbours of the same run merged.
type spans []Span

// find returns the index of the first span that ends at from or later.
func (s spans) find(from edgeagent.Seq) int {
	i, _ := slices.BinarySearchFunc(s, from, func(x Span, from edgeagent.Seq) int {
		if x.To < from {
			return -1
		}
		return 1
	})
	return i
}

// conflicts reports whether a number of r is held under another run.
func (s spans) conflicts(r edgeagent.Range, run edgeagent.Run) bool {
	for _, x := range s[s.find(r.From):] {
		if x.From > r.To {
			break
		}
		if x.Run != run && !x.Mixed {
			return true
		}
	}
	return false
}

// add puts in r, of which nothing is held yet.
func (s *spans) add(r edgeagent.Range, run edgeagent.Run) {
	x := Span{Range: r, Run: run}
	lo := s.find(r.From)
	hi := lo
	if lo > 0 && (*s)[lo-1].joins(x) {
		lo--
		x.From = (*s)[lo].From
	}
	if hi < len(*s) && x.joins((*s)[hi]) {
		x.To = (*s)[hi].To
		hi++
	}
	*s = slices.Replace(*s, lo, hi, x)
}

// joins reports whether y follows s without a hole and under the same run.
func (s Span) joins(y Span) bool {
	return s.To+1 == y.From && s.Run == y.Run && !s.Mixed && !y.Mixed
}

// fold merges neighbours without a hole, lowest first, until at most n spans are
// left or every neighbour is behind a hole. Their runs are forgotten: numbers that
// low are not expected again.
func (s *spans) fold(n int) {
	excess := len(*s) - n
	if excess <= 0 {
		return
	}
	out := (*s)[:0]
	for _, x := range *s {
		if last := len(out) - 1; excess > 0 && last >= 0 && out[last].To+1 == x.From {
			out[last].To, out[last].Mixed = x.To, true
			excess--
			continue
		}
		out = append(out, x)
	}
	*s = out
}

// top returns the highest number and its run, if the run is known.
func (s spans) top() (edgeagent.Top, bool) {
	if len(s) == 0 || s[len(s)-1].Mixed {
		return edgeagent.Top{}, false
	}
	last := s[len(s)-1]
	return edgeagent.Top{Seq: last.To, Run: last.Run}, true
}
