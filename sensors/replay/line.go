package replay

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"time"
)

// form is what the header says of a file.
type form struct {
	many  bool // series by name, else one series without
	nanos bool // whole numbers are nanoseconds, whatever their size
}

// parseHeader recognises the form of a file by its first line.
func parseHeader(line []byte) (form, error) {
	line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	switch string(bytes.ToLower(bytes.ReplaceAll(line, []byte(" "), nil))) {
	case "time,value", "timestamp,value":
		return form{}, nil
	case "time_ns,value":
		return form{nanos: true}, nil
	case "time,series,value", "timestamp,series,value":
		return form{many: true}, nil
	case "time_ns,series,value":
		return form{many: true, nanos: true}, nil
	}
	const shown = 60
	return form{}, errors.New("header is " + strconv.Quote(string(line[:min(len(line), shown)])) +
		", want time,value or time_ns,series,value")
}

// record is a line of a file.
type record struct {
	at     int64 // Unix ns
	series []byte
	value  float64
}

var (
	errFields = errors.New("wrong number of fields")
	errTime   = errors.New("bad time")
	errValue  = errors.New("bad value")
	errName   = errors.New("no series name")
)

// parseLine reads a line of the given form. A series name may hold commas: it is
// what stands between the first and the last one.
func parseLine(line []byte, f form) (r record, err error) {
	first, last := bytes.IndexByte(line, ','), bytes.LastIndexByte(line, ',')
	if first < 0 || f.many != (first < last) {
		return record{}, errFields
	}
	if f.many {
		if r.series = field(line[first+1 : last]); len(r.series) == 0 {
			return record{}, errName
		}
	}
	var ok bool
	if r.at, ok = parseTime(field(line[:first]), f.nanos); !ok {
		return record{}, errTime
	}
	if r.value, err = strconv.ParseFloat(string(field(line[last+1:])), 64); err != nil {
		return record{}, errValue
	}
	return r, nil
}

// field trims spaces and one pair of quotes.
func field(b []byte) []byte {
	b = bytes.TrimSpace(b)
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		return b[1 : len(b)-1]
	}
	return b
}

// parseTime reads a time as Unix nanoseconds. Unless nanos says what they are,
// whole numbers are taken for seconds, milli-, micro- or nanoseconds by their size,
// which is right from 1973 on.
func parseTime(b []byte, nanos bool) (int64, bool) {
	if n, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		if nanos {
			return n, true
		}
		return wholeTime(n)
	}
	for _, layout := range [...]string{time.RFC3339Nano, time.DateTime, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, string(b)); err == nil {
			ns := t.UnixNano()
			return ns, time.Unix(0, ns).Equal(t) // false beyond 1678 to 2262
		}
	}
	return 0, false
}

func wholeTime(n int64) (int64, bool) {
	size, unit := max(n, -n), int64(1)
	switch {
	case size < 1e11:
		unit = 1e9
	case size < 1e14:
		unit = 1e6
	case size < 1e17:
		unit = 1e3
	}
	return n * unit, size >= 0 && size <= math.MaxInt64/unit
}
