package wire

import (
	"math"
	"strconv"
	"time"
)

// finite reports whether v has a decimal form.
func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// appendFloat appends the shortest decimal that gives back v, in a form that JSON
// and line protocol both read: plain digits between 1e-6 and 1e21, else with an
// exponent, as encoding/json does. v is finite.
func appendFloat(dst []byte, v float64) []byte {
	if out, ok := appendDecimal(dst, v); ok {
		return out
	}
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		return strconv.AppendFloat(dst, v, 'e', -1, 64)
	}
	return strconv.AppendFloat(dst, v, 'f', -1, 64)
}

const (
	decimals = 6 // most sensors resolve less
	micro    = 1e6
)

// appendDecimal appends v if it is a decimal with at most six places and fifteen
// digits, as nearly all that sensors give; strconv takes three times as long. No two
// such decimals are the same float64 (that takes 16 digits), so the one that gives
// back v is the shortest once its last zeros are gone.
func appendDecimal(dst []byte, v float64) (_ []byte, ok bool) {
	abs := math.Abs(v)
	if !(abs < 1e9) {
		return dst, false
	}
	n := uint64(abs*micro + 0.5)
	// Both sides of a division of whole numbers below 2^53 are exact, so the quotient
	// is what reading the decimal gives.
	if float64(n)/micro != abs || n == 0 && math.Signbit(v) {
		return dst, false
	}
	if math.Signbit(v) {
		dst = append(dst, '-')
	}
	dst = strconv.AppendUint(dst, n/micro, 10)
	frac := n % micro
	if frac == 0 {
		return dst, true
	}
	places := decimals
	for frac%10 == 0 {
		frac /= 10
		places--
	}
	dst = append(dst, ".000000"[:1+places]...)
	for at := len(dst) - 1; frac > 0; at-- {
		dst[at] = byte('0' + frac%10)
		frac /= 10
	}
	return dst, true
}

// appendHex appends v as digits lower-case hex digits.
func appendHex(dst []byte, v uint64, digits int) []byte {
	const hex = "0123456789abcdef"
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, hex[v>>shift&15])
	}
	return dst
}

// stamp writes Unix nanoseconds as RFC 3339 with milliseconds. It keeps the last
// second it wrote, since most records share one.
type stamp struct {
	second int64
	text   []byte // "2006-01-02T15:04:05"
}

func (s *stamp) append(dst []byte, ns int64) []byte {
	second, rest := ns/1e9, ns%1e9
	if rest < 0 {
		second, rest = second-1, rest+1e9
	}
	if len(s.text) == 0 || second != s.second {
		s.second = second
		s.text = time.Unix(second, 0).UTC().AppendFormat(s.text[:0], "2006-01-02T15:04:05")
	}
	dst = append(dst, s.text...)
	ms := rest / 1e6
	return append(dst, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}

// nanos writes Unix nanoseconds as a number. It keeps the last second it wrote, since
// most records share one.
type nanos struct {
	second int64
	text   []byte
}

func (x *nanos) append(dst []byte, ns int64) []byte {
	if ns < 1e9 {
		return strconv.AppendInt(dst, ns, 10)
	}
	second := ns / 1e9
	if second != x.second {
		x.second, x.text = second, strconv.AppendInt(x.text[:0], second, 10)
	}
	dst = append(dst, x.text...)
	rest := uint32(ns - second*1e9)
	ms, below := rest/1e6, rest%1e6
	dst = append(dst, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	if below == 0 { // most series resolve 1 ms
		return append(dst, "000000"...)
	}
	dst = append(dst, "000000"...)
	for at := len(dst) - 1; below > 0; at-- {
		dst[at] = byte('0' + below%10)
		below /= 10
	}
	return dst
}
