package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// refusalShown is how long a refused append stays in the status after it.
const refusalShown = 30 * time.Second

// maxRuleStates bounds the instances in the status.
const maxRuleStates = 200

var _ api.Source = (*Agent)(nil)

// Status implements api.Source. Before Run has started the parts it says so.
func (a *Agent) Status(context.Context) api.Status {
	a.mu.Lock()
	b, destinations, leaves, started, stopped := a.buffer, a.destinations, a.leaves, a.started, a.stopped
	a.mu.Unlock()
	s := api.Status{
		Version: a.opts.Version, Tenant: a.cfg.Device.Tenant, Device: a.cfg.Device.ID,
		Time:  api.At(a.clock.Wall()),
		Clock: api.Clock{Synced: a.clock.Synced(), Source: string(a.cfg.Clock.Source)},
	}
	if b == nil {
		s.Judge(warning("agent", edgeagent.Health{Level: edgeagent.Degraded, Code: "agent-starting", Text: "the agent is starting"}))
		return s
	}
	s.Run, s.Started = b.RunID(), api.At(time.Unix(0, started.Wall))
	s.Uptime = api.SecondsOf(a.clock.Run() - time.Duration(started.Run))
	s.Sensors = a.sensorStatus()
	s.Buffer = a.bufferStatus(b)
	s.Buffer.FillIn = api.SecondsOf(fillIn(s.Buffer, a.clock.Run()-time.Duration(started.Run)))
	for _, d := range destinations {
		s.Uplinks = append(s.Uplinks, a.uplinkStatus(d))
	}
	s.Rules = a.ruleStatus()
	others := a.otherWarnings(leaves)
	if stopped {
		others = append(others, warning("agent", edgeagent.Health{Level: edgeagent.Degraded, Code: "agent-stopped", Text: "the agent has stopped"}))
	}
	s.Judge(others...)
	return s
}

// otherWarnings collects what belongs to no part of the status: leaves that were
// restarted, the API's own health, a clock that nobody vouches for, alarms and rules
// in trouble.
func (a *Agent) otherWarnings(leaves []*leaf) []api.Warning {
	var out []api.Warning
	add := func(part string, h edgeagent.Health) {
		if h.Level != edgeagent.OK {
			out = append(out, warning(part, h))
		}
	}
	for _, l := range leaves {
		add(l.name, l.Health())
	}
	add("api", a.api.Health())
	add("models", a.models.Health())
	add("sampling", a.pipeline.relief.Health())
	if !a.clock.Synced() {
		add("clock", edgeagent.Health{
			Level: edgeagent.Degraded, Code: "clock-unsynced",
			Text: "the clock is not synchronised, times may be wrong",
			Hint: `start a time service, or set "clock.source: trusted" if something else keeps the time right`,
		})
	}
	for _, h := range a.pipeline.troubles() {
		add("rules", h)
	}
	for _, h := range a.outputs.troubles() {
		add("outputs", h)
	}
	for _, h := range a.programs.troubles() {
		add("programs", h)
	}
	return out
}

// troubles says what is wrong with alarms and rules.
func (p *pipeline) troubles() []edgeagent.Health {
	var out []edgeagent.Health
	if r := p.alarmRefusal.Load(); r != nil {
		out = append(out, edgeagent.Health{
			Level: edgeagent.Failed, Code: "alarms-pending", Since: time.Unix(0, r.at.Wall),
			Text: fmt.Sprintf("%d alarm transitions wait for the buffer: %v", p.pendingAlarms.Load(), r.err), Hint: hintOf(r.err),
		})
	}
	if p.keeper != nil {
		if r := p.keeper.last.Load(); r != nil {
			out = append(out, edgeagent.Health{
				Level: edgeagent.Degraded, Code: "rules-state", Since: time.Unix(0, r.at.Wall),
				Text: fmt.Sprintf("the state of the rules is not saved: %v", r.err),
				Hint: `check the directory beside "buffer.dir" and the disk it is on`,
			})
		}
	}
	if n := p.alarmsDropped.Load(); n > 0 {
		out = append(out, edgeagent.Health{
			Level: edgeagent.Failed, Code: "alarms-dropped",
			Text: fmt.Sprintf("%d alarm transitions were dropped while the buffer refused them", n),
			Hint: `look at the buffer with "edgeagent status"`,
		})
	}
	if n := p.captures.dropped.Load(); n > 0 {
		out = append(out, edgeagent.Health{
			Level: edgeagent.Degraded, Code: "captures-dropped",
			Text: fmt.Sprintf("%d records of readings from around alarms were dropped while the buffer refused them", n),
			Hint: `look at the buffer with "edgeagent status"`,
		})
	}
	if r := p.lastPanic.Load(); r != nil {
		out = append(out, edgeagent.Health{
			Level: edgeagent.Failed, Code: "rules-panicked", Since: time.Unix(0, r.at.Wall),
			Text: fmt.Sprintf("%d steps of the rules were given up, the last for a %v", p.panics.Load(), r.err),
			Hint: `this is a mistake in the program: report the stack in the log; "edgeagent run" starts the rules anew`,
		})
	}
	return out
}

