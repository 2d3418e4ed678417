package model_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/rules/model"
)

// pumps is a rule over a model, with an instance for each pump.
func pumps(when string) []rules.File {
	return []rules.File{{Version: 1, Rules: []rules.Rule{{
		ID: "worn",
		Inputs: map[string]string{
			"temp": "pump-*/temp", "vib": "pump-*/vib", "load": "pump-*/load", "speed": "pump-*/speed",
		},
		When: when,
		Do:   []rules.Action{{Alert: &rules.Alert{Text: "{{.instance}} is worn"}}},
	}}}}
}

// A rule fires for the pump whose features the trainer scores above the threshold,
// and for no other.
func TestModelInARule(t *testing.T) {
	set, err := model.Load(map[string]model.Config{"pump": {File: "testdata/xgboost/binary.json"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	engine, err := rules.Options{Models: set.Models()}.Compile(pumps(`model("pump", temp, vib, load, speed) > 0.9`))
	if err != nil {
		t.Fatal(err)
	}
	rows, scores := readVectors(t, "testdata/xgboost/binary.rows.json")
	want, got := 0, 0
	for i, row := range rows {
		var rs []edgeagent.Reading
		for k, metric := range []string{"temp", "vib", "load", "speed"} {
			key := edgeagent.SeriesKey{Sensor: fmt.Sprintf("pump-%d", i), Metric: metric, Resolution: edgeagent.DefaultResolution}
			rs = append(rs, edgeagent.Reading{Series: edgeagent.NewSeries(key), Value: row[k], At: edgeagent.Instant{Run: int64(i+1) * 1e9}})
		}
		fires := scores[i][0] > 0.9
		if fires {
			want++
		}
		for _, ev := range engine.Eval(nil, rs) {
			got++
			if !fires || ev.Text != fmt.Sprintf("%d is worn", i) {
				t.Errorf("row %d, score %v: %s %s", i, scores[i][0], ev.Attrs["state"], ev.Text)
			}
		}
	}
	if got != want || want == 0 {
		t.Errorf("%d alarms, want %d", got, want)
	}
}

func TestRulesKnowTheirModels(t *testing.T) {
	set, err := model.Load(map[string]model.Config{"pump": {File: "testdata/xgboost/binary.json"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for when, want := range map[string]string{
		`model("pmup", temp, vib, load, speed) > 0.9`: `no model "pmup"`,
		`model("pump", temp, vib, load) > 0.9`:        "wants 4 numbers, not 3",
	} {
		if _, err := (rules.Options{Models: set.Models()}).Compile(pumps(when)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", when, err, want)
		}
	}
}
