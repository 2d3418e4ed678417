package agent

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// ErrRestart is what [Agent.Run] returns when the agent has stopped in order because
// a receiver proved that the buffer was put back to an older state. The next agent
// begins a new epoch. It is asked for at most once an hour; see [Run].
var ErrRestart = errors.New("the agent has to start again")

// Run makes an agent and runs it until ctx ends, and makes another one whenever one
// returns [ErrRestart].
func Run(ctx context.Context, o Options) error {
	for {
		a, err := New(o)
		if err != nil {
			return err
		}
		if err = a.Run(ctx); !errors.Is(err, ErrRestart) {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// rewindRule begins the ids of the agent's own alarms. No rule can have such a name.
const rewindRule = "agent:rewind/"

// maxRewinds bounds the proofs that wait to be looked at: one for each destination,
// and as many again. Beyond, they are dropped: each is in the buffer already.
const maxRewinds = 16

// alarmLimit bounds the append of an alarm about a rewind.
const alarmLimit = 10 * time.Second

// rewinds is what the agent knows of buffers that were put back.
type rewinds struct {
	proofs chan rewind
	alarms map[string]edgeagent.Event // the last record of each
}

// rewind is a proof of one destination.
type rewind struct {
	dest string
	uplink.Rewind
}

func newRewinds() rewinds {
	return rewinds{make(chan rewind, maxRewinds), map[string]edgeagent.Event{}}
}

// proved takes a proof; it never waits.
func (r *rewinds) proved(dest string, x uplink.Rewind) {
	select {
	case r.proofs <- rewind{dest, x}:
	default:
	}
}

// take takes a stored alarm. It reports whether it is one of ours.
func (r *rewinds) take(ev edgeagent.Event) bool {
	if !strings.HasPrefix(ev.ID, rewindRule) {
		return false
	}
	r.alarms[ev.ID] = ev
	return true
}

// watchRewinds raises alarms about rewinds until ctx ends or the agent has to start
// again.
func (a *Agent) watchRewinds(ctx context.Context, b *buffer.Buffer) (restart bool) {
	for _, ev := range a.rewinds.alarms { // whatever it was about, the agent started anew since
		if ev.Attrs["state"] != edgeagent.AlarmCleared {
			a.alarmRewind(ctx, b, ev.ID, edgeagent.AlarmCleared, "the agent has started again", ev.Attrs["destination"])
		}
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case x := <-a.rewinds.proofs:
			text := "the buffer was restored from an old copy: " + x.Err.Error() + "; "
			if x.Restart {
				text += "the agent starts again with a new epoch"
			} else {
				text += "a new epoch did not help, nothing is sent to this destination any more"
			}
			id := rewindRule + x.dest + "/" + x.Epoch.String()
			if last, known := a.rewinds.alarms[id]; known && last.Attrs["state"] == edgeagent.AlarmFiring && !x.Restart {
				continue // an uplink that was made anew found it out once more
			}
			a.alarmRewind(ctx, b, id, edgeagent.AlarmFiring, text, x.dest)
			if x.Restart {
				a.logger.Warn("agent starts again with a new epoch", "destination", x.dest, "epoch", x.Epoch)
				return true
			}
		}
	}
}

// alarmRewind appends a transition of an alarm about a rewind.
func (a *Agent) alarmRewind(ctx context.Context, b *buffer.Buffer, id, state, text, dest string) {
	ctx, cancel := context.WithTimeout(ctx, alarmLimit)
	defer cancel()
	ev := edgeagent.Event{
		At:   edgeagent.Instant{Wall: a.clock.Wall().UnixNano(), Run: int64(a.clock.Run())},
		Kind: edgeagent.KindAlarm, Severity: edgeagent.Critical,
		ID: id, N: a.rewinds.alarms[id].N + 1, Text: text[:min(len(text), edgeagent.MaxEventText)],
		Attrs: map[string]string{"state": state, "destination": dest},
	}
	if _, err := b.AppendEvents(ctx, edgeagent.StreamAlarm, []edgeagent.Event{ev}); err != nil {
		a.logger.Error("alarm about a restored buffer could not be stored", "destination", dest, "error", err)
		return
	}
	a.rewinds.alarms[id] = ev
}
