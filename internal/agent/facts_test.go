package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/rules"
)

const factsFile = `
version: 1
device: {id: test}
sensors:
  - name: air
    driver: sht4x
    bus: 1
    samples: 3
    combine: median
    limits: {temperature: {min: -10, max: 50}}
    deadband: {temperature: 0.2, humidity: 0}
  - {name: light, driver: bh1750, bus: 1, calibrate: {illuminance: {gain: 1.1, offset: 2, table: [[0, 0], [100, 110.5]]}}}
  - {name: supply, driver: ina219, bus: 1, shunt: 0.01}
  - {name: load, driver: load, limits: {load1: {max: 8, max_rate: 2}}, deadband: {load1: 0}, max_silence: 1m}
`

func factsConfig(t *testing.T) *configs.Config {
	t.Helper()
	cfg, err := configs.Parse("agent.yaml", []byte(factsFile), configs.Options{Drivers: Drivers()})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestFactsOfSensors(t *testing.T) {
	number := func(v float64) *float64 { return &v }
	want := map[string]rules.Facts{
		"air/temperature": {Min: number(-10), Max: number(50), MaxRate: 20, Resolution: 0.01},
		"air/humidity":    {Min: number(0), Max: number(100), MaxRate: 25, Resolution: 0.01},
		// light is calibrated: its data sheet says nothing of the result.
		"supply/voltage": {Min: number(0), Max: number(26), Resolution: 0.004},
		"supply/current": {Min: number(-32), Max: number(32), Resolution: 0.001},
		"supply/power":   {Min: number(-832), Max: number(832), Resolution: 0.0004},
		"load/load1":     {Max: number(8), MaxRate: 2},
	}
	if diff := cmp.Diff(want, factsOf(factsConfig(t).Sensors)); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
}

func TestDeadbandsOfSensors(t *testing.T) {
	f := deadbands(factsConfig(t).Sensors)
	if _, err := rules.NewShaper([]rules.File{f}); err != nil {
		t.Fatal(err)
	}
	want := []rules.Shape{
		{Inputs: map[string]string{"x": "air/humidity"}, OnChange: true},
		{Inputs: map[string]string{"x": "air/temperature"}, Deadband: &rules.Deadband{Abs: 0.2}},
		{Inputs: map[string]string{"x": "load/load1"}, Deadband: &rules.Deadband{Abs: 5e-324, MaxSilence: time.Minute}},
	}
	if diff := cmp.Diff(want, f.Shape); diff != "" {
		t.Errorf("shapes (-want +got):\n%s", diff)
	}
}
