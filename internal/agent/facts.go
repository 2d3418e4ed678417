package agent

import (
	"maps"
	"math"
	"slices"

	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/sensors"
)

// factsOf is what the rules know of series without a rule file: the limits that a sensor's
// configuration names, else those of its chip's data sheet. They check them.
func factsOf(list []sensors.Config) map[string]rules.Facts {
	sheets := map[string]*sensors.Datasheet{}
	for _, d := range Drivers() {
		sheets[d.Name] = d.Datasheet
	}
	out := map[string]rules.Facts{}
	for _, c := range list {
		for _, m := range metricsOf(c, sheets[c.Driver]) {
			if _, calibrated := c.Calibrate[m.Name]; calibrated {
				continue // the sheet speaks of what the chip says, not of what is right
			}
			f := rules.Facts{MaxRate: rules.Rate(m.MaxRate), Resolution: m.Step}
			if m.Min < m.Max {
				f.Min, f.Max = &m.Min, &m.Max
			}
			out[c.Name+"/"+m.Name] = f
		}
		for metric, l := range c.Limits {
			f := out[c.Name+"/"+metric]
			if l.Min != nil || l.Max != nil {
				f.Min, f.Max = l.Min, l.Max
			}
			if l.MaxRate > 0 {
				f.MaxRate = rules.Rate(l.MaxRate)
			}
			out[c.Name+"/"+metric] = f
		}
	}
	return out
}

// metricsOf returns what a sensor measures: some chips measure what they are told to.
func metricsOf(c sensors.Config, sheet *sensors.Datasheet) []sensors.Metric {
	if d, ok := c.Options.(sensors.Described); ok {
		return d.Metrics()
	}
	if sheet == nil {
		return nil
	}
	return sheet.Metrics
}

// deadbands are the shapes that the sensors' configuration asks for.
func deadbands(list []sensors.Config) rules.File {
	f := rules.File{Version: 1}
	for _, c := range list {
		for _, metric := range slices.Sorted(maps.Keys(c.Deadband)) {
			s := rules.Shape{Inputs: map[string]string{"x": c.Name + "/" + metric}}
			width := c.Deadband[metric]
			if width == 0 && c.MaxSilence == 0 {
				s.OnChange = true
			} else {
				s.Deadband = &rules.Deadband{Abs: max(width, math.SmallestNonzeroFloat64), MaxSilence: c.MaxSilence}
			}
			f.Shape = append(f.Shape, s)
		}
	}
	return f
}
