package buffer

import (
	"slices"

	"github.com/edgeagent/edgeagent"
)

// maxCursorRanges bounds what a cursor remembers beside its low end.
const maxCursorRanges = 256

// after returns the first number at or above s that is not in the set, and the
// last one of the hole that it lies in (maxSeq if the hole has no end).
func after(rs edgeagent.Ranges, s edgeagent.Seq) (from, to edgeagent.Seq) {
	i, _ := slices.BinarySearchFunc(rs, s, func(x edgeagent.Range, s edgeagent.Seq) int {
		if x.To < s {
			return -1
		}
		return 1
	})
	if i < len(rs) && rs[i].From <= s {
		s = rs[i].To + 1
		i++
	}
	if i < len(rs) {
		return s, rs[i].From - 1
	}
	return s, maxSeq
}

// maxSeq is the highest number that a record can have.
const maxSeq = edgeagent.Seq(1)<<53 - 1

// trimRanges forgets the smallest ranges above the first until at most
// maxCursorRanges and the low end are left: what they held is sent again.
func trimRanges(rs edgeagent.Ranges) edgeagent.Ranges {
	for len(rs) > maxCursorRanges+1 {
		least := len(rs) - 1
		for i := len(rs) - 1; i > 0; i-- {
			if rs[i].Len() < rs[least].Len() {
				least = i
			}
		}
		rs = slices.Delete(rs, least, least+1)
	}
	return rs
}
