package files

import (
	"math"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
)

// each calls f with each record of a cut and its time.
func each(c hub.Cut, f func(r record, at int64) error) error {
	base := record{Tenant: c.Tenant, Device: c.Device, Epoch: c.Epoch, Run: c.Run, Stream: c.Stream}
	for i := range c.Rows {
		if err := f(reading(base, &c.Rows[i], c.Unsynced), c.Rows[i].Time); err != nil {
			return err
		}
	}
	for i := range c.Rollups {
		if err := f(rollup(base, &c.Rollups[i], c.Unsynced), c.Rollups[i].At.Wall); err != nil {
			return err
		}
	}
	for i := range c.Events {
		if err := f(event(base, &c.Events[i], c.Unsynced), c.Events[i].At.Wall); err != nil {
			return err
		}
	}
	return nil
}

func reading(r record, row *hub.Row, unsynced bool) record {
	r.Seq, r.T = row.Seq, stamp(row.Time)
	r = named(r, row.Series)
	r.Value = finite(row.Value)
	r.Q = quality(row.Quality, unsynced)
	return r
}

func quality(q edgeagent.Quality, unsynced bool) string {
	if unsynced && q == edgeagent.Good {
		return "unsynced"
	}
	return q.String()
}

func rollup(r record, row *hub.Rollup, unsynced bool) record {
	r.Seq, r.T = row.Seq, stamp(row.At.Wall)
	r = named(r, row.Series)
	r.Count, r.Bucket = row.Count, int64(row.Bucket/time.Second)
	r.Sum, r.Min, r.Max = finite(row.Sum), finite(row.Min), finite(row.Max)
	r.First, r.Last = finite(row.First), finite(row.Last)
	r.Q = quality(edgeagent.Good, unsynced)
	return r
}

func event(r record, ev *hub.Event, unsynced bool) record {
	r.Seq, r.T = ev.Seq, stamp(ev.At.Wall)
	r.Kind, r.Sev, r.ID, r.N = ev.Kind, &ev.Severity, ev.ID, ev.N
	r.Series, r.Text, r.Attrs, r.Data = ev.Series, ev.Text, ev.Attrs, ev.Data
	if unsynced {
		r.Q = "unsynced"
	}
	return r
}

func named(r record, s edgeagent.Series) record {
	key := s.Key()
	r.Sensor, r.Metric, r.Unit, r.Tags = key.Sensor, key.Metric, key.Unit, key.Tags.Map()
	return r
}

// finite returns nothing for what JSON has no number for.
func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// stamp writes a time to the millisecond, or to the nanosecond if it has any.
func stamp(ns int64) string {
	t := time.Unix(0, ns).UTC()
	if ns%int64(time.Millisecond) == 0 {
		return t.Format("2006-01-02T15:04:05.000Z")
	}
	return t.Format("2006-01-02T15:04:05.000000000Z")
}
