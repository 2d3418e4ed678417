package rules_test

import (
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

func Example() {
	engine, err := rules.Compile([]rules.File{{
		Version: 1,
		Rules: []rules.Rule{{
			ID:       "overheat",
			Inputs:   map[string]string{"temp": "boiler/temp"},
			When:     "temp > 80",
			For:      30 * time.Second,
			Clear:    "temp < 75",
			Severity: new(edgeagent.Critical),
			Do:       []rules.Action{{Alert: &rules.Alert{Text: "{{.series}} at {{.temp}} degC"}}},
		}},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	temp := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "boiler", Metric: "temp", Unit: "Cel"})
	for second, v := range []float64{79, 82, 84, 83, 76, 74} {
		at := edgeagent.Instant{Run: int64(second) * int64(20*time.Second)}
		for _, ev := range engine.Eval(nil, []edgeagent.Reading{{Series: temp, At: at, Value: v}}) {
			fmt.Println(time.Duration(ev.At.Run), ev.ID, ev.Attrs["state"], ev.Text)
		}
	}
	// Output:
	// 50s overheat/-/00000000-20000 firing boiler/temp at 84 degC
	// 1m40s overheat/-/00000000-20000 cleared boiler/temp at 74 degC
}

func ExampleCompile_errors() {
	_, err := rules.Compile([]rules.File{{
		Version: 1,
		Rules:   []rules.Rule{{ID: "hot", Inputs: map[string]string{"temp": "boiler/temp"}, When: "tmep > 80"}},
	}})
	fmt.Println(err)
	// Output:
	// rules[0].when: unknown name "tmep", did you mean "temp"?
	// rules[0].do: the rule does nothing: write "do: [{alert: {}}]" to raise an alarm
}
