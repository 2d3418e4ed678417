package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/rules"
)

// maxPendingCaptures bounds the records of captures that wait for a buffer that
// refuses them: two captures of the largest size, below 1 MiB. A capture that does
// not fit is dropped whole and counted.
const maxPendingCaptures = 32

// captures takes the captures of rules to the event stream. The list is used with
// the pipeline's turn held.
type captures struct {
	pending []edgeagent.Event

	depth   atomic.Int64  // gauge of pending
	stored  atomic.Uint64 // records that the buffer has taken
	dropped atomic.Uint64 // records that it never got
}

// takeCaptures moves the captures among the effects to those that wait. Called with
// turn held.
func (p *pipeline) takeCaptures() {
	p.effects = slices.DeleteFunc(p.effects, func(x rules.Effect) bool {
		if x.Capture != nil {
			p.packCapture(x)
		}
		return x.Capture != nil
	})
}

func (p *pipeline) packCapture(x rules.Effect) {
	c := &p.captures
	parts, thinned, err := p.buffer.Capture(x.Capture.Readings)
	if err != nil {
		c.dropped.Add(1)
		p.logger.Error("capture cannot be stored", "id", x.Alarm, "error", err)
		return
	}
	if len(c.pending)+len(parts) > maxPendingCaptures {
		c.dropped.Add(uint64(len(parts)))
		return // why has been logged when they began to wait
	}
	for i, data := range parts {
		c.pending = append(c.pending, captureEvent(x, data, i+1, len(parts), thinned || x.Capture.Thinned))
	}
}

// captureEvent is part n of a capture.
func captureEvent(x rules.Effect, data []byte, n, parts int, thinned bool) edgeagent.Event {
	readings := len(x.Capture.Readings)
	ev := edgeagent.Event{
		At: x.At, Kind: edgeagent.KindCapture, ID: x.Alarm, N: uint32(n), Data: data,
		Text:  fmt.Sprintf("part %d of %d of %d readings from around the alarm", n, parts, readings),
		Attrs: map[string]string{"rule": x.Rule, "parts": strconv.Itoa(parts), "readings": strconv.Itoa(readings)},
	}
	if thinned {
		ev.Attrs["thinned"] = "true"
	}
	return ev
}

// appendCaptures hands what waits to the buffer; what it refuses is tried again at
// the next step. Called with turn held.
func (p *pipeline) appendCaptures(ctx context.Context) {
	c := &p.captures
	for len(c.pending) > 0 {
		_, err := p.buffer.AppendEvents(ctx, edgeagent.StreamEvent, c.pending[:1])
		if err != nil && !errors.Is(err, buffer.ErrInvalid) {
			p.refuse(&p.captureRefusal, err)
			break
		}
		if err != nil {
			c.dropped.Add(1)
			p.logger.Error("capture cannot be stored", "id", c.pending[0].ID, "part", c.pending[0].N, "error", err)
		} else {
			c.stored.Add(1)
			p.accepted.Add(1)
			p.captureRefusal.Store(nil)
		}
		c.pending = slices.Delete(c.pending, 0, 1) // clears its data, too
	}
	c.depth.Store(int64(len(c.pending)))
}

// dropCaptures gives up what waits. Called with turn held.
func (p *pipeline) dropCaptures() {
	c := &p.captures
	if n := len(c.pending); n > 0 {
		p.logger.Error("captures are lost, the buffer refused them to the end", "records", n)
		c.dropped.Add(uint64(n))
	}
	c.pending = nil
	c.depth.Store(0)
}
