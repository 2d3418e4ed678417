package ruletest

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
)

// ReadCSV returns the readings of a CSV file in its order. The first line names
// the columns: time_ns (or time, timestamp), series, value, and quality if there is
// one, as "edgeagent buffer export" writes them; others are passed over. Times are
// Unix nanoseconds or RFC 3339, or without a zone UTC. series names the readings
// of a file that has no such column. An empty value is not a number. After an
// error there is nothing more.
func ReadCSV(r io.Reader, series string) iter.Seq2[edgeagent.Reading, error] {
	return func(yield func(edgeagent.Reading, error) bool) {
		in := csv.NewReader(r)
		in.ReuseRecord, in.FieldsPerRecord = true, -1
		header, err := in.Read()
		if errors.Is(err, io.EOF) {
			err = errors.New("the file is empty")
		}
		if err != nil {
			yield(edgeagent.Reading{}, fmt.Errorf("first line: %w", err))
			return
		}
		cols, err := findColumns(header, series)
		if err != nil {
			yield(edgeagent.Reading{}, err)
			return
		}
		known := map[string]edgeagent.Series{}
		for {
			row, err := in.Read()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil { // says its line
				yield(edgeagent.Reading{}, err)
				return
			}
			reading, err := cols.parse(row, series, known)
			if err != nil {
				line, _ := in.FieldPos(0)
				yield(edgeagent.Reading{}, fmt.Errorf("line %d: %w", line, err))
				return
			}
			if !yield(reading, nil) {
				return
			}
		}
	}
}

// columns are places in a row; -1: there is none.
type columns struct{ time, series, value, quality int }

func findColumns(header []string, series string) (columns, error) {
	find := func(names ...string) int {
		return slices.IndexFunc(header, func(h string) bool {
			return slices.Contains(names, strings.ToLower(strings.TrimSpace(strings.TrimPrefix(h, "\ufeff"))))
		})
	}
	c := columns{find("time_ns", "time", "timestamp"), find("series"), find("value"), find("quality")}
	switch {
	case c.time < 0 || c.value < 0:
		return c, fmt.Errorf("the first line names no columns time_ns and value: %q", strings.Join(header, ","))
	case c.series < 0 && series == "":
		return c, errors.New("there is no column series, and no series is named")
	}
	return c, nil
}

func (c columns) parse(row []string, series string, known map[string]edgeagent.Series) (r edgeagent.Reading, err error) {
	field := func(i int) string {
		if i < 0 || i >= len(row) {
			return ""
		}
		return strings.TrimSpace(row[i])
	}
	if r.At.Wall, err = parseTime(field(c.time)); err != nil {
		return r, err
	}
	if v := field(c.value); v == "" {
		r.Value = math.NaN()
	} else if r.Value, err = strconv.ParseFloat(v, 64); err != nil && !errors.Is(err, strconv.ErrRange) {
		return r, fmt.Errorf("bad value %q", v)
	}
	if name := field(c.series); name != "" {
		series = name
	}
	s, ok := known[series]
	if !ok {
		sensor, metric := edgeagent.SplitName(series)
		s = edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: sensor, Metric: metric})
		known[strings.Clone(series)] = s
	}
	r.Series, r.Recorded = s, true
	switch q := field(c.quality); q {
	case "", "good", "unsynced":
	case "suspect":
		r.Quality = edgeagent.Suspect
	case "stale":
		r.Quality = edgeagent.Stale
	case "bad":
		r.Quality = edgeagent.Bad
	default:
		return r, fmt.Errorf("unknown quality %q", q)
	}
	return r, nil
}

func parseTime(s string) (int64, error) {
	if ns, err := strconv.ParseInt(s, 10, 64); err == nil {
		return ns, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UnixNano(), nil
		}
	}
	return 0, fmt.Errorf("bad time %q, want Unix nanoseconds or RFC 3339", s)
}
