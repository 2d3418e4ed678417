package replay

import (
	"errors"
	"fmt"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// maxSeries bounds the series of a file: the buffer takes no more in one epoch.
const maxSeries = 10_000

// names knows the series of a file.
type names struct {
	env    sensors.Env
	unit   string
	single edgeagent.Series // of a file of one series
	known  map[string]edgeagent.Series
}

// of returns the series of a record.
func (n *names) of(r record) (edgeagent.Series, error) {
	if r.series == nil {
		return n.single, nil
	}
	if s, ok := n.known[string(r.series)]; ok {
		return s, nil
	}
	return n.learn(string(r.series))
}

func (n *names) learn(name string) (edgeagent.Series, error) {
	if len(n.known) >= maxSeries {
		return edgeagent.Series{}, fmt.Errorf("more than %d series", maxSeries)
	}
	sensor, metric := edgeagent.SplitName(name)
	if metric == "" {
		return edgeagent.Series{}, errors.New("series name ends with a slash")
	}
	env := n.env
	if sensor != "" {
		env.Sensor = sensor
	}
	s := env.NewSeries(metric, n.unit, edgeagent.Gauge)
	n.known[name] = s
	return s, nil
}
