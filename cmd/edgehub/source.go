package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/hub/web"
)

// source shows a hub to the page and the API.
type source struct {
	name      string
	started   time.Time
	sink      string
	guarantee string
	broker    string // its address, "" if there is none
	hub       *hub.Hub
	inputs    []*feed
}

var _ web.Source = (*source)(nil)

// Status implements [web.Source].
func (s *source) Status(context.Context) web.Status {
	st := s.hub.Stats()
	now := time.Now()
	out := web.Status{
		Name: s.name, Version: version, Started: s.started.UTC().Truncate(time.Millisecond), UptimeS: now.Sub(s.started).Seconds(),
		Sink:    web.Sink{Name: s.sink, Guarantee: s.guarantee, Errors: st.SinkErrors, Error: st.SinkError},
		Broker:  s.broker,
		Devices: len(st.Devices), Messages: st.Messages, Bytes: st.Bytes, Records: st.Records, Resent: st.Resent,
		BadTopics: st.BadTopics, Refused: st.Refused, Marks: st.Marks, Acks: st.Acks, AckErrors: st.AckErrors, Replays: st.Replays, Queued: st.Queued,
		Quarantined: map[string]uint64{}, QuarantineBytes: st.QuarantineBytes, QuarantineDropped: st.QuarantineDropped,
	}
	for cause, n := range st.Quarantined {
		out.Quarantined[cause.String()] = n
	}
	for _, d := range st.Devices {
		if now.Sub(d.Seen) > web.SilentAfter {
			out.Silent++
		}
		for _, e := range d.Epochs {
			for _, x := range e.Streams {
				out.Missing += x.Missing
				out.Lost += x.Lost
			}
		}
	}
	for _, in := range s.inputs {
		out.Inputs = append(out.Inputs, in.state())
	}
	for _, w := range warnings(out) {
		out.Health = max(out.Health, w.Level)
		out.Warnings = append(out.Warnings, w)
	}
	return out
}

// warnings says what of a status somebody should look at.
func warnings(st web.Status) (out []edgeagent.Health) {
	if st.Sink.Error != "" {
		out = append(out, edgeagent.Health{
			Level: edgeagent.Failed, Code: "sink-fails", Text: "nothing can be stored: " + st.Sink.Error,
			Hint: "nothing is lost: gateways keep what is not acknowledged, and the hub tries again",
		})
	}
	for _, in := range st.Inputs {
		if !in.Connected {
			out = append(out, edgeagent.Health{
				Level: edgeagent.Degraded, Code: "input-offline", Text: fmt.Sprintf("input %s has no connection: %s", in.Name, cmp.Or(in.Error, "not yet")),
				Hint: `look at "inputs" in the configuration: address, login, certificates`,
			})
		}
	}
	if n := st.Quarantined["conflict"]; n > 0 {
		out = append(out, edgeagent.Health{
			Level: edgeagent.Degraded, Code: "conflict", Text: fmt.Sprintf("%d blocks bear numbers that are held with other content", n),
			Hint: "a gateway's buffer was copied or put back: it begins a new epoch by itself, see docs/explanation/delivery.md",
		})
	}
	if n := st.Quarantined["poison"] + st.Quarantined["format"]; n > 0 {
		out = append(out, edgeagent.Health{
			Level: edgeagent.Degraded, Code: "quarantine", Text: fmt.Sprintf("%d blocks could not be read since the start", n),
			Hint: "somebody publishes under ea/v1/ what is no block, or it was damaged on the way",
		})
	}
	if st.Refused > 0 {
		out = append(out, edgeagent.Health{
			Level: edgeagent.Degraded, Code: "refused", Text: fmt.Sprintf("%d messages went over a bound of the hub", st.Refused),
			Hint: "look at the log for which bound and whose",
		})
	}
	return out
}

// Devices implements [web.Source].
func (s *source) Devices(context.Context) ([]web.Device, error) {
	now := time.Now()
	var out []web.Device
	for _, d := range s.hub.Stats().Devices {
		out = append(out, device(d, now))
	}
	return out, nil
}

