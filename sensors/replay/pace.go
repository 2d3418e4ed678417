package replay

import (
	"errors"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// pace says when a reading is due. It is a pure function of the reading's place in
// the file and its recorded time; all arithmetic is on integers.
type pace struct {
	// milli is the rate in thousandths: of readings per second with perSecond,
	// else of the recording's own speed. 0 means as fast as possible.
	milli     uint64
	perSecond bool
}

const (
	maxFactor = 1e6 // times the recording's speed
	maxRate   = 1e7 // readings per second
)

// parsePace reads "original", "10x", "0.5x", "1000/s" or "max".
func parsePace(s string) (pace, error) {
	bad := errors.New("pace " + strconv.Quote(s) + " is not possible, want original, a factor like 10x, a rate like 1000/s, or max")
	switch s {
	case "original":
		return pace{milli: 1000}, nil
	case "max":
		return pace{}, nil
	}
	number, perSecond := strings.CutSuffix(s, "/s")
	limit := maxRate
	if !perSecond {
		var ok bool
		if number, ok = strings.CutSuffix(s, "x"); !ok {
			return pace{}, bad
		}
		limit = maxFactor
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	milli := math.Round(v * 1000)
	if err != nil || !(milli >= 1 && v <= limit) {
		return pace{}, bad
	}
	return pace{uint64(milli), perSecond}, nil
}

// immediate reports whether every reading is due at once.
func (p pace) immediate() bool { return p.milli == 0 }

// due returns how long after the start of the pass reading n (0, 1, 2 …) is due,
// whose recorded time is since after the first one's. At a rate the reading closes
// its interval: n = 0 is due after 1/rate.
func (p pace) due(n uint64, since time.Duration) time.Duration {
	switch {
	case p.immediate():
		return 0
	case p.perSecond:
		return time.Duration(mulDivUp(n+1, uint64(time.Second)*1000, p.milli))
	default:
		return time.Duration(mulDivUp(uint64(max(since, 0)), 1000, p.milli))
	}
}

// mulDivUp returns ceil(a × b / c), held below 2^62.
func mulDivUp(a, b, c uint64) uint64 {
	const most = 1 << 62
	hi, lo := bits.Mul64(a, b)
	lo, carry := bits.Add64(lo, c-1, 0)
	hi += carry
	if hi >= c {
		return most
	}
	q, _ := bits.Div64(hi, lo, c)
	return min(q, most)
}
