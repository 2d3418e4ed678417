package agent

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent/rules"
)

// effector carries out what rules want done. It neither blocks nor calls back.
type effector interface {
	Carry(ctx context.Context, list []rules.Effect)
}

// hastener is what actions need of the scheduler.
type hastener interface {
	Faster(key string, match func(sensor string) bool, every time.Duration)
}

// actions hands each effect of the rules to whoever carries it out.
type actions struct {
	logger   *slog.Logger
	outputs  *outputs
	programs *programs
	sensors  hastener
	unknown  atomic.Uint64 // effects that nobody could carry out
	pause    pause
}

// Carry implements effector.
func (a *actions) Carry(_ context.Context, list []rules.Effect) {
	for _, x := range list {
		switch {
		case x.Output != nil:
			if !a.outputs.set(x.Output.Pin, x.Output.High) {
				a.refuse(x, "output", x.Output.Pin)
			}
		case x.Sample != nil:
			a.sensors.Faster(x.Rule+"/"+x.Instance+"/"+x.Sample.Series, sensorsOf(x.Sample.Series), x.Sample.Every)
		case x.Run != nil:
			a.programs.add(x)
		}
	}
}

// refuse tells of an action on something that does not exist, which the check of a
// configuration finds before.
func (a *actions) refuse(x rules.Effect, what, name string) {
	n := a.unknown.Add(1)
	if a.pause.over(time.Duration(x.At.Run)) {
		a.logger.Warn("an action of a rule names nothing that is there", "rule", x.Rule, "alarm", x.Alarm, what, name, "refused", n)
	}
}
