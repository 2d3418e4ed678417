package buffer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// simFault is a way in which operations fail, from the nth on.
type simFault struct {
	errno syscall.Errno
	short bool // writes fail in the middle of a page
	times int  // so many operations fail
}

var simFaults = []simFault{
	{errno: syscall.EIO, times: 1},
	{errno: syscall.ENOSPC, times: 1},
	{errno: syscall.ENOSPC, short: true, times: 12},
	{errno: syscall.EIO, short: true, times: 3},
	{errno: syscall.EROFS, times: 40},
}

// TestNthOperationFails lets the nth operation of the disk fail, and perhaps some
// of the following, for every n (every few in a short run, each in another way), in
// a life that opens, appends, syncs, confirms, rolls, evicts and reopens. Whatever
// the buffer says then, it must not panic, and it must start again; what it has
// accepted must be there after the death of the process, and after a power cut as
// much of it as was promised.
func TestNthOperationFails(t *testing.T) {
	t.Parallel()
	stride, began := simCount(t, "SOAK_FAULT_STRIDE", 11), time.Now()
	var lives, suffered, operations atomic.Int64
	t.Run("faults", func(t *testing.T) {
		for i, f := range simFaults {
			t.Run(fmt.Sprintf("%v %d times", f.errno, f.times), func(t *testing.T) {
				t.Parallel()
				for n := 1 + i%stride; ; n += stride {
					w, where, err := failingLife(t, f, n)
					if err != nil {
						t.Fatalf("SOAK_SEED=%d: operations from %d on (%s): %v; it said %v", simSeed(t), n, where, err, errors.Join(w.suffered[max(0, len(w.suffered)-3):]...))
					}
					lives.Add(1)
					if len(w.suffered) > 0 {
						suffered.Add(1)
					}
					if w.tape.calls < n {
						operations.Store(int64(w.tape.calls))
						break
					}
				}
			})
		}
	})
	t.Logf("%d lives of %d operations, %d of them noticed; %.1f s", lives.Load(), operations.Load(), suffered.Load(), time.Since(began).Seconds())
	if suffered.Load() < lives.Load()/4 {
		t.Error("the faults miss the buffer")
	}
}

func failingLife(t *testing.T, f simFault, n int) (w *simWorld, where string, err error) {
	t.Helper()
	dir := memDir(t)
	defer os.RemoveAll(dir)
	w = newSimWorld(rand.New(rand.NewPCG(simSeed(t), 9)), dir)
	w.o.segment = 128 << 10 // room for a commit, and not much more
	w.record()
	w.tolerant = true
	w.tape.fault = func(call int, what string) (bool, error) {
		if call < n || call >= n+f.times {
			return false, nil
		}
		if call == n {
			where = what
		}
		return f.short, f.errno
	}
	if _, err := w.open(); err != nil {
		for range 50 {
			if err != nil {
				w.suffered = append(w.suffered, err)
				_, err = w.open()
			}
		}
		if err != nil {
			return w, where, err
		}
	}
	defer func() { w.b.crash() }()
	w.evicts = true
	if err := w.ballast(minMaxBytes - 500<<10); err != nil {
		return w, where, err
	}
	switch err := w.live(70); {
	case errors.Is(err, errInMemory):
		if h := w.b.Health(); h.Code != "buffer-memory" {
			return w, where, fmt.Errorf("in memory, and health is %+v", h)
		}
		w.suffered = append(w.suffered, err)
	case err != nil:
		return w, where, err
	}
	w.b.crash()
	if err := w.tape.check(); err != nil {
		return w, where, err
	}
	return w, where, w.afterFaults(t)
}

// afterFaults holds what is left against the promise, when the process dies and
// when the power is cut at that moment.
func (w *simWorld) afterFaults(t *testing.T) error {
	m := newSimMedium(w.rnd, simLies{})
	m.play(w.tape.steps, len(w.tape.steps))
	for _, mode := range []string{"none", "any pages"} {
		dir := putDown(t, m.cut(mode))
		_, err := w.afterCut(dir, m.note)
		_ = os.RemoveAll(dir)
		if err != nil {
			return fmt.Errorf("power cut, %s left of what was not synced: %w", mode, err)
		}
	}
	all := *m.note
	all.chains = map[simChain]simProgress{}
	for id, p := range m.note.chains {
		p.durable = p.given
		all.chains[id] = p
	}
	o := w.o
	o.faults, o.headFS = nil, nil
	b, report, err := openSim(w.dir, o)
	if err != nil {
		return err
	}
	defer b.crash()
	if _, err := w.check(b, report, &all, simTolerance{evictions: w.evicts}); err != nil {
		return fmt.Errorf("kill -9: %w", err)
	}
	return nil
}
