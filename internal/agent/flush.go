package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

var _ api.FlushSource = (*Agent)(nil)

// Flush implements api.FlushSource: all destinations at once, each for itself.
func (a *Agent) Flush(ctx context.Context) api.Flush {
	a.mu.Lock()
	destinations := a.destinations
	a.mu.Unlock()
	start := time.Now()
	out := api.Flush{OK: true, Destinations: make([]api.FlushDestination, len(destinations))}
	var wg sync.WaitGroup
	for i, d := range destinations {
		wg.Go(func() { out.Destinations[i] = d.flushed(ctx) })
	}
	wg.Wait()
	for _, d := range out.Destinations {
		out.OK = out.OK && d.OK
	}
	out.Took = api.SecondsOf(time.Since(start))
	return out
}

// flushed flushes and says what is left.
func (d *destination) flushed(ctx context.Context) api.FlushDestination {
	out := api.FlushDestination{Name: d.cfg.Name, State: api.UplinkStopped}
	before, ok := d.stats()
	if !ok {
		out.Error = "the uplink is not running"
		return out
	}
	for _, n := range before.Backlog {
		out.Held += n
	}
	err := d.flush(ctx)
	after, _ := d.stats()
	out.State, out.OK, out.ByStream = string(after.State), err == nil, map[edgeagent.Stream]uint64{}
	for s, n := range after.Backlog {
		if n > 0 {
			out.ByStream[s] = n
		}
		out.Left += n
	}
	out.Confirmed = after.Confirmed.Records - min(before.Confirmed.Records, after.Confirmed.Records)
	if err != nil {
		out.Error, out.Hint = d.whyNot(err)
	}
	return out
}

// whyNot prefers what is wrong with the uplink to the fact that time ran out.
func (d *destination) whyNot(err error) (text, hint string) {
	if u := d.uplink(); u != nil {
		if h := u.Health(); h.Level != edgeagent.OK {
			return h.Text, h.Hint
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "not everything was confirmed in time", `wait longer with "edgeagent sync flush --timeout 10m"`
	}
	return err.Error(), hintOf(err)
}

func (d *destination) stats() (s uplink.Stats, ok bool) {
	u := d.uplink()
	if u == nil {
		return s, false
	}
	return u.Stats(), true
}
