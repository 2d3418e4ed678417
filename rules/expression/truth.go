package expression

import "math"

// Truth is a value of Kleene's three-valued logic. The order False < Unknown <
// True makes "and" the minimum and "or" the maximum.
type Truth uint8

// The three values.
const (
	False   Truth = 0
	Unknown Truth = 1
	True    Truth = 2
)

var truthNames = [...]string{"false", "unknown", "true"}

// String returns "false", "unknown" or "true".
func (t Truth) String() string { return truthNames[t] }

// Not returns the negation; that of Unknown is Unknown.
func (t Truth) Not() Truth { return True - t }

// NaN returns the number that stands for an unknown value.
func NaN() float64 { return math.NaN() }

// Known reports whether v is a value and not unknown.
func Known(v float64) bool { return !math.IsNaN(v) }

func truth(b bool) Truth {
	if b {
		return True
	}
	return False
}
