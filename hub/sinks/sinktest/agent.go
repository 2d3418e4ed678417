package sinktest

import (
	"fmt"
	"math"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/hub"
)

const (
	tenant = "acme"
	series = 5 // of an agent
	second = int64(time.Second)
	start  = 1_772_323_200 * second // 2026-03-01 00:00 UTC
)

// agent is one epoch of a device. Everything about a record follows from its number.
type agent struct {
	device   string
	epoch    edgeagent.Epoch
	unsynced edgeagent.Seq // telemetry below has unsynced times, of run 1
	enc      block.Encoder
}

func (a *agent) topic() string { return "ea/v1/" + tenant + "/" + a.device + "/d/live" }

func (a *agent) key(id uint32) edgeagent.SeriesKey {
	k := edgeagent.SeriesKey{
		Sensor: "plant/line 1", Metric: fmt.Sprintf("m%d", id), Unit: "Cel", Resolution: edgeagent.DefaultResolution,
		Tags: edgeagent.MakePairs(map[string]string{"side": "left, \"upper\""}),
	}
	if id == series {
		k.Kind, k.Unit, k.Labels = edgeagent.State, "", edgeagent.MakePairs(map[string]string{"0": "closed", "1": "open"})
	}
	return k
}

// run changes every 40 records.
func (a *agent) run(s edgeagent.Seq) edgeagent.Run { return edgeagent.Run(1 + (s-1)/40) }

// row has readings of 16 days, so that sinks that keep days apart have something to do.
func (a *agent) row(s edgeagent.Seq) block.Row {
	v := float64(s) / 3
	switch s % 17 {
	case 3:
		v = math.Inf(-1)
	case 5:
		v = math.Copysign(0, -1)
	}
	return block.Row{
		Series: uint32(s%series) + 1, Time: start + int64(s)*8640*second + int64(s)*1e6,
		Value: v, Quality: edgeagent.Quality(s % 4),
	}
}

func (a *agent) rollup(s edgeagent.Seq) block.RollupRow {
	r := a.row(s)
	return block.RollupRow{Series: r.Series, Time: r.Time, Count: uint64(s), Sum: 1.5, Min: -1, Max: float64(s), First: 0, Last: -0.25}
}

func (a *agent) event(s edgeagent.Seq) edgeagent.Event {
	return edgeagent.Event{
		At: edgeagent.Instant{Wall: start + int64(s)*second}, Kind: edgeagent.KindAlarm, Severity: edgeagent.Warning,
		ID: fmt.Sprintf("hot/boiler/%d", s/3), N: uint32(s%3) + 1, Series: "plant/line 1/m1", Text: "it's hot;\nvery",
		Attrs: map[string]string{"state": edgeagent.AlarmFiring},
	}
}

// names returns the series block of the agent.
func (a *agent) names() []byte {
	var list []block.SeriesEntry
	for id := uint32(1); id <= series; id++ {
		list = append(list, block.SeriesEntry{ID: id, Key: a.key(id)})
	}
	return must(a.enc.Series(nil, a.device, a.epoch, list))
}

// records returns blocks of the records of r, cut where the run changes or times begin to
// be right.
func (a *agent) records(s edgeagent.Stream, r edgeagent.Range) (out []byte) {
	for from := r.From; from <= r.To; {
		to := from
		for to < r.To && a.run(to+1) == a.run(from) && (to+1 < a.unsynced) == (from < a.unsynced) {
			to++
		}
		out = a.block(out, s, edgeagent.Range{From: from, To: to}, a.run(from))
		from = to + 1
	}
	return out
}

func (a *agent) block(dst []byte, s edgeagent.Stream, r edgeagent.Range, run edgeagent.Run) []byte {
	id := block.ID{
		Stream: s, Epoch: a.epoch, First: r.From, Run: run, Resolution: edgeagent.DefaultResolution,
		Unsynced: s == edgeagent.StreamTelemetry && r.From < a.unsynced,
	}
	switch s {
	case edgeagent.StreamTelemetry:
		return must(a.enc.Readings(dst, id, each(r, a.row)))
	case edgeagent.StreamRollup:
		return must(a.enc.Rollup(dst, id, block.RollupSource{Stream: edgeagent.StreamTelemetry, From: 1, To: 1000, Bucket: 60}, each(r, a.rollup)))
	}
	return must(a.enc.Events(dst, id, each(r, a.event)))
}

func (a *agent) marks(m block.Marks) []byte {
	m.Epoch, m.Run = a.epoch, 1
	return must(a.enc.Marks(nil, m))
}

// want returns the records of r as a sink should have them. The times of unsynced ones
// are raw if add is 0.
func (a *agent) want(s edgeagent.Stream, r edgeagent.Range, add time.Duration) []hub.Stored {
	return each(r, func(seq edgeagent.Seq) hub.Stored {
		x := hub.Stored{Tenant: tenant, Device: a.device, Epoch: a.epoch, Stream: s}
		switch s {
		case edgeagent.StreamTelemetry:
			row := a.row(seq)
			x.Row = hub.Row{Seq: seq, Series: edgeagent.NewSeries(a.key(row.Series)), ID: row.Series, Time: row.Time, Value: row.Value, Quality: row.Quality}
			if seq < a.unsynced {
				x.Row.Time += int64(add)
				x.Unsynced = add == 0
			}
		case edgeagent.StreamRollup:
			row := a.rollup(seq)
			x.Rollup = &hub.Rollup{Seq: seq, ID: row.Series, Rollup: edgeagent.Rollup{
				Series: edgeagent.NewSeries(a.key(row.Series)), At: edgeagent.Instant{Wall: row.Time}, Bucket: time.Minute,
				Count: row.Count, Sum: row.Sum, Min: row.Min, Max: row.Max, First: row.First, Last: row.Last,
			}}
		default:
			x.Event = &hub.Event{Seq: seq, Event: a.event(seq)}
		}
		return x
	})
}

func each[T any](r edgeagent.Range, f func(edgeagent.Seq) T) []T {
	out := make([]T, 0, r.Len())
	for s := r.From; s <= r.To; s++ {
		out = append(out, f(s))
	}
	return out
}

// must is for blocks that cannot fail to be made.
func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
