package wire

import (
	"errors"
	"time"

	"github.com/edgeagent/edgeagent"
)

// records is a batch's content that was never encoded.
type records struct {
	readings []edgeagent.Reading
	rollups  []edgeagent.Rollup
	events   []edgeagent.Event
	err      error
}

func (r records) Readings(dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	return append(dst, r.readings...), r.err
}

func (r records) Rollups(dst []edgeagent.Rollup) ([]edgeagent.Rollup, error) {
	return append(dst, r.rollups...), r.err
}

func (r records) Events(dst []edgeagent.Event) ([]edgeagent.Event, error) {
	return append(dst, r.events...), r.err
}

func (records) Cut(edgeagent.Range) (edgeagent.Batch, error) {
	return edgeagent.Batch{}, errors.New("not cut here")
}

func readings(rs ...edgeagent.Reading) edgeagent.Batch {
	h := edgeagent.BatchHeader{
		Stream: edgeagent.StreamTelemetry, Epoch: 0x9f02aa0000000001, Run: 0x9c01f3aa, First: 17, Count: len(rs),
	}
	return edgeagent.NewBatch(h, nil, records{readings: rs})
}

func rollups(rs ...edgeagent.Rollup) edgeagent.Batch {
	h := edgeagent.BatchHeader{
		Stream: edgeagent.StreamRollup, Epoch: 0x9f02aa0000000001, Run: 0x9c01f3aa, First: 5, Count: len(rs),
	}
	return edgeagent.NewBatch(h, nil, records{rollups: rs})
}

func rollup(key edgeagent.SeriesKey, wall int64, count uint64, v ...float64) edgeagent.Rollup {
	return edgeagent.Rollup{
		Series: edgeagent.NewSeries(key), At: edgeagent.Instant{Wall: wall}, Bucket: time.Minute,
		Count: count, Sum: v[0], Min: v[1], Max: v[2], First: v[3], Last: v[4],
	}
}

func events(es ...edgeagent.Event) edgeagent.Batch {
	h := edgeagent.BatchHeader{
		Stream: edgeagent.StreamAlarm, Epoch: 0x9f02aa0000000001, Run: 0x9c01f3aa, First: 3, Count: len(es),
	}
	return edgeagent.NewBatch(h, nil, records{events: es})
}

func reading(key edgeagent.SeriesKey, wall int64, v float64, q edgeagent.Quality) edgeagent.Reading {
	return edgeagent.Reading{Series: edgeagent.NewSeries(key), At: edgeagent.Instant{Wall: wall}, Value: v, Quality: q}
}

var boiler = edgeagent.SeriesKey{
	Sensor: "plant 1/boiler", Metric: "temperature", Unit: "Cel", Resolution: 6,
	Tags: edgeagent.MakePairs(map[string]string{"site": "oslo, north", "line": "0", "empty": ""}),
}
