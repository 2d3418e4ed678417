package term

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Count prints n with commas: "1,204".
func Count[N ~int | ~int32 | ~int64 | ~uint | ~uint32 | ~uint64](n N) string {
	var digits, sign string
	if n < 0 {
		sign, digits = "-", strings.TrimPrefix(strconv.FormatInt(int64(n), 10), "-")
	} else {
		digits = strconv.FormatUint(uint64(n), 10)
	}
	var b strings.Builder
	b.WriteString(sign)
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// Size prints a number of bytes with the largest binary unit that keeps it short:
// "31 KiB", "1.5 MiB".
func Size(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, i := float64(n)/(1<<10), 0
	for v >= 1023.95 && i < len(units)-1 {
		v, i = v/(1<<10), i+1
	}
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0") + " " + units[i:i+1] + "iB"
}

// Duration prints d as a person would say it, in at most two units: "350ms",
// "7s", "2m10s", "3h20m", "18 days". It rounds to the last unit printed.
func Duration(d time.Duration) string {
	if d < 0 {
		if d == math.MinInt64 {
			d++
		}
		return "-" + Duration(-d)
	}
	switch {
	case d == 0:
		return "0s"
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d.Round(time.Millisecond) < time.Second:
		return strconv.FormatInt(d.Round(time.Millisecond).Milliseconds(), 10) + "ms"
	case d.Round(time.Second) < time.Hour:
		return twoUnits(int64(d.Round(time.Second)/time.Second), "m", "s")
	case d.Round(time.Minute) < 48*time.Hour:
		return twoUnits(int64(d.Round(time.Minute)/time.Minute), "h", "m")
	default:
		return Count(int64(math.Round(d.Hours()/24))) + " days"
	}
}

// twoUnits prints n small units as large ones of 60 and the rest.
func twoUnits(n int64, large, small string) string {
	l, s := n/60, n%60
	switch {
	case l == 0:
		return strconv.FormatInt(s, 10) + small
	case s == 0:
		return strconv.FormatInt(l, 10) + large
	default:
		return strconv.FormatInt(l, 10) + large + strconv.FormatInt(s, 10) + small
	}
}

// Plural prints a count and its noun: "1 sensor", "1,204 sensors".
func Plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return Count(n) + " " + noun + "s"
}
