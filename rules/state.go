package rules

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules/expression"
)

// State says where an instance stands, for status.
type State struct {
	Rule     string
	Instance string // "-" for a rule without a star
	Series   string // of the first input in When
	State    Phase
	// Unknown: the condition cannot be told now. While it fires, that is why it
	// does not clear.
	Unknown  bool
	Since    edgeagent.Instant // when State was entered; zero before the first evaluation; Run 0 if in an earlier run
	Severity edgeagent.Severity
	ID       string // of the alarm that fires, or fired last
	Text     string // of that alarm's last transition
	// Learning: a detector that the rule asks has not seen enough yet.
	Learning bool
	Check    bool // the check of a series with facts, which nobody wrote
}

// States returns the state of every instance, in order of the rules and then of
// the instances' names.
func (e *Engine) States() []State {
	ins := slices.Clone(e.instances)
	slices.SortFunc(ins, func(a, b *instance) int {
		return cmp.Or(cmp.Compare(a.rule.index, b.rule.index), cmp.Compare(a.name, b.name))
	})
	out := make([]State, len(ins))
	for i, in := range ins {
		out[i] = State{
			Rule:     in.rule.id,
			Instance: in.name,
			Series:   in.series[in.rule.first],
			State:    in.phase,
			Unknown:  in.when == expression.Unknown,
			Since:    in.since,
			Severity: in.severity,
			ID:       in.id,
			Text:     in.text,
			Learning: in.learning(),
			Check:    in.rule.builtin,
		}
	}
	return out
}

// Stats counts what an engine did since it was compiled.
type Stats struct {
	Rules       int
	Instances   int // at most MaxInstances
	Firing      int // instances that fire or are clearing
	Pending     int
	Readings    uint64 // taken
	Evaluations uint64 // of an instance's conditions
	Transitions uint64 // alarm events raised
	Refused     uint64 // times that a series, or a restored alarm, got no instance since there are too many
	// RefusedMemory counts the same for want of memory.
	RefusedMemory  uint64
	Late           uint64 // readings that came too late to be looked at
	EffectsDropped uint64 // nobody took them in time
	Stuck          uint64 // timers that were due again and again; a mistake in the engine
	Memory         int64  // bytes of state, as accounted
	MemoryLimit    int64  // 0: none
}

// Stats returns the counters.
func (e *Engine) Stats() Stats {
	s := e.stats
	s.Rules, s.Instances = len(e.Rules()), len(e.instances)
	s.Memory, s.MemoryLimit = e.memory, int64(e.opts.Memory)
	for _, in := range e.instances {
		switch in.machine.phase {
		case Firing, Clearing:
			s.Firing++
		case Pending:
			s.Pending++
		}
	}
	return s
}

// Health is degraded while there are series without the instances they should
// have. An alarm is not bad health.
func (e *Engine) Health() edgeagent.Health {
	switch {
	case e.stats.RefusedMemory > 0:
		return edgeagent.Health{
			Level: edgeagent.Degraded,
			Code:  "rules-memory",
			Text:  fmt.Sprintf("some series are not watched: rules may take %v", e.opts.Memory),
			Hint:  `raise "rules.memory", or shorten what "edgeagent rules check" shows as large`,
		}
	case e.stats.Refused == 0:
		return edgeagent.Health{}
	}
	return edgeagent.Health{
		Level: edgeagent.Degraded,
		Code:  "rules-instances",
		Text:  fmt.Sprintf("some series are not watched: rules have more than %d instances", MaxInstances),
		Hint:  `narrow the "*" under inputs in the files that rules.files names`,
	}
}

// learning reports whether a detector has no score yet.
func (in *instance) learning() bool {
	for i := range in.calls {
		if b := &in.calls[i]; (b.fn == anomalyFn || b.fn == anomalyAlertFn) && !expression.Known(b.track.score) {
			return true
		}
	}
	return false
}

// AlarmIDs returns the ids of the alarms that a loaded state knows. Whoever reads
// the alarm stream for [Engine.Restore] keeps their last records, the cleared ones
// included.
func (e *Engine) AlarmIDs() []string {
	var ids []string
	for _, in := range e.instances {
		if in.id != "" && in.rule.alerts {
			ids = append(ids, in.id)
		}
	}
	return ids
}
