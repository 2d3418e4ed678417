package hub

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// life is one epoch of an agent: a set of records that everything about follows
// from their numbers, so that a test can tell a wrong one when it sees it.
type life struct {
	device string
	epoch  edgeagent.Epoch
	series int                               // ids 1 to series
	runOf  func(edgeagent.Seq) edgeagent.Run // which process start wrote a record
	enc    block.Encoder
}

func newLife(device string, epoch edgeagent.Epoch) *life {
	return &life{device: device, epoch: epoch, series: 5, runOf: func(edgeagent.Seq) edgeagent.Run { return 7 }}
}

func (l *life) topic() string { return "ea/v1/acme/" + l.device + "/d/live" }

func (l *life) key(id uint32) edgeagent.SeriesKey {
	return edgeagent.SeriesKey{Sensor: l.device, Metric: fmt.Sprintf("m%d", id), Resolution: edgeagent.DefaultResolution}
}

func (l *life) row(seq edgeagent.Seq) block.Row {
	id := uint32(uint64(seq)%uint64(l.series)) + 1
	return block.Row{Series: id, Time: int64(seq) * 1e9, Value: float64(seq) / 4, Quality: edgeagent.Quality(seq % 4)}
}

func (l *life) rollup(seq edgeagent.Seq) block.RollupRow {
	r := l.row(seq)
	return block.RollupRow{
		Series: r.Series, Time: r.Time, Count: uint64(seq), Sum: r.Value * float64(seq),
		Min: r.Value - 1, Max: r.Value + 1, First: r.Value, Last: -r.Value,
	}
}

func (l *life) event(seq edgeagent.Seq) edgeagent.Event {
	return edgeagent.Event{
		At: edgeagent.Instant{Wall: int64(seq) * 1e9}, Kind: "alarm", ID: fmt.Sprintf("r/i/%d", seq), N: 1,
		Attrs: map[string]string{"state": edgeagent.AlarmFiring},
	}
}

// records returns the blocks that hold the records of r, cut where the run
// changes.
func (l *life) records(s edgeagent.Stream, r edgeagent.Range) []byte {
	var out []byte
	for from := r.From; from <= r.To; {
		to := from
		for to < r.To && l.runOf(to+1) == l.runOf(from) && to-from+1 < block.MaxRecords {
			to++
		}
		out = l.block(out, s, edgeagent.Range{From: from, To: to}, l.runOf(from))
		from = to + 1
	}
	return out
}

// block appends one block of the records of r under a run.
func (l *life) block(dst []byte, s edgeagent.Stream, r edgeagent.Range, run edgeagent.Run) []byte {
	id := block.ID{Stream: s, Epoch: l.epoch, First: r.From, Run: run, Resolution: edgeagent.DefaultResolution}
	var err error
	switch s {
	case edgeagent.StreamTelemetry:
		var rows []block.Row
		for seq := r.From; seq <= r.To; seq++ {
			rows = append(rows, l.row(seq))
		}
		dst, err = l.enc.Readings(dst, id, rows)
	case edgeagent.StreamRollup:
		var rows []block.RollupRow
		for seq := r.From; seq <= r.To; seq++ {
			rows = append(rows, l.rollup(seq))
		}
		source := block.RollupSource{Stream: edgeagent.StreamTelemetry, From: 1, To: 1e6, Bucket: 600}
		dst, err = l.enc.Rollup(dst, id, source, rows)
	default:
		var evs []edgeagent.Event
		for seq := r.From; seq <= r.To; seq++ {
			evs = append(evs, l.event(seq))
		}
		id.Resolution = 0
		dst, err = l.enc.Events(dst, id, evs)
	}
	if err != nil {
		panic(err)
	}
	return dst
}

// names returns a block that defines the ids from lo to hi.
func (l *life) names(lo, hi int) []byte {
	var entries []block.SeriesEntry
	for id := lo; id <= hi; id++ {
		entries = append(entries, block.SeriesEntry{ID: uint32(id), Key: l.key(uint32(id))})
	}
	b, err := l.enc.Series(nil, l.device, l.epoch, entries)
	if err != nil {
		panic(err)
	}
	return b
}

// checked is a memory sink that holds every record against the life it came from.
func checked(t testing.TB, lives ...*life) *Memory {
	return NewMemory(MemoryOptions{Keep: 16, OnCommit: func(c Cut, _ time.Time) {
		for _, l := range lives {
			if l.device == c.Device && l.epoch == c.Epoch {
				l.check(t, c)
			}
		}
	}})
}

func (l *life) check(t testing.TB, c Cut) {
	seqs := make([]edgeagent.Seq, 0, c.Len())
	for _, r := range c.Ranges {
		for seq := r.From; seq <= r.To; seq++ {
			seqs = append(seqs, seq)
		}
	}
	for i, got := range c.Rows {
		want := l.row(seqs[i])
		if got.Seq != seqs[i] || got.Series.Key() != l.key(want.Series) || got.Time != want.Time ||
			math.Float64bits(got.Value) != math.Float64bits(want.Value) || got.Quality != want.Quality {
			t.Errorf("record %d of %s arrived as %+v, want %+v", seqs[i], c.Stream, got, want)
		}
	}
	for i, got := range c.Rollups {
		want := l.rollup(seqs[i])
		if got.Seq != seqs[i] || got.Series.Key() != l.key(want.Series) || got.Bucket != 10*time.Minute ||
			(block.RollupRow{
				Series: want.Series, Time: got.At.Wall, Count: got.Count,
				Sum: got.Sum, Min: got.Min, Max: got.Max, First: got.First, Last: got.Last,
			}) != want {
			t.Errorf("rollup %d arrived as %+v, want %+v", seqs[i], got, want)
		}
	}
	for i, got := range c.Events {
		if want := l.event(seqs[i]); got.Seq != seqs[i] || got.ID != want.ID || got.At.Wall != want.At.Wall {
			t.Errorf("event %d of %s arrived as %+v, want %+v", seqs[i], c.Stream, got, want)
		}
	}
	for _, seq := range seqs {
		if l.runOf(seq) != c.Run {
			t.Errorf("record %d arrived under run %s, want %s", seq, c.Run, l.runOf(seq))
		}
	}
}

// bench is a hub that tests hand messages to without an input.
type bench struct {
	*Hub
	a *acker
}

func newBench(t testing.TB, o Options) *bench {
	t.Helper()
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{h, newAcker(h.opts.AckEvery)}
}

// give hands over one message, which must be dealt with.
func (b *bench) give(t testing.TB, topic string, payload []byte) {
	t.Helper()
	if !b.take(context.Background(), topic, payload, b.a) {
		t.Fatal("message was not dealt with")
	}
}

// take reports whether a message by itself was acknowledged.
func (h *Hub) take(ctx context.Context, topic string, payload []byte, a *acker) bool {
	acked := false
	h.handle(ctx, []Delivery{{Topic: topic, Payload: payload, Ack: func() { acked = true }}}, a)
	return acked
}

// tell returns the ack of an epoch as the agent reads it.
func (b *bench) tell(t testing.TB, l *life) edgeagent.Ack {
	t.Helper()
	ack, ok := b.ack(b.devices[deviceKey{"acme", l.device}], l.epoch)
	if !ok {
		t.Fatal("no such epoch")
	}
	return reread(t, ack)
}
