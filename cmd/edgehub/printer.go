package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/hub"
)

// printer is a sink that writes JSON lines. A write that fails ends the program:
// nobody reads any more, so nothing more may be acknowledged.
type printer struct {
	end context.CancelCauseFunc

	mu  sync.Mutex // guards what follows
	out *bufio.Writer
	enc *json.Encoder
	dec block.Decoder
	err error
}

var _ hub.Sink = (*printer)(nil)

func newPrinter(w io.Writer, end context.CancelCauseFunc) *printer {
	out := bufio.NewWriterSize(w, 64<<10)
	return &printer{end: end, out: out, enc: json.NewEncoder(out)}
}

// record is one line. The keys are those of the agent's format json.
type record struct {
	T      string            `json:"t"`
	Tenant string            `json:"tenant"`
	Device string            `json:"device"`
	Sensor string            `json:"sensor,omitempty"`
	Metric string            `json:"metric,omitempty"`
	Unit   string            `json:"unit,omitempty"`
	Value  *float64          `json:"value,omitempty"`
	Count  uint64            `json:"count,omitempty"`
	Sum    *float64          `json:"sum,omitempty"`
	Min    *float64          `json:"min,omitempty"`
	Max    *float64          `json:"max,omitempty"`
	First  *float64          `json:"first,omitempty"`
	Last   *float64          `json:"last,omitempty"`
	Bucket int64             `json:"bucket_s,omitempty"`
	Q      string            `json:"q,omitempty"`
	Tags   map[string]string `json:"tags,omitempty"`

	Kind   string              `json:"kind,omitempty"`
	Sev    *edgeagent.Severity `json:"sev,omitempty"`
	ID     string              `json:"id,omitempty"`
	N      uint32              `json:"n,omitempty"`
	Series string              `json:"series,omitempty"`
	Text   string              `json:"text,omitempty"`
	Attrs  map[string]string   `json:"attrs,omitempty"`
	// Data is what of an event no program here understands.
	Data []byte `json:"data,omitempty"`
	// Readings are what a capture bears.
	Readings []captured `json:"readings,omitempty"`

	Epoch  edgeagent.Epoch  `json:"epoch"`
	Run    edgeagent.Run    `json:"run"`
	Stream edgeagent.Stream `json:"stream"`
	Seq    edgeagent.Seq    `json:"seq"`
}

// captured is a raw reading from around an alarm.
type captured struct {
	T      string            `json:"t"`
	Sensor string            `json:"sensor"`
	Metric string            `json:"metric"`
	Unit   string            `json:"unit,omitempty"`
	Value  *float64          `json:"value,omitempty"`
	Q      string            `json:"q"`
	Tags   map[string]string `json:"tags,omitempty"`
}

// Commit writes the cut and flushes it.
func (p *printer) Commit(_ context.Context, c hub.Cut) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	if err := p.write(c); err != nil {
		p.err = fmt.Errorf("write records: %w", err)
		p.end(p.err)
		return p.err
	}
	return nil
}

func (p *printer) write(c hub.Cut) error {
	base := record{Tenant: c.Tenant, Device: c.Device, Epoch: c.Epoch, Run: c.Run, Stream: c.Stream}
	for _, row := range c.Rows {
		if err := p.enc.Encode(reading(base, row, c.Unsynced)); err != nil {
			return err
		}
	}
	for _, row := range c.Rollups {
		if err := p.enc.Encode(rollup(base, row, c.Unsynced)); err != nil {
			return err
		}
	}
	for _, ev := range c.Events {
		if err := p.enc.Encode(p.event(base, ev)); err != nil {
			return err
		}
	}
	return p.out.Flush()
}

func reading(r record, row hub.Row, unsynced bool) record {
	r.Seq, r.T = row.Seq, stamp(row.Time)
	r = named(r, row.Series)
	r.Value = finite(row.Value)
	r.Q = row.Quality.String()
	if unsynced && row.Quality == edgeagent.Good {
		r.Q = "unsynced"
	}
	return r
}

func rollup(r record, row hub.Rollup, unsynced bool) record {
	r.Seq, r.T = row.Seq, stamp(row.At.Wall)
	r = named(r, row.Series)
	r.Count, r.Bucket = row.Count, int64(row.Bucket/time.Second)
	r.Sum, r.Min, r.Max = finite(row.Sum), finite(row.Min), finite(row.Max)
	r.First, r.Last = finite(row.First), finite(row.Last)
	r.Q = edgeagent.Good.String()
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

func (p *printer) event(r record, ev hub.Event) record {
	r.Seq, r.T = ev.Seq, stamp(ev.At.Wall)
	r.Kind, r.Sev, r.ID, r.N = ev.Kind, &ev.Severity, ev.ID, ev.N
	r.Series, r.Text, r.Attrs = ev.Series, ev.Text, ev.Attrs
	if len(ev.Data) == 0 {
		return r
	}
	_, readings, err := p.dec.Capture(nil, ev.Data)
	if ev.Kind != edgeagent.KindCapture || err != nil {
		r.Data = ev.Data
		return r
	}
	for _, x := range readings {
		key := x.Series.Key()
		r.Readings = append(r.Readings, captured{
			T: stamp(x.At.Wall), Sensor: key.Sensor, Metric: key.Metric, Unit: key.Unit,
			Value: finite(x.Value), Q: x.Quality.String(), Tags: key.Tags.Map(),
		})
	}
	return r
}

func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.000Z") }

// Err returns the write error that ended the program, if one did.
func (p *printer) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
