package main

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// meter is a transport that notes what passes: when the session came up, what was sent
// of the backlog, and when it was acknowledged.
type meter struct {
	uplink.Transport
	want edgeagent.Range // of telemetry; done is closed when it is acknowledged
	done chan struct{}

	mu     sync.Mutex // guards what follows
	up     time.Time  // the first session
	last   time.Time  // the last acknowledgement of something in want
	held   edgeagent.Ranges
	count  uint64 // numbers in held
	sizes  []int  // of all messages sent
	bytes  int    // of those with something in want
	flight map[uint64]edgeagent.BatchHeader
}

func newMeter(t uplink.Transport, want edgeagent.Range) *meter {
	return &meter{Transport: t, want: want, done: make(chan struct{})}
}

// Session implements [uplink.Transport].
func (m *meter) Session(ctx context.Context, h uplink.Handler, start func(context.Context, uplink.Session)) error {
	return m.Transport.Session(ctx, meterHandler{h, m}, func(ctx context.Context, s uplink.Session) {
		start(ctx, meterSession{s, m})
	})
}

type meterSession struct {
	uplink.Session
	m *meter
}

func (s meterSession) Send(ctx context.Context, x uplink.Message) error {
	s.m.sent(x)
	return s.Session.Send(ctx, x)
}

type meterHandler struct {
	uplink.Handler
	m *meter
}

func (h meterHandler) Up(c uplink.Caps) {
	h.m.began()
	h.Handler.Up(c)
}

func (h meterHandler) Result(r uplink.Result) {
	h.m.result(r)
	h.Handler.Result(r)
}

func (m *meter) began() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flight = map[uint64]edgeagent.BatchHeader{}
	if m.up.IsZero() {
		m.up = time.Now()
	}
}

func (m *meter) sent(x uplink.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sizes = append(m.sizes, len(x.Payload))
	h := x.Identity
	if h.Count > 0 && h.Stream == edgeagent.StreamTelemetry && h.First <= m.want.To && h.Last() >= m.want.From {
		m.bytes += len(x.Payload)
		m.flight[x.ID] = h
	}
}

func (m *meter) result(r uplink.Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ok := m.flight[r.ID]
	if !ok || r.Class != uplink.Accepted && r.Class != uplink.NoReceiver {
		return
	}
	delete(m.flight, r.ID)
	m.last = time.Now()
	before := m.count
	m.count += m.held.Add(edgeagent.Range{From: max(h.First, m.want.From), To: min(h.Last(), m.want.To)})
	if m.count == m.want.Len() && before < m.count {
		close(m.done)
	}
}

// drained is what a meter has seen.
type drained struct {
	up       time.Time
	took     time.Duration // from the session to the last acknowledgement
	readings uint64
	sizes    []int
	bytes    int
}

func (m *meter) seen() drained {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := drained{up: m.up, readings: m.count, sizes: slices.Clone(m.sizes), bytes: m.bytes}
	if !m.last.IsZero() {
		d.took = m.last.Sub(m.up)
	}
	return d
}

// delays collects how long what is live took to arrive, by its own time, each once.
type delays struct {
	format string

	mu    sync.Mutex // guards what follows
	dec   block.Decoder
	since int64           // Unix ns; what is older is not of interest
	lives map[int64]delay // by the time of the record
	alarm map[int64]delay
	spans []span
	first time.Time // arrival of the first live message since await
	errs  error
}

// delay is how long a record was on its way, in nanoseconds.
type delay int64

// span is a time, in Unix ns, both ends included.
type span struct{ from, to int64 }

func newDelays(format string) *delays {
	d := &delays{format: format}
	d.reset()
	return d
}

// reset begins anew with what is taken from now on.
func (d *delays) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.since, d.first, d.spans = time.Now().UnixNano(), time.Time{}, nil
	d.lives, d.alarm = map[int64]delay{}, map[int64]delay{}
}

// during counts what is taken in this time, and nothing else from the first such call
// on: between two drains there is no session that could deliver anything.
func (d *delays) during(from, to time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spans = append(d.spans, span{from.UnixNano(), to.UnixNano()})
}

// await forgets when the first live message came, so that the next is the first.
func (d *delays) await() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.first = time.Time{}
}

func (d *delays) arrived() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.first
}

// heard takes a message of the lanes live and alarm.
func (d *delays) heard(topic string, payload []byte) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	times, err := d.times(payload)
	d.errs = errors.Join(d.errs, err)
	alarm := strings.HasSuffix(topic, "/alarm")
	if !alarm && d.first.IsZero() && len(times) > 0 {
		d.first = now
	}
	for _, at := range times {
		list := d.lives
		if alarm {
			list = d.alarm
		}
		if _, again := list[at]; at >= d.since && !again {
			list[at] = delay(now.UnixNano() - at)
		}
	}
}

// times returns the times of the records in a message.
func (d *delays) times(payload []byte) (out []int64, err error) {
	if d.format != uplink.FormatBlock {
		for line := range bytes.Lines(payload) {
			_, at := cutLast(bytes.TrimSuffix(line, []byte("\n")), ' ')
			n, err := strconv.ParseInt(string(at), 10, 64)
			if err != nil {
				return out, err
			}
			out = append(out, n)
		}
		return out, nil
	}
	for rest := payload; len(rest) > 0; {
		blk, tail, err := block.Next(rest)
		if err != nil {
			return out, err
		}
		h, err := block.Check(blk)
		if err != nil {
			return out, err
		}
		switch h.Kind {
		case block.KindReadings:
			rows, _, err := d.dec.Readings(nil, blk)
			if err != nil {
				return out, err
			}
			for _, r := range rows {
				out = append(out, r.Time)
			}
		case block.KindEvents:
			events, _, err := d.dec.Events(nil, blk)
			if err != nil {
				return out, err
			}
			for _, e := range events {
				out = append(out, e.At.Wall)
			}
		}
		rest = tail
	}
	return out, nil
}

// p99s returns the delays that 99 of 100 live readings and alarms did not exceed, in
// milliseconds; nil where none came.
func (d *delays) p99s() (live, alarm *float64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return p99(d.counted(d.lives)), p99(d.counted(d.alarm)), d.errs
}

// counted returns the delays of what was taken in one of the spans, if there are any.
func (d *delays) counted(list map[int64]delay) (out []time.Duration) {
	for at, took := range list {
		in := len(d.spans) == 0
		for _, s := range d.spans {
			in = in || at >= s.from && at <= s.to
		}
		if in {
			out = append(out, time.Duration(took))
		}
	}
	return out
}

func p99(list []time.Duration) *float64 {
	if len(list) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(list))
	at := int(math.Ceil(0.99*float64(len(sorted)))) - 1
	ms := round(float64(sorted[at]) / float64(time.Millisecond))
	return &ms
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
