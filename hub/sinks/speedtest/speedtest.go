package speedtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/hub"
)

// Raw is a store that can also take rows without a hub: device, series, time, value and
// quality into a table with the same index as that of its readings, a batch in one
// transaction, by the fastest way that it has.
type Raw interface {
	// RawTable makes the table, empty.
	RawTable(ctx context.Context) error
	// RawInsert stores one batch.
	RawInsert(ctx context.Context, device int32, rows []hub.Row) error
	// RawDrop removes the table.
	RawDrop(ctx context.Context) error
}

// Options say what to measure.
type Options struct {
	// Store keeps records; nil measures a hub that stores nothing.
	Store hub.Store
	// Raw is the same database; nil leaves it out.
	Raw Raw
	// Device is the name that readings come under; each Run needs another. Default
	// "bench".
	Device string
	// Batches of PerBatch readings; default 200 of 4,096.
	Batches, PerBatch int
	// Series they are of; default 20.
	Series int
	// Gateways, if there are any, send the batches: all at the same time, each the next
	// one when the last is acknowledged, but not before Every has passed. 0 is one
	// gateway that hands its backlog over, beside Raw by turns.
	Gateways int
	Every    time.Duration
}

// Result is what was measured.
type Result struct {
	Readings        int     // through the hub, and as many raw
	IngestPerSecond float64 // readings, from the message to its acknowledgement
	Messages        int     // through the hub
	Took            time.Duration
	RawPerSecond    float64 // 0 if it was not measured
	LagP50, LagP99  time.Duration
}

// Ratio returns how much of the raw rate the hub reaches.
func (r Result) Ratio() float64 { return r.IngestPerSecond / r.RawPerSecond }

// turn is how many batches go one way before it is the other's turn.
const turn = 10

// Run measures.
func Run(ctx context.Context, o Options) (Result, error) {
	o = o.defaults()
	if err := o.check(); err != nil {
		return Result{}, err
	}
	h, err := hub.New(hub.Options{Store: o.store(), Replay: hub.ReplayOff})
	if err != nil {
		return Result{}, err
	}
	b := &bench{Options: o, in: &input{messages: make(chan hub.Delivery)}}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	var ran error
	wg.Go(func() { ran = h.Run(ctx, b.in); stop() })
	if o.Gateways > 0 {
		err = b.live(ctx)
	} else {
		err = b.measure(ctx)
	}
	stop()
	wg.Wait()
	if err := errors.Join(err, ran); err != nil {
		return Result{}, fmt.Errorf("bench: %w", err)
	}
	return b.result(), nil
}

func (o Options) defaults() Options {
	if o.Device == "" {
		o.Device = "bench"
	}
	if o.Batches <= 0 {
		o.Batches = 200
	}
	if o.PerBatch <= 0 {
		o.PerBatch = block.MaxRecords
	}
	if o.Series <= 0 {
		o.Series = 20
	}
	return o
}

// store is a hub's; without one it has a store that keeps nothing.
func (o Options) store() hub.Store {
	if o.Store == nil {
		return nowhere{}
	}
	return o.Store
}

type nowhere struct{}

func (nowhere) Epochs(context.Context) ([]hub.EpochID, error)              { return nil, nil }
func (nowhere) Load(context.Context, hub.EpochID, bool) (hub.Saved, error) { return hub.Saved{}, nil }
func (nowhere) Kept(context.Context) ([]hub.Kept, error)                   { return nil, nil }
func (nowhere) Commit(context.Context, []hub.Change) error                 { return nil }

// bench is one Run.
type bench struct {
	Options
	in     *input
	enc    encoder
	next   edgeagent.Seq
	ingest time.Duration
	raw    time.Duration
	lags   []time.Duration
}

func (b *bench) measure(ctx context.Context) error {
	blk, err := b.names(b.Device, epoch)
	if err != nil {
		return err
	}
	if _, err := b.give(ctx, b.Device, blk); err != nil {
		return err
	}
	if b.Raw != nil {
		if err := b.Raw.RawTable(ctx); err != nil {
			return err
		}
	}
	for done := 0; done < b.Batches; done += turn {
		if err := b.turns(ctx, min(turn, b.Batches-done)); err != nil {
			return err
		}
	}
	if b.Raw != nil {
		return b.Raw.RawDrop(ctx)
	}
	return nil
}

