package edgeagent

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes is a size. In configuration it is written "64MiB", "2 GB" or a plain
// number of bytes.
type Bytes int64

var byteUnits = []struct {
	suffix string
	factor float64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
}

// ParseBytes reads a size.
func ParseBytes(s string) (Bytes, error) {
	num, factor := strings.TrimSpace(s), 1.0
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(num, u.suffix); ok {
			num, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	v, err := strconv.ParseFloat(num, 64)
	if err != nil || !(v >= 0 && v*factor < 1<<62) {
		return 0, fmt.Errorf("bad size %q, write it like 64MiB or 2GB", s)
	}
	return Bytes(v * factor), nil
}

// UnmarshalText reads a size as [ParseBytes] does.
func (b *Bytes) UnmarshalText(text []byte) error {
	v, err := ParseBytes(string(text))
	if err != nil {
		return err
	}
	*b = v
	return nil
}

// String prints the size with the largest binary unit that keeps it short.
func (b Bytes) String() string {
	const units = "KMGT"
	if b < 1<<10 {
		return strconv.FormatInt(int64(b), 10) + " B"
	}
	v, i := float64(b)/(1<<10), 0
	for v >= 1023.95 && i < len(units)-1 {
		v, i = v/(1<<10), i+1
	}
	s := strconv.FormatFloat(v, 'f', 1, 64)
	return strings.TrimSuffix(s, ".0") + " " + units[i:i+1] + "iB"
}
