package mqttin_test

import (
	"fmt"

	"github.com/edgeagent/edgeagent/sensors/mqttin"
)

func Example() {
	c := mqttin.Default()
	c.Topics = []mqttin.Topic{{Filter: "tele/+/SENSOR", Metrics: []mqttin.Metric{{Path: "ENERGY.Power", Name: "power", Unit: "W"}}}}
	fmt.Println(c.Validate())
	// Output: <nil>
}
