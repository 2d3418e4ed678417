package speedtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// live measures many gateways that speak at the same time, each of which waits for the
// word on a message before it sends the next, as an agent's live lane does.
func (b *bench) live(ctx context.Context) error {
	list := make([]*gateway, b.Gateways)
	for i := range list {
		list[i] = &gateway{bench: b, device: fmt.Sprintf("%s-%d", b.Device, i), epoch: epoch + edgeagent.Epoch(i)}
	}
	if err := together(ctx, list, func(ctx context.Context, g *gateway) error { return g.begin(ctx) }); err != nil {
		return err
	}
	start := time.Now()
	err := together(ctx, list, func(ctx context.Context, g *gateway) error { return g.speak(ctx, start) })
	b.ingest = time.Since(start)
	for _, g := range list {
		b.lags = append(b.lags, g.lags...)
	}
	return err
}

// together calls f for all at once.
func together(ctx context.Context, list []*gateway, f func(context.Context, *gateway) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, x := range list {
		g.Go(func() error { return f(ctx, x) })
	}
	return g.Wait()
}

// gateway is one that speaks.
type gateway struct {
	bench  *bench
	device string
	epoch  edgeagent.Epoch
	next   edgeagent.Seq
	lags   []time.Duration
}

func (g *gateway) begin(ctx context.Context) error {
	blk, err := g.bench.names(g.device, g.epoch)
	if err == nil {
		_, err = g.bench.give(ctx, g.device, blk)
	}
	return err
}

// speak sends this gateway's share of the messages, one each [Options.Every]. The time to
// the acknowledgement counts from when a message was due, so that one that had to wait for
// the one before it is late by that much.
func (g *gateway) speak(ctx context.Context, start time.Time) error {
	b := g.bench
	place := int(g.epoch - epoch)
	due := start.Add(b.Every * time.Duration(place) / time.Duration(b.Gateways))
	for n := place; n < b.Batches; n += b.Gateways {
		if b.Every > 0 {
			select {
			case <-time.After(time.Until(due)):
			case <-ctx.Done():
				return ctx.Err()
			}
		} else {
			due = time.Now()
		}
		blk, _, err := b.batch(g.epoch, &g.next)
		if err != nil {
			return err
		}
		if _, err := b.give(ctx, g.device, blk); err != nil {
			return err
		}
		g.lags = append(g.lags, time.Since(due))
		due = due.Add(b.Every)
	}
	return nil
}

// encoder is one for all gateways.
type encoder struct {
	mu  sync.Mutex
	enc block.Encoder
}

func (e *encoder) use(f func(enc *block.Encoder) ([]byte, error)) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return f(&e.enc)
}

var errLiveRaw = errors.New("what comes live is not held against a bare database")

// check refuses what makes no sense together.
func (o Options) check() error {
	if o.Gateways > 0 && o.Raw != nil {
		return errLiveRaw
	}
	return nil
}
