package edgeagent

import (
	"fmt"
	"slices"
	"strconv"
)

// Stream is one of the four number spaces of a buffer. A stream is at once a
// buffer class, a chain of segments and a space of sequence numbers.
type Stream uint8

// The streams, as they stand in block headers. 0 is not a stream: series and
// marks blocks bear it.
const (
	StreamAlarm     Stream = 1 // alarm transitions; safe against a power cut before Append returns
	StreamEvent     Stream = 2 // captures, notices, results of commands
	StreamTelemetry Stream = 3 // readings
	StreamRollup    Stream = 4 // per-minute summaries of telemetry that had to give way
)

var streamNames = [...]string{"", "alarm", "event", "telemetry", "rollup"}

// Streams returns all streams in order of their numbers.
func Streams() []Stream {
	return []Stream{StreamAlarm, StreamEvent, StreamTelemetry, StreamRollup}
}

// Valid reports whether s is one of the four streams.
func (s Stream) Valid() bool { return s >= StreamAlarm && s <= StreamRollup }

// String returns the name used outside blocks.
func (s Stream) String() string {
	if s.Valid() {
		return streamNames[s]
	}
	return fmt.Sprintf("stream(%d)", uint8(s))
}

// ParseStream is the inverse of [Stream.String].
func ParseStream(name string) (Stream, error) {
	for _, s := range Streams() {
		if name == streamNames[s] {
			return s, nil
		}
	}
	return 0, fmt.Errorf("unknown stream %q, want alarm, event, telemetry or rollup", name)
}

// MarshalText writes the stream's name, so that streams can be JSON keys.
func (s Stream) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the stream's name.
func (s *Stream) UnmarshalText(text []byte) error {
	v, err := ParseStream(string(text))
	if err != nil {
		return err
	}
	*s = v
	return nil
}

// Epoch names one life of a buffer: 64 random bits, made when the buffer is
// created, or when its past can no longer be trusted.
type Epoch uint64

// String returns 16 lower-case hex digits, the form used outside blocks.
func (e Epoch) String() string { return fmt.Sprintf("%016x", uint64(e)) }

// MarshalText writes 16 lower-case hex digits.
func (e Epoch) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads hex digits.
func (e *Epoch) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 16, 64)
	if err != nil {
		return fmt.Errorf("epoch %q: want 16 hex digits", text)
	}
	*e = Epoch(v)
	return nil
}

// Run names one start of the process: 32 random bits.
type Run uint32

// String returns 8 lower-case hex digits, the form used outside blocks.
func (r Run) String() string { return fmt.Sprintf("%08x", uint32(r)) }

// MarshalText writes 8 lower-case hex digits.
func (r Run) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads hex digits.
func (r *Run) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 16, 32)
	if err != nil {
		return fmt.Errorf("run %q: want 8 hex digits", text)
	}
	*r = Run(v)
	return nil
}

// Seq is a record's number within its epoch and stream: 1, 2, 3 … in the order
// of append. 0 means none. Numbers stay below 2^53.
type Seq uint64

// Range is a contiguous range of sequence numbers, inclusive at both ends. In
// JSON it is a pair: [from, to].
type Range struct{ From, To Seq }

// Len returns how many numbers the range holds; 0 if it is empty.
func (r Range) Len() uint64 {
	if r.To < r.From || r.From == 0 {
		return 0
	}
	return uint64(r.To-r.From) + 1
}

// Contains reports whether s lies in the range.
func (r Range) Contains(s Seq) bool { return r.From <= s && s <= r.To }

// MarshalJSON writes [from, to].
func (r Range) MarshalJSON() ([]byte, error) {
	b := append([]byte{'['}, strconv.FormatUint(uint64(r.From), 10)...)
	b = append(b, ',')
	b = strconv.AppendUint(b, uint64(r.To), 10)
	return append(b, ']'), nil
}

// UnmarshalJSON reads [from, to].
func (r *Range) UnmarshalJSON(b []byte) error {
	var pair [2]Seq
	if err := unmarshalPair(b, &pair); err != nil {
		return fmt.Errorf("range: %w", err)
	}
	r.From, r.To = pair[0], pair[1]
	return nil
}

// Ranges is a set of sequence numbers as ranges that are sorted, disjoint and
// not adjacent. The zero value is the empty set. Not safe for concurrent use.
type Ranges []Range

// Add puts r into the set and reports how many of its numbers were new.
func (rs *Ranges) Add(r Range) (added uint64) {
	if r.Len() == 0 {
		return 0
	}
	s := *rs
	// lo: the first range that touches r or lies after it.
	lo, _ := slices.BinarySearchFunc(s, r.From, func(x Range, from Seq) int {
		if x.To+1 < from {
			return -1
		}
		return 1
	})
	hi, covered := lo, uint64(0)
	merged := r
	for hi < len(s) && s[hi].From <= r.To+1 {
		covered += overlap(s[hi], r)
		merged.From = min(merged.From, s[hi].From)
		merged.To = max(merged.To, s[hi].To)
		hi++
	}
	*rs = slices.Replace(s, lo, hi, merged)
	return r.Len() - covered
}

func overlap(a, b Range) uint64 {
	return Range{max(a.From, b.From), min(a.To, b.To)}.Len()
}

// Missing returns the parts of r that are not in the set, in order.
func (rs Ranges) Missing(r Range) []Range {
	if r.Len() == 0 {
		return nil
	}
	var out []Range
	next := r.From
	lo, _ := slices.BinarySearchFunc(rs, r.From, func(x Range, from Seq) int {
		if x.To < from {
			return -1
		}
		return 1
	})
	for _, x := range rs[lo:] {
		if x.From > r.To {
			break
		}
		if x.From > next {
			out = append(out, Range{next, x.From - 1})
		}
		next = max(next, x.To+1)
	}
	if next <= r.To {
		out = append(out, Range{next, r.To})
	}
	return out
}

// Contains reports whether s is in the set.
func (rs Ranges) Contains(s Seq) bool { return len(rs.Missing(Range{s, s})) == 0 && s != 0 }

// Count returns how many numbers the set holds.
func (rs Ranges) Count() uint64 {
	var n uint64
	for _, r := range rs {
		n += r.Len()
	}
	return n
}
