package rules_test

import (
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/rules/anomaly"
)

// What is known of a series besides the files is checked; what a file says goes first.
func TestFactsBesidesTheFiles(t *testing.T) {
	number := func(v float64) *float64 { return &v }
	known := map[string]rules.Facts{"a/t": {Min: number(-40), Max: number(85)}, "b/t": {Min: number(-40), Max: number(85)}}
	tests := []struct {
		name  string
		files []rules.File
		value float64
		fires bool
	}{
		{"within the sheet's", nil, 20, false},
		{"beyond the sheet's", nil, 90, true},
		{"beyond the file's", []rules.File{{Version: 1, Sensors: map[string]rules.Facts{"a/t": {Max: number(50)}}}}, 60, true},
		{"the sheet's other limit stays", []rules.File{{Version: 1, Sensors: map[string]rules.Facts{"a/t": {Max: number(50)}}}}, -50, true},
		{"the file widens", []rules.File{{Version: 1, Sensors: map[string]rules.Facts{"a/t": {Max: number(200)}}}}, 90, false},
		{"a pattern of the file goes first, too", []rules.File{{Version: 1, Sensors: map[string]rules.Facts{"*/t": {Max: number(50)}}}}, 60, true},
		{"the file's limit is beyond the sheet's other", []rules.File{{Version: 1, Sensors: map[string]rules.Facts{"a/t": {Min: number(100)}}}}, 120, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, err := rules.Options{Detector: anomaly.ForRules, Facts: known}.Compile(tt.files)
			if err != nil {
				t.Fatal(err)
			}
			s := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "a", Metric: "t", Unit: "Cel"})
			var raised []edgeagent.Event
			for i := range 20 {
				at := edgeagent.Instant{Wall: int64(i) * int64(time.Second), Run: int64(i) * int64(time.Second)}
				raised = e.Eval(raised, []edgeagent.Reading{{Series: s, At: at, Value: tt.value}})
			}
			if (len(raised) > 0) != tt.fires {
				t.Errorf("raised %v", raised)
			}
		})
	}
}