func device(d hub.DeviceStats, now time.Time) web.Device {
	out := web.Device{Tenant: d.Tenant, Device: d.Device, Complete: true}
	if !d.Seen.IsZero() {
		out.Seen, out.SilentS = d.Seen.UTC().Truncate(time.Millisecond), now.Sub(d.Seen).Seconds()
	}
	var newest time.Time
	for _, e := range d.Epochs {
		out.Series = max(out.Series, e.Series)
		out.Waiting += e.Waiting
		for _, x := range e.Streams {
			out.Records += x.Held
			out.Missing += x.Missing
			out.Lost += x.Lost
			out.Resent += x.Resent
			out.Conflicts += x.Conflicts
			out.Complete = out.Complete && x.Complete
			if x.Stream == edgeagent.StreamTelemetry && x.Newest.After(newest) {
				newest = x.Newest
			}
			out.Streams = append(out.Streams, web.Stream{
				Epoch: e.Epoch, Stream: x.Stream, Held: x.Held, Top: x.Top, Next: x.Next, Missing: x.Missing, Lost: x.Lost,
				Resent: x.Resent, Conflicts: x.Conflicts, Complete: x.Complete, Newest: x.Newest.UTC(),
			})
		}
	}
	if !newest.IsZero() {
		lag := now.Sub(newest).Seconds()
		out.LagS = &lag
	}
	return out
}

// Gaps implements [web.Source].
func (s *source) Gaps(context.Context) ([]web.Gap, error) { return gaps(s.hub.Gaps()), nil }

func gaps(list []hub.Gap) []web.Gap {
	out := make([]web.Gap, 0, len(list))
	for _, g := range list {
		out = append(out, web.Gap{
			Tenant: g.Tenant, Device: g.Device, Epoch: g.Epoch, Stream: g.Stream,
			From: g.From, To: g.To, Reason: g.Reason, AtMost: g.AtMost,
		})
	}
	return out
}

// Replay implements [web.Source].
func (s *source) Replay(_ context.Context, tenant, device string, all bool) (web.Replay, error) {
	n, err := s.hub.Ask(tenant, device, all)
	if errors.Is(err, hub.ErrUnknownDevice) {
		err = fmt.Errorf("%w: %s of tenant %s", web.ErrUnknown, device, tenant)
	}
	return web.Replay{Missing: n}, err
}

// archive lets readings be asked for.
type archive struct{ reader hub.Reader }

var _ web.Store = archive{}

// maxLast is for how many series of a device the last reading is looked up.
const maxLast = 500

// Series implements [web.Store].
func (a archive) Series(ctx context.Context, tenant, device string) ([]web.Series, error) {
	list, err := a.reader.Series(ctx, tenant, device)
	if err != nil {
		return nil, err
	}
	out := make([]web.Series, 0, len(list))
	done := map[string]*web.Row{} // series of one name share the last reading
	for _, s := range list {
		x := web.Series{Name: s.Key.Name(), Unit: s.Key.Unit, Kind: s.Key.Kind.String(), Tags: s.Key.Tags.Map(), Labels: s.Key.Labels.Map()}
		last, ok := done[x.Name]
		if !ok && len(done) < maxLast {
			if last, err = a.last(ctx, tenant, device, x.Name); err != nil {
				return nil, err
			}
			done[x.Name] = last
		}
		x.Last = last
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b web.Series) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func (a archive) last(ctx context.Context, tenant, device, series string) (*web.Row, error) {
	for x, err := range a.reader.Read(ctx, hub.Query{Tenant: tenant, Device: device, Series: series, Limit: 1, Newest: true}) {
		if err != nil {
			return nil, err
		}
		row := shown(x)
		return &row, nil
	}
	return nil, nil //nolint:nilnil // a series without readings
}

// Query implements [web.Store].
func (a archive) Query(ctx context.Context, q web.Query, row func(web.Row) error) error {
	ask := hub.Query{Tenant: q.Tenant, Device: q.Device, Series: q.Series}
	if q.Since != math.MinInt64 {
		ask.From = time.Unix(0, q.Since)
	}
	if q.Until != math.MaxInt64 {
		ask.To = time.Unix(0, q.Until)
	}
	for x, err := range a.reader.Read(ctx, ask) {
		if err != nil {
			return err
		}
		if err := row(shown(x)); err != nil {
			return err
		}
	}
	return nil
}

// shown is a stored reading as the API shows it.
func shown(x hub.Stored) web.Row {
	quality := x.Row.Quality.String()
	if x.Unsynced && x.Row.Quality == edgeagent.Good {
		quality = "unsynced"
	}
	return web.Row{Time: x.Row.Time, Value: x.Row.Value, Quality: quality, Tags: x.Row.Series.Key().Tags.String()}
}
