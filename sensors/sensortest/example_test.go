package sensortest_test

import (
	"testing"

	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/sensortest"
)

// A driver's test hands the suite a function that opens its source.
func ExampleRun() {
	open := func(*testing.T, sensors.Env) sensors.Source { return nil /* the driver's */ }
	_ = func(t *testing.T) { sensortest.Run(t, open) } // TestConformance
	// Output:
}
