package uplink

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/edgeagent/edgeagent"
)

// instant accepts everything as soon as it is sent.
type instant struct {
	e    *engine
	done []uint64
}

func (i *instant) connect(context.Context) { i.e.m.connectionUp(i.e.clock.Run(), Caps{}) }
func (*instant) hangUp()                   {}
func (i *instant) send(m Message)          { i.done = append(i.done, m.ID) }

// BenchmarkMessage is the engine alone: deciding, composing, accounting, confirming.
func BenchmarkMessage(b *testing.B) {
	log := newLog()
	log.series = 0
	l := &instant{}
	l.e = newEngine(blockConfig().WithDefaults(), log, newFeed(log, nil, ""), l, &handClock{}, slog.New(slog.DiscardHandler), rand.New(rand.NewPCG(1, 1)))
	log.failAck = func() error { return nil }
	// One batch over and over: what is measured is the engine, not this log.
	batch := edgeagent.NewBatch(edgeagent.BatchHeader{Stream: edgeagent.StreamTelemetry, Epoch: 1, First: 1, Count: 1000}, make([]byte, 10_000), nil)
	l.e.step(b.Context())
	l.e.step(b.Context())
	l.e.f.sources[edgeagent.StreamTelemetry].old = repeat{batch}
	l.e.log = sink{log}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for len(l.done) == 0 {
			if wait, _ := l.e.step(b.Context()); wait > 0 {
				b.Fatal("the engine rests")
			}
		}
		l.e.m.result(l.e.clock.Run(), Result{ID: l.done[0]})
		l.done = l.done[:0]
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/message")
}

type repeat struct{ b edgeagent.Batch }

func (r repeat) Next(context.Context, edgeagent.Limit) (edgeagent.Batch, bool, error) {
	return r.b, true, nil
}

// sink takes acknowledgements and forgets them.
type sink struct{ *memLog }

func (sink) Ack(context.Context, edgeagent.Epoch, edgeagent.Stream, []edgeagent.Range) error {
	return nil
}
