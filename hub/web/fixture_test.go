package web

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent"
)

// hostile is a name as a device could give itself.
const hostile = `<img src=x onerror=alert(1)>"}` + "\n"

var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// fake is a hub with two devices.
type fake struct {
	records atomic.Uint64
	asked   atomic.Pointer[Replay]
	level   edgeagent.Level
}

func (f *fake) Status(context.Context) Status {
	return Status{
		Name: "hub", Version: "v1", Started: start, UptimeS: 61, Health: f.level,
		Sink: Sink{Name: "sqlite", Guarantee: "exactly once"}, Devices: 2, Records: f.records.Load(),
		Inputs:      []Input{{Name: "mqtt", Connected: true, Delivered: 7}},
		Quarantined: map[string]uint64{"poison": 2},
	}
}

func (f *fake) Devices(context.Context) ([]Device, error) {
	lag := 0.5
	return []Device{
		{
			Tenant: "default", Device: "gw-1", Seen: start, Records: f.records.Load(), Complete: true, LagS: &lag,
			Streams: []Stream{{Epoch: 9, Stream: edgeagent.StreamTelemetry, Held: 10, Top: 10, Next: 11, Complete: true}},
		},
		{Tenant: "acme", Device: hostile, Missing: 3},
	}, nil
}

func (f *fake) Gaps(context.Context) ([]Gap, error) {
	return []Gap{
		{Tenant: "acme", Device: hostile, Epoch: 9, Stream: edgeagent.StreamTelemetry, From: 4, To: 6},
		{Tenant: "default", Device: "gw-1", Epoch: 9, Stream: edgeagent.StreamTelemetry, From: 1, To: 2, Reason: "evicted", AtMost: 2},
	}, nil
}

func (f *fake) Replay(_ context.Context, tenant, device string, all bool) (Replay, error) {
	if device != "gw-1" || tenant != "default" {
		return Replay{}, fmt.Errorf("%w: %s", ErrUnknown, device)
	}
	r := Replay{Missing: 3}
	if all {
		r.Missing = 5
	}
	f.asked.Store(&r)
	return r, nil
}

func (f *fake) Series(_ context.Context, _, device string) ([]Series, error) {
	if device == "nothing" {
		return nil, nil
	}
	return []Series{{Name: "boiler/temperature", Unit: "Cel", Kind: "gauge", Last: &Row{Time: start.UnixNano(), Value: 21.5, Quality: "good"}}}, nil
}

// Query returns a reading a second, the fifth of which is NaN.
func (f *fake) Query(_ context.Context, q Query, row func(Row) error) error {
	if q.Series == "broken" {
		return fmt.Errorf("disk is gone")
	}
	for i := range int64(10) {
		r := Row{Time: start.UnixNano() + i*1e9, Value: float64(i), Quality: "good"}
		if i == 5 {
			r.Value, r.Quality = math.NaN(), "bad"
		}
		if r.Time < q.Since || r.Time >= q.Until {
			continue
		}
		if err := row(r); err != nil {
			return err
		}
	}
	if q.Series == "breaks" {
		return fmt.Errorf("disk is gone")
	}
	return nil
}
