package sensors

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
)

// Sink takes the readings that sources give. Put is called from many goroutines
// at once, with the readings of one source in order, and must not keep rs. It may
// block: only the source whose readings they are waits. Its context outlives the
// scheduler's by up to five seconds, so that readings already taken are not lost
// at the end.
type Sink interface {
	Put(ctx context.Context, rs []edgeagent.Reading) error
}

// Bounds of an orderly end, both counted from the end of the context of Run.
const (
	// DefaultGrace is how long Run waits for calls into drivers.
	DefaultGrace = 3 * time.Second
	// PutGrace is how long a Put may still take.
	PutGrace = 5 * time.Second
	// sinkGrace is how long a sink has to notice that its context ended.
	sinkGrace = time.Second
)

// Options of a scheduler.
type Options struct {
	Clock  clock.Clock   // default clock.Go()
	Logger *slog.Logger  // default: discard
	Grace  time.Duration // default DefaultGrace, at most PutGrace
}

// Scheduler samples sources. All methods are safe for concurrent use.
type Scheduler struct {
	opts    Options
	sources []*runner
}

// NewScheduler makes a scheduler of the given sources. Nothing is opened before
// Run.
func NewScheduler(specs []Spec, sink Sink, opts Options) *Scheduler {
	if opts.Clock == nil {
		opts.Clock = clock.Go()
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	opts.Grace = min(cmp.Or(opts.Grace, DefaultGrace), PutGrace)
	s := &Scheduler{opts: opts}
	for _, spec := range specs {
		s.sources = append(s.sources, newRunner(spec, sink, opts))
	}
	return s
}

// Run opens and samples every source until ctx ends. It may be called once. Each
// source is sampled once at the start and then on its interval.
//
// When ctx ends, calls into drivers are cancelled and readings that were already
// taken are handed on. Run returns when every source is closed, or after
// Options.Grace when a call into a driver does not return: such a call sits in a
// system call that nothing can interrupt, and its goroutine is the only one that
// ever outlives Run. What that call may still give is discarded. Run then returns
// nil all the same; the log names the source. It takes at most six seconds.
func (s *Scheduler) Run(ctx context.Context) error {
	putCtx, cancelPut := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelPut()
	done := make(chan int, len(s.sources)) // one slot each: sending never blocks
	start := s.opts.Clock.Run()
	var wg sync.WaitGroup // not waited for: drain bounds the wait
	for i, r := range s.sources {
		wg.Go(func() {
			r.run(ctx, putCtx, start)
			done <- i
		})
	}
	<-ctx.Done()
	s.drain(done, cancelPut)
	return nil
}

// drain waits for the sources to finish: first for drivers and sinks, then for
// sinks only, and last for sinks whose context has ended.
func (s *Scheduler) drain(done <-chan int, cancelPut func()) {
	left := make(map[int]*runner, len(s.sources))
	for i, r := range s.sources {
		left[i] = r
	}
	wait := func(d time.Duration) {
		timeout := time.NewTimer(d)
		defer timeout.Stop()
		for len(left) > 0 {
			select {
			case i := <-done:
				delete(left, i)
			case <-timeout.C:
				return
			}
		}
	}
	wait(s.opts.Grace)
	for i, r := range left {
		if r.abandon(false) {
			delete(left, i)
		}
	}
	wait(PutGrace - s.opts.Grace)
	cancelPut()
	wait(sinkGrace)
	for _, r := range left {
		r.abandon(true)
	}
}

// Stats returns what is known of each source, in the order of the specs.
func (s *Scheduler) Stats() []SourceStats {
	out := make([]SourceStats, 0, len(s.sources))
	for _, r := range s.sources {
		out = append(out, r.stats())
	}
	return out
}

// Taken returns how many readings were handed to the sink since the start.
func (s *Scheduler) Taken() uint64 {
	var n uint64
	for _, r := range s.sources {
		r.mu.Lock()
		n += r.st.Readings
		r.mu.Unlock()
	}
	return n
}

// Health returns the worst health of the sources; of several equally bad ones the
// first.
func (s *Scheduler) Health() edgeagent.Health {
	worst := edgeagent.Health{}
	for _, st := range s.Stats() {
		if st.Health.Level > worst.Level {
			worst = st.Health
			worst.Text = st.Name + ": " + worst.Text
		}
	}
	return worst
}