func warning(part string, h edgeagent.Health) api.Warning {
	return api.Warning{PartHealth: api.PartHealthOf(h), Part: part}
}

func (a *Agent) sensorStatus() []api.Sensor {
	now := int64(a.clock.Run())
	stats := a.scheduler.Stats()
	out := make([]api.Sensor, len(stats))
	for i, s := range stats {
		out[i] = sensorOf(s, now)
	}
	return out
}

func sensorOf(s sensors.SourceStats, now int64) api.Sensor {
	v := api.Sensor{
		Name: s.Name, Driver: s.Driver, Interval: api.SecondsOf(s.Interval), Health: api.PartHealthOf(s.Health),
		Samples: s.Samples, Readings: s.Readings, Errors: s.Errors, Missed: s.Missed, LastError: s.LastError,
	}
	if s.LastSample.Wall != 0 {
		v.LastSample = api.At(time.Unix(0, s.LastSample.Wall))
	}
	for _, r := range s.Last {
		v.Values = append(v.Values, api.ValueOf(r, time.Duration(now-r.At.Run)))
	}
	return v
}

func (a *Agent) bufferStatus(b *buffer.Buffer) api.Buffer {
	st := b.Stats()
	v := api.Buffer{
		Dir: a.dir, Health: api.PartHealthOf(a.bufferHealth(b)), Epoch: b.Epoch(), Run: b.RunID(),
		Streams: map[edgeagent.Stream]api.Stream{},
		Bytes:   st.Used, MaxBytes: st.MaxBytes, Pressure: b.Pressure(),
		Commits: st.Commits + st.StateCommits, Fsyncs: st.Syncs, Series: uint64(st.Series),
		Pending: st.Pending, HeadUsed: st.HeadUsed, HeadSize: st.HeadSize, Memory: st.Memory, Forgotten: st.Forgotten,
	}
	var oldest int64
	for s, x := range st.Streams {
		v.Streams[s] = api.Stream{Records: x.Stored, Next: x.Next, Bytes: x.Bytes}
		if s != edgeagent.StreamRollup { // nobody appended those
			v.Appended += x.Appended
		}
		v.Evicted += x.Evicted
		v.RolledUp += x.RolledUp
		v.Segments += uint64(x.Segments)
		if x.Oldest != 0 && (oldest == 0 || x.Oldest < oldest) {
			oldest = x.Oldest
		}
	}
	if oldest != 0 {
		v.Oldest = api.At(time.Unix(0, oldest))
	}
	for _, g := range b.Gaps() {
		v.Gaps++
		v.GapRecords += g.AtMost
	}
	return v
}

// Before this much is known, nothing is said about when the buffer will be full.
const (
	fillAfter   = time.Minute
	fillRecords = 100
)

