package edgeagent

import (
	"fmt"
	"iter"
	"maps"
	"sort"
	"strings"
	"unique"
)

// Kind says what the numbers of a series are.
type Kind uint8

// The kinds of series.
const (
	Gauge   Kind = 0 // a level that goes up and down
	Counter Kind = 1 // a total that only rises, until its device restarts
	State   Kind = 2 // one of a few numbers that have names (see Labels)
)

var kindNames = [...]string{"gauge", "counter", "state"}

// String returns the name used in series blocks and configuration.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// ParseKind is the inverse of [Kind.String].
func ParseKind(s string) (Kind, error) {
	for i, name := range kindNames {
		if s == name {
			return Kind(i), nil
		}
	}
	return 0, fmt.Errorf("unknown kind %q, want gauge, counter or state", s)
}

// DefaultResolution is 1 ms: see [SeriesKey.Resolution].
const DefaultResolution = 6

// SeriesKey is everything that makes a series this one and not another. Two keys
// that differ in any field are two series.
type SeriesKey struct {
	Sensor string // may hold slashes: "plant1/line0/bme280-00"
	Metric string // never holds a slash: "temperature"
	Unit   string // as in UCUM where it has one: "Cel", "%", "Pa", "By"; empty if none
	Kind   Kind
	// Resolution k means that times are multiples of 10^k ns; 6 is 1 ms. 0 to 9.
	Resolution uint8
	Tags       Pairs // dimensions: where and what, sorted by key
	Labels     Pairs // names of a state's numbers: "0" → "closed"
}

// Series is an interned [SeriesKey]: one word, comparable with ==. The zero
// Series belongs to no sensor and is refused by the buffer.
type Series struct{ h unique.Handle[SeriesKey] }

// NewSeries interns key.
func NewSeries(key SeriesKey) Series { return Series{unique.Make(key)} }

// IsZero reports whether s was never made by [NewSeries].
func (s Series) IsZero() bool { return s == Series{} }

// Key returns the key s was made from.
func (s Series) Key() SeriesKey {
	if s.IsZero() {
		return SeriesKey{}
	}
	return s.h.Value()
}

// String returns "sensor/metric", the name used in rule files, queries and CSV.
func (s Series) String() string { return s.Key().Name() }

// Name returns "sensor/metric". The last slash divides the two.
func (k SeriesKey) Name() string {
	if k.Sensor == "" {
		return k.Metric
	}
	return k.Sensor + "/" + k.Metric
}

// SplitName is the inverse of [SeriesKey.Name]: it divides at the last slash.
func SplitName(name string) (sensor, metric string) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}

// Pairs is an immutable, comparable set of key/value pairs, kept sorted by key.
// The zero Pairs is empty.
type Pairs struct{ s string } // "k\x00v\x00k\x00v\x00", sorted by key

// MakePairs builds Pairs from m. Zero bytes in keys and values are dropped.
func MakePairs(m map[string]string) Pairs {
	if len(m) == 0 {
		return Pairs{}
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b strings.Builder
	for _, k := range keys {
		b.WriteString(strings.ReplaceAll(k, "\x00", ""))
		b.WriteByte(0)
		b.WriteString(strings.ReplaceAll(m[k], "\x00", ""))
		b.WriteByte(0)
	}
	return Pairs{b.String()}
}

// All calls yield for each pair in key order; it is a range-over-func iterator.
func (p Pairs) All(yield func(key, value string) bool) {
	rest := p.s
	for rest != "" {
		var k, v string
		k, rest, _ = strings.Cut(rest, "\x00")
		v, rest, _ = strings.Cut(rest, "\x00")
		if !yield(k, v) {
			return
		}
	}
}

// Len returns the number of pairs.
func (p Pairs) Len() int { return strings.Count(p.s, "\x00") / 2 }

// Get returns the value of key.
func (p Pairs) Get(key string) (string, bool) {
	for k, v := range p.All {
		if k == key {
			return v, true
		}
	}
	return "", false
}

// Map returns the pairs as a new map, nil when there are none.
func (p Pairs) Map() map[string]string {
	if p.s == "" {
		return nil
	}
	return maps.Collect(iter.Seq2[string, string](p.All))
}

// String returns "k=v,k=v" in key order, for people.
func (p Pairs) String() string {
	var b strings.Builder
	for k, v := range p.All {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(k)
		b.WriteByte('=')
		b.WriteString(v)
	}
	return b.String()
}
