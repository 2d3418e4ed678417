package agent

import (
	"cmp"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/rules"
)

// checkpointEvery is how often the whole state of the rules is saved.
const checkpointEvery = time.Minute

// keeper saves the state of the rules. Without a store, since its directory could
// not be used, it keeps nothing and health says so. It is used with the pipeline's
// turn held, so that the engine stands still.
type keeper struct {
	logger *slog.Logger
	dir    string
	store  *rules.Store
	engine *rules.Engine
	saved  time.Duration // run time of the last checkpoint
	stored rules.Stored  // nil: what was read before is not known
	last   atomic.Pointer[refusal]
	pause  pause
}

// stateOfRules is the directory of the rules' state, beside that of the buffer.
func stateOfRules(buffer string) string { return filepath.Join(filepath.Dir(buffer), "rules-state") }

// restore opens the store and loads what it holds.
func (k *keeper) restore(e *rules.Engine, c clock.Clock) error {
	now := edgeagent.Instant{Wall: c.Wall().UnixNano(), Run: int64(c.Run())}
	e.SetSynced(c.Synced()) // the first reading may come before the first tick
	if k.stored != nil {
		e.SetStored(k.stored)
	}
	store, err := rules.OpenStore(k.dir)
	if err != nil {
		k.last.Store(&refusal{err, now})
		return err
	}
	loaded, err := store.Restore(e, now, c.Synced())
	if err != nil {
		k.last.Store(&refusal{err, now})
		return err
	}
	k.store, k.engine = store, e
	k.logger.Info("rules restored", "instances", loaded.Instances, "began_anew", loaded.Reset, "down", loaded.Down)
	return nil
}

// every is how often step is to be called even if nothing happens. It is called with
// the engine standing still.
func (k *keeper) every() time.Duration {
	if k.engine != nil && k.engine.Waiting() {
		return time.Second
	}
	return checkpointEvery
}

// step saves what has changed.
func (k *keeper) step(now edgeagent.Instant) {
	if k == nil || k.store == nil {
		return
	}
	err := k.store.Step(k.engine)
	if err == nil && time.Duration(now.Run)-k.saved >= checkpointEvery {
		k.saved = time.Duration(now.Run)
		err = k.store.Checkpoint(k.engine)
	}
	k.note(err, now)
}

func (k *keeper) note(err error, now edgeagent.Instant) {
	if err == nil {
		k.last.Store(nil)
		return
	}
	k.last.Store(&refusal{err, now})
	if k.pause.over(time.Duration(now.Run)) {
		k.logger.Error("state of rules not saved", "error", err)
	}
}

// close saves everything.
func (k *keeper) close(now edgeagent.Instant) {
	if k == nil || k.store == nil {
		return
	}
	k.note(cmp.Or(k.store.Checkpoint(k.engine), k.store.Close()), now)
	k.store = nil
}

// shaper thins out what goes on to the buffer. Sources put from several goroutines.
type shaper struct {
	mu     sync.Mutex
	shapes *rules.Shaper
}

func (s *shaper) shape(rs []edgeagent.Reading) []edgeagent.Reading {
	if s == nil {
		return rs
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shapes.Shape(nil, rs)
}

// due returns the summaries whose time has come.
func (s *shaper) due(now edgeagent.Instant) []edgeagent.Reading {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shapes.Tick(nil, now)
}

// rest returns the summaries of what is open at the end.
func (s *shaper) rest() []edgeagent.Reading {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shapes.Flush(nil)
}

// next returns when due has something, if it ever has.
func (s *shaper) next() (time.Duration, bool) {
	if s == nil {
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shapes.NextTimer()
}