// fillIn estimates how long the budget lasts while nothing is confirmed: what is
// free of it, at the rate of this run and the size of the records stored.
func fillIn(v api.Buffer, uptime time.Duration) time.Duration {
	var stored, bytes float64
	for _, s := range v.Streams {
		stored += float64(s.Records)
		bytes += float64(s.Bytes)
	}
	if uptime < fillAfter || stored < fillRecords || v.Appended < fillRecords || bytes == 0 {
		return 0
	}
	perSecond := float64(v.Appended) / uptime.Seconds() * bytes / stored
	seconds := float64(v.MaxBytes) * (1 - v.Pressure) / perSecond
	return time.Duration(min(seconds, float64(maxFillIn/time.Second))) * time.Second
}

// maxFillIn is where "until full" stops being news.
const maxFillIn = 10 * 365 * 24 * time.Hour

// bufferHealth is the buffer's own word, or the last append that it refused if that
// is recent and the buffer says nothing.
func (a *Agent) bufferHealth(b *buffer.Buffer) edgeagent.Health {
	h := b.Health()
	r := a.pipeline.lastRefusal.Load()
	if h.Level != edgeagent.OK || r == nil || a.clock.Run()-time.Duration(r.at.Run) > refusalShown {
		return h
	}
	return edgeagent.Health{
		Level: edgeagent.Failed, Code: "buffer-refused", Since: time.Unix(0, r.at.Wall),
		Text: fmt.Sprintf("the buffer refused %d readings: %v", a.pipeline.refused.Load(), r.err), Hint: hintOf(r.err),
	}
}

func (a *Agent) uplinkStatus(d *destination) api.Uplink {
	u := d.uplink()
	if u == nil {
		return api.Uplink{Name: d.cfg.Name, Format: d.cfg.Format, Ack: string(d.cfg.Ack), State: string(uplink.Stopped)}
	}
	st := u.Stats()
	v := api.Uplink{
		Name: st.Name, Link: st.Link, Format: st.Format, Ack: string(st.Ack), State: string(st.State),
		Since: api.At(st.Since), Health: api.PartHealthOf(u.Health()), LastError: st.LastError,
		LastAck: api.At(st.LastAck), Connects: st.Connects,
		Messages: st.Sent.Messages, Bytes: st.Sent.Bytes, Sent: st.Sent.Records, Accepted: st.Accepted.Records,
		Confirmed: st.Confirmed.Records, Resent: st.Resent.Records,
		Moved: st.Moved, DeadLetters: st.DeadLetters, Replays: st.Replays,
		WireBytes: st.WireBytes, QuotaUsed: uint64(max(st.QuotaUsed, 0)), QuotaBytes: uint64(st.QuotaLimit),
		InFlight: uint64(st.InFlight), Waiting: st.Unconfirmed.Records, ByStream: st.Backlog,
	}
	if !st.NextRetry.IsZero() {
		v.RetryIn = api.SecondsOf(max(0, st.NextRetry.Sub(a.clock.Wall())))
	}
	for _, n := range st.Backlog {
		v.Backlog += n
	}
	return v
}

func (a *Agent) ruleStatus() api.Rules {
	a.pipeline.mu.Lock()
	states, stats, health := a.engine.States(), a.engine.Stats(), a.engine.Health()
	a.pipeline.mu.Unlock()
	v := api.Rules{
		Health: api.PartHealthOf(health), Loaded: uint64(len(a.engine.Rules())), Firing: uint64(stats.Firing), Evaluated: stats.Evaluations,
	}
	// The firing ones first: the list is bounded, and they are what counts.
	for _, firing := range []bool{true, false} {
		for _, s := range states {
			isFiring := s.State == rules.Firing || s.State == rules.Clearing
			if s.Check && s.State == rules.Idle {
				continue // nobody has asked for it, and it has nothing to say
			}
			if isFiring == firing && len(v.Instances) < maxRuleStates {
				v.Instances = append(v.Instances, ruleOf(s))
			}
		}
	}
	return v
}

func ruleOf(s rules.State) api.Rule {
	v := api.Rule{ID: s.Rule, State: s.State.String(), Severity: s.Severity, Text: s.Text, Learning: s.Learning}
	if s.Instance != "-" {
		v.Instance = s.Instance
	}
	if s.Since.Wall != 0 {
		v.Since = api.At(time.Unix(0, s.Since.Wall))
	}
	return v
}
