package anomaly

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Scored is what [ScoreCSV] counts.
type Scored struct {
	Rows   int
	Alerts int // rows from [Threshold] on
}

// layouts of the timestamps that ScoreCSV reads.
var layouts = []string{time.DateTime, time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04"}

// ScoreCSV runs a new [Detector] over a recorded series and writes what it says of
// each row. The input has a header with at least timestamp and value; a value that is
// no number is a reading that is none. The output has the columns timestamp (as it
// was), value, anomaly_score ([Result.Alert]) and score ([Result.Score]), one row for
// each row. Memory does not grow with the series.
func ScoreCSV(w io.Writer, r io.Reader) (Scored, error) {
	in := csv.NewReader(r)
	in.ReuseRecord = true
	head, err := in.Read()
	if err != nil {
		return Scored{}, fmt.Errorf("read the header: %w", err)
	}
	at, value := column(head, "timestamp"), column(head, "value")
	if at < 0 || value < 0 {
		return Scored{}, errors.New("the header has no timestamp or no value")
	}
	out := bufio.NewWriter(w)
	out.WriteString("timestamp,value,anomaly_score,score\n") //nolint:errcheck // Flush returns it
	var s Scored
	var d Detector
	var first int64
	var line []byte
	for {
		rec, err := in.Read()
		if errors.Is(err, io.EOF) {
			return s, out.Flush()
		}
		if err != nil {
			return s, err // names the line
		}
		t, err := parseTime(rec[at])
		if err != nil {
			n, _ := in.FieldPos(at)
			return s, fmt.Errorf("line %d: %w", n, err)
		}
		if s.Rows == 0 {
			first = t
		}
		x, err := strconv.ParseFloat(strings.TrimSpace(rec[value]), 64)
		if err != nil {
			x = math.NaN()
		}
		res := d.Observe(edgeagent.Instant{Wall: t, Run: t - first}, true, x)
		s.Rows++
		if res.Alerts() {
			s.Alerts++
		}
		line = appendRow(line[:0], rec[at], rec[value], res)
		if _, err := out.Write(line); err != nil {
			return s, err
		}
	}
}

// column returns the place of a name in a header, or -1. A byte order mark is no part
// of a name.
func column(head []string, name string) int {
	return slices.IndexFunc(head, func(h string) bool {
		return strings.EqualFold(strings.TrimSpace(strings.TrimPrefix(h, "\ufeff")), name)
	})
}

// parseTime returns Unix nanoseconds; a time without a zone is UTC.
func parseTime(s string) (int64, error) {
	s = strings.TrimSpace(s)
	for _, layout := range layouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UnixNano(), nil
		}
	}
	return 0, fmt.Errorf("%q is no time, want one like 2026-11-23 09:00:00", s)
}

func appendRow(dst []byte, at, value string, r Result) []byte {
	dst = append(dst, strings.TrimSpace(at)...)
	dst = append(dst, ',')
	dst = append(dst, strings.TrimSpace(value)...)
	dst = append(dst, ',')
	dst = strconv.AppendFloat(dst, r.Alert, 'g', -1, 64)
	dst = append(dst, ',')
	dst = strconv.AppendFloat(dst, r.Score, 'g', -1, 64)
	return append(dst, '\n')
}
