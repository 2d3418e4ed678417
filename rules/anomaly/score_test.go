package anomaly

import (
	"encoding/csv"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestScoreCSV(t *testing.T) {
	for _, tc := range []struct{ name, in, want, mistake string }{
		{
			"columns in any order, more columns, a byte order mark", "\ufeffvalue,x,timestamp\n1,9,2026-11-23 09:00:00\n2.50,9,2026-11-23 09:05:00.5\n",
			"timestamp,value,anomaly_score,score\n2026-11-23 09:00:00,1,0,0\n2026-11-23 09:05:00.5,2.50,0,0\n", "",
		},
		{
			"what is no number", "timestamp,value\n2026-11-23T09:00:00Z,NaN\n2026-11-23T09:00:00Z,\n2026-11-23T09:00:00+01:00,inf\n",
			"timestamp,value,anomaly_score,score\n2026-11-23T09:00:00Z,NaN,0,0\n2026-11-23T09:00:00Z,,0,0\n2026-11-23T09:00:00+01:00,inf,0,0\n", "",
		},
		{"nothing", "", "", "read the header: EOF"},
		{"no value", "timestamp,val\n", "", "the header has no timestamp or no value"},
		{"no time", "timestamp,value\n2026-11-23 09:00:00,1\nnoon,2\n", "", `line 3: "noon" is no time, want one like 2026-11-23 09:00:00`},
		{"short row", "timestamp,value\n2026-11-23 09:00:00\n", "", "record on line 2: wrong number of fields"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			_, err := ScoreCSV(&out, strings.NewReader(tc.in))
			mistake := ""
			if err != nil {
				mistake = err.Error()
			} else if diff := cmp.Diff(tc.want, out.String()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tc.mistake, mistake); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestScoreCSVIsTheDetector: the file says what a detector says that is asked directly.
func TestScoreCSVIsTheDetector(t *testing.T) {
	var in, out strings.Builder
	in.WriteString("timestamp,value\n")
	var d Detector
	var want []string
	w := newWeather(9)
	for i := range 2000 {
		run := int64(i) * fiveMinutes
		x := w.at(run)
		if i == 1500 {
			x += 40
		}
		fmt.Fprintf(&in, "%s,%v\n", time.Unix(0, 1_700_000_000e9+run).UTC().Format(time.DateTime), x)
		r := d.Observe(instant(run), true, x)
		want = append(want, fmt.Sprintf("%v,%v", r.Alert, r.Score))
	}
	s, err := ScoreCSV(&out, strings.NewReader(in.String()))
	if err != nil || s.Rows != 2000 || s.Alerts < 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	rows, err := csv.NewReader(strings.NewReader(out.String())).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rows[1:] {
		got = append(got, r[2]+","+r[3])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzScoreCSV(f *testing.F) {
	f.Add("timestamp,value\n2026-11-23 09:00:00,1\n")
	f.Add("value,timestamp\n1e309,0000-01-01 00:00\n\"\",9999-12-31T00:00:00Z\n")
	f.Fuzz(func(t *testing.T, in string) {
		var out strings.Builder
		s, err := ScoreCSV(&out, strings.NewReader(in))
		if err == nil && strings.Count(out.String(), "\n") < s.Rows+1 {
			t.Errorf("%d rows in, %q out", s.Rows, out.String())
		}
	})
}
