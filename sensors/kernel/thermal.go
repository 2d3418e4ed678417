package kernel

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// Thermal is the configuration of the driver thermal.
type Thermal struct {
	// Zone is a type ("cpu-thermal") or a name ("thermal_zone0"). Without it all
	// zones are read, each as a metric of its own, named by type.
	Zone string `yaml:"zone"`
}

// Validate accepts any zone: which exist is seen when they are opened.
func (c *Thermal) Validate() error { return nil }

// zone is a directory of /sys/class/thermal.
type zone struct{ name, kind string }

// Open finds the zones.
func (c *Thermal) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	dir := under(env, "sys/class/thermal")
	zones := thermalZones(dir)
	chosen := slices.DeleteFunc(slices.Clone(zones), func(z zone) bool {
		return c.Zone != "" && c.Zone != z.kind && c.Zone != z.name
	})
	if len(chosen) == 0 {
		return nil, c.missing(zones)
	}
	s := &channels{env: env}
	for i, metric := range zoneMetrics(chosen) {
		if c.Zone != "" && len(chosen) == 1 {
			metric = "temperature"
		}
		z := chosen[i]
		s.list = append(s.list, channel{
			name:   "thermal zone " + z.kind,
			value:  attribute{path: filepath.Join(dir, z.name, "temp")},
			series: env.NewSeries(metric, "Cel", edgeagent.Gauge),
			exp10:  -3,
		})
	}
	return s, nil
}

func (c *Thermal) missing(zones []zone) error {
	var kinds []string
	for _, z := range zones {
		kinds = append(kinds, z.kind)
	}
	err := fmt.Errorf("no thermal zone %q", c.Zone)
	if c.Zone == "" {
		err = errors.New("no thermal zones")
	}
	return edgeagent.WithHint(err, found("zones", kinds)+" (key zone)")
}

// zoneMetrics names zones by their type, and by their number too where two share
// one.
func zoneMetrics(zones []zone) []string {
	var names, apart []string
	for _, z := range zones {
		names = append(names, metricName(z.kind))
		apart = append(apart, metricName(z.name))
	}
	return uniqueNames(names, apart)
}

func thermalZones(dir string) []zone {
	var zones []zone
	for _, name := range list(dir, "thermal_zone") {
		kind, err := readString(filepath.Join(dir, name, "type"))
		if err != nil {
			kind = name
		}
		zones = append(zones, zone{name, kind})
	}
	return zones
}
