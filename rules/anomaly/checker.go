package anomaly

import (
	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

var _ rules.Checker = (*Watch)(nil)

// Faulty implements [rules.Checker]: the worst physical check that fires.
func (w *Watch) Faulty() (reason string, quality edgeagent.Quality, faulty bool) {
	for i := range w.monitor.state.checks {
		if !w.monitor.state.checks[i].firing {
			continue
		}
		r := checkReasons[i]
		if r == w.reason {
			return r.Describe(w.extent), checkQuality[i], true
		}
		return r.String(), checkQuality[i], true
	}
	return "", edgeagent.Good, false
}

// Tick implements [rules.Checker].
func (w *Watch) Tick(now int64) {
	if v := w.monitor.Tick(now); v.Alert {
		w.reason, w.extent = v.Reason, v.Extent
	}
}

// NextTimer implements [rules.Checker].
func (w *Watch) NextTimer() (at int64, ok bool) { return w.monitor.NextTimer() }

// Resume implements [rules.Checker].
func (w *Watch) Resume(now int64) { w.monitor.Resume(now) }
