package headlog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"github.com/edgeagent/edgeagent"
)

// caller uses the log as the buffer will: one lock over numbering and Append,
// checkpoints that seal and rotate, and whoever meets a suspect log rotates it.
type caller struct {
	log *Log

	mu     sync.Mutex
	next   edgeagent.Seq
	sealed edgeagent.Seq
}

func (c *caller) tails(yield func(Frame) bool) {
	for s := c.sealed + 1; s < c.next; s++ {
		if !yield(reading(s)) {
			return
		}
	}
}

func (c *caller) append(ctx context.Context) (edgeagent.Seq, error) {
	c.mu.Lock()
	err := c.log.Append(reading(c.next))
	if err == nil {
		c.next++
		defer c.mu.Unlock()
		return c.next - 1, nil
	}
	c.mu.Unlock()
	if err := c.goOn(ctx, err); err != nil {
		return 0, err
	}
	return c.append(ctx)
}

// goOn does what an error asks for, if anything can be done.
func (c *caller) goOn(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, ErrFull), errors.Is(err, ErrUnreleased):
		return c.checkpoint(ctx)
	case errors.Is(err, ErrSuspect):
		c.mu.Lock()
		err = c.log.Rotate(ctx, c.tails)
		c.mu.Unlock()
		if err != nil {
			return c.goOn(ctx, err)
		}
		return c.goOn(ctx, c.log.Release(ctx))
	default:
		return err
	}
}

func (c *caller) checkpoint(ctx context.Context) error {
	c.mu.Lock()
	c.sealed = max(c.sealed, c.next-min(c.next, 20))
	err := c.log.Rotate(ctx, c.tails)
	c.mu.Unlock()
	if err != nil && !errors.Is(err, ErrUnreleased) {
		return c.goOn(ctx, err)
	}
	return c.goOn(ctx, c.log.Release(ctx))
}

func (c *caller) sync(ctx context.Context) error {
	for {
		err := c.log.Sync(ctx)
		if err == nil {
			return nil
		}
		if err := c.goOn(ctx, err); err != nil {
			return err
		}
	}
}

// TestConcurrentUse lets many append, sync, rotate and look at once, on a disk
// that fails once, and holds what is left against what each was told.
func TestConcurrentUse(t *testing.T) {
	for round := range 6 {
		t.Run(fmt.Sprintf("failure %d", round), func(t *testing.T) {
			d := newSimFS(nil)
			c := &caller{log: begun(t, d), next: 1}
			failAt := d.calls + 100*round + round
			d.fail = func(n int, op, _ string) error {
				if round > 0 && n >= failAt && (op == "write" || op == "sync") {
					failAt = math.MaxInt
					return syscall.EIO
				}
				return nil
			}
			ctx := t.Context()
			var wg sync.WaitGroup
			var promised [8]edgeagent.Seq
			for i := range promised {
				wg.Go(func() {
					for k := range 300 {
						s, err := c.append(ctx)
						if err == nil && k%10 == i {
							if err = c.sync(ctx); err == nil {
								promised[i] = max(promised[i], s)
							}
						}
						if err != nil {
							t.Error(err)
							return
						}
						switch {
						case k%50 > 0:
						case i == 0:
							err = c.checkpoint(ctx)
						case i == 1:
							err = c.goOn(ctx, c.log.Raise(ctx, edgeagent.StreamAlarm, edgeagent.Seq(1<<32)+edgeagent.Seq(k)))
						default:
							_ = c.log.Stats()
						}
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			if st := c.log.Stats(); round > 0 && (st.Failures != 1 || st.Degraded == nil) {
				t.Errorf("the failure is not seen: %+v", st)
			}
			m := newMedium(rand.New(rand.NewPCG(1, uint64(round))))
			for _, op := range d.ops {
				m.do(op)
			}
			got := map[edgeagent.Seq]bool{}
			for _, s := range recovered(t, newSimFS(m.cut("none"))) {
				got[s] = true
			}
			for _, last := range promised {
				for s := c.sealed + 1; s <= last; s++ {
					if !got[s] {
						t.Fatalf("%d was synced and is lost; %d are sealed", s, c.sealed)
					}
				}
			}
		})
	}
}
