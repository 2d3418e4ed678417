package buffer

import (
	"context"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// TestIdleSegmentsAreClosed: an open segment is mapped, and counts as memory of the
// process for as long.
func TestIdleSegmentsAreClosed(t *testing.T) {
	o := options()
	c := &handClock{run: time.Second}
	o.Clock = c
	b := open(t, t.TempDir(), o)
	later := func() {
		c.run += 2 * idleAfter
		b.upkeep(t.Context())
	}
	mustAppend(t, b, 0, 100)
	flush(t, b)
	if n := b.Stats().OpenSegments; n != 1 {
		t.Fatalf("%d segments open after a checkpoint", n)
	}
	later() // used since the last look, which was never
	later()
	if n := b.Stats().OpenSegments; n != 0 {
		t.Errorf("%d segments open though nobody used them", n)
	}
	mustAppend(t, b, 100, 100) // goes on in the same segment
	flush(t, b)
	if s := b.Survey(); len(s.Segments) != 1 || s.Segments[0].Records != 200 {
		t.Errorf("segments %+v", s.Segments)
	}
	later()
	later()
	got := 0
	for from := edgeagent.Seq(1); from <= 200; {
		batch, ok, err := b.Read(t.Context(), b.Epoch(), edgeagent.StreamTelemetry, from, edgeagent.Limit{Records: 50})
		if err != nil || !ok {
			t.Fatalf("read from %d: %v, %v", from, ok, err)
		}
		got += batch.Count
		from = batch.Last() + 1
	}
	if got != 200 {
		t.Errorf("%d records read, want 200", got)
	}
}

// TestCheckpointOutlivesTheStop: a checkpoint that has begun when the agent stops is
// no failure of the disk.
func TestCheckpointOutlivesTheStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := options()
	o.BlockSize = 16
	armed := false
	o.faults = func(op segment.Op, _ string) error {
		if armed && op == segment.OpCommit {
			cancel()
		}
		return nil
	}
	b := open(t, t.TempDir(), o)
	b.mu.Lock()
	b.running = true // so that Append leaves checkpoints to us
	b.mu.Unlock()
	mustAppend(t, b, 0, 16*blocksPerCommit)
	if !b.checkpointDue() {
		t.Fatal("no checkpoint is due")
	}
	armed = true
	b.upkeep(ctx)
	if ctx.Err() == nil {
		t.Fatal("nothing was committed")
	}
	if s := b.Stats(); s.FailedCommits != 0 || s.Checkpoints != 1 {
		t.Errorf("%d failures, %d checkpoints: %+v", s.FailedCommits, s.Checkpoints, b.Health())
	}
}
