package sensors

import (
	"errors"
	"slices"

	"github.com/edgeagent/edgeagent"
)

// fail counts an error and degrades the source.
func (r *runner) fail(code string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := errors.AsType[*sinkError](err); ok && code != CodePanic {
		code = CodeSink
	}
	if code == CodePartial || code == CodeSink {
		r.holdUntil = r.clock.Run() + partialHold
	}
	r.st.Errors++
	r.st.LastError = err.Error()
	h := edgeagent.Health{Level: edgeagent.Degraded, Code: code, Text: err.Error()}
	if hinter, ok := errors.AsType[edgeagent.Hinter](err); ok {
		h.Hint = hinter.Hint()
	}
	r.setHealth(h)
}

// succeeded notes a sample without any error.
func (r *runner) succeeded() {
	r.retry.reset()
	r.failing = 0
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.clock.Run() >= r.holdUntil {
		r.setHealth(edgeagent.Health{})
	}
}

// ended notes the orderly end of a source. An end for another reason than that
// nothing is left leaves it degraded.
func (r *runner) ended(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := edgeagent.Health{Code: CodeEnded, Text: ErrEnd.Error()}
	if err.Error() != ErrEnd.Error() {
		h.Level, h.Text = edgeagent.Degraded, err.Error()
		r.st.Errors++
		r.st.LastError = err.Error()
	}
	r.setHealth(h)
}

// markStuck is called by the watchdog of a call.
func (r *runner) markStuck() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.inCall || r.clock.Run() < r.callEnds {
		return // it returned just now, and the next call may be under way
	}
	r.setHealth(edgeagent.Health{
		Level: edgeagent.Degraded, Code: CodeStuck,
		Text: "a call into the driver has not returned for " + r.cfg.Timeout.String(),
		Hint: "check the device behind it; the agent goes on without this sensor until the call returns",
	})
}

// setHealth must be called with mu held. It logs changes of level and code only:
// the text of a repeated failure may differ each time.
func (r *runner) setHealth(h edgeagent.Health) {
	old := r.st.Health
	if h.Level == old.Level && h.Code == old.Code {
		h.Since = old.Since
		r.st.Health = h
		return
	}
	h.Since = r.clock.Wall()
	r.st.Health = h
	switch {
	case h.Level > edgeagent.OK:
		r.log.Warn("sensor degraded", "code", h.Code, "error", h.Text, "hint", h.Hint)
	case old.Level > edgeagent.OK:
		r.log.Info("sensor recovered", "code", old.Code)
	case h.Code == CodeEnded:
		r.log.Info("source has ended")
	}
}

// abandon gives up on a call into the driver that does not return and reports
// whether there was one. With force it gives up on whatever the runner does.
func (r *runner) abandon(force bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.inCall && !force {
		return false
	}
	r.abandoned = true
	r.log.Warn("sensor left behind: its driver does not return", "code", CodeStuck)
	return true
}

// stats returns a copy that shares nothing with the runner.
func (r *runner) stats() SourceStats {
	now := r.clock.Run()
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.st
	st.Last = slices.Clone(st.Last)
	if r.inCall && !r.paced && now > r.callEnds { // the ticks that a stuck call is missing
		st.Missed += r.grid.ticks(r.callEnds, now)
	}
	return st
}