const epoch edgeagent.Epoch = 0xbe4c

// names defines the series of a device.
func (b *bench) names(device string, of edgeagent.Epoch) ([]byte, error) {
	var names []block.SeriesEntry
	for id := range b.Series {
		names = append(names, block.SeriesEntry{ID: uint32(id + 1), Key: edgeagent.SeriesKey{
			Sensor: "bench", Metric: fmt.Sprintf("m%02d", id), Resolution: edgeagent.DefaultResolution,
		}})
	}
	return b.enc.use(func(enc *block.Encoder) ([]byte, error) { return enc.Series(nil, device, of, names) })
}

// turns sends n batches through the hub and stores n raw.
func (b *bench) turns(ctx context.Context, n int) error {
	var blocks [][]byte
	var raw [][]hub.Row
	for range n {
		blk, rows, err := b.batch(epoch, &b.next)
		if err != nil {
			return err
		}
		blocks, raw = append(blocks, blk), append(raw, rows)
	}
	start := time.Now()
	for _, blk := range blocks {
		lag, err := b.give(ctx, b.Device, blk)
		if err != nil {
			return err
		}
		b.lags = append(b.lags, lag)
	}
	b.ingest += time.Since(start)
	if b.Raw == nil {
		return nil
	}
	start = time.Now()
	for _, rows := range raw {
		if err := b.Raw.RawInsert(ctx, 1, rows); err != nil {
			return err
		}
	}
	b.raw += time.Since(start)
	return nil
}

// batch makes the next readings, as an agent that samples all series ten times a second
// has them; next is the number of its last one.
func (b *bench) batch(of edgeagent.Epoch, next *edgeagent.Seq) ([]byte, []hub.Row, error) {
	rows := make([]block.Row, b.PerBatch)
	plain := make([]hub.Row, b.PerBatch)
	first := *next + 1
	for i := range rows {
		seq := int64(first) + int64(i)
		round := seq / int64(b.Series)
		r := block.Row{
			Series: uint32(seq%int64(b.Series)) + 1, Time: 1_772_323_200_000_000_000 + round*100_000_000,
			Value: math.Round(2000+200*math.Sin(float64(round)/50+float64(seq%7))) / 100,
		}
		rows[i] = r
		plain[i] = hub.Row{Seq: edgeagent.Seq(seq), ID: r.Series, Time: r.Time, Value: r.Value}
	}
	*next += edgeagent.Seq(b.PerBatch)
	id := block.ID{Stream: edgeagent.StreamTelemetry, Epoch: of, First: first, Run: 1, Resolution: edgeagent.DefaultResolution}
	blk, err := b.enc.use(func(enc *block.Encoder) ([]byte, error) { return enc.Readings(nil, id, rows) })
	return blk, plain, err
}

// give hands over one message and waits for its acknowledgement.
func (b *bench) give(ctx context.Context, device string, payload []byte) (time.Duration, error) {
	start := time.Now()
	acked := make(chan struct{})
	select {
	case b.in.messages <- hub.Delivery{Topic: "ea/v1/bench/" + device + "/d/live", Payload: payload, Ack: func() { close(acked) }}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case <-acked:
		return time.Since(start), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (b *bench) result() Result {
	r := Result{Readings: b.Batches * b.PerBatch, Messages: b.Batches, Took: b.ingest}
	r.IngestPerSecond = float64(r.Readings) / b.ingest.Seconds()
	if b.raw > 0 {
		r.RawPerSecond = float64(r.Readings) / b.raw.Seconds()
	}
	slices.Sort(b.lags)
	r.LagP50, r.LagP99 = b.lags[len(b.lags)/2], b.lags[len(b.lags)*99/100]
	return r
}

// input hands over what the bench gives it, and drops acks.
type input struct{ messages chan hub.Delivery }

// Run implements [hub.Input].
func (in *input) Run(ctx context.Context, handle func(hub.Delivery)) error {
	for {
		select {
		case d := <-in.messages:
			handle(d)
		case <-ctx.Done():
			return nil
		}
	}
}

// Publish implements [hub.Input].
func (*input) Publish(context.Context, string, []byte) error { return nil }
