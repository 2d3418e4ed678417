package replay

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// maxSeries bounds the series of a file: the buffer takes no more in one epoch.
const maxSeries = 10_000

// maxName bounds the name of a series, in bytes. The buffer refuses what it cannot
// describe in a block, and with it all readings that were handed on together.
const maxName = 512

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
	switch {
	case len(name) > maxName:
		return edgeagent.Series{}, fmt.Errorf("series name of %d bytes, at most %d fit", len(name), maxName)
	case !utf8.ValidString(name):
		return edgeagent.Series{}, fmt.Errorf("series name %q is not valid UTF-8", name)
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
