package uplink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent/internal/clock"
)

// Times after which a link that failed is preferred again to a later one: the first
// try back ends a session that is well, so the next ones wait longer.
const (
	firstFailback   = 10 * time.Minute
	longestFailback = time.Hour
)

var errFailback = errors.New("going back to a link that stands before this one")

// Failover is a transport of several links to one destination. Each attempt to
// connect tries them in order until a session comes up. A link that failed while
// another one came up goes to the end of the order for 10 minutes, doubling up to an
// hour with each failure; then the session on the later link is ended in order, and
// the earlier one has its turn.
//
// All methods are safe for concurrent use; one session runs at a time.
type Failover struct {
	links []Transport
	clock clock.Clock

	mu      sync.Mutex // guards what follows
	current int        // the link of the session, or of the last attempt
	rest    []rest     // of each link
}

// rest says when a link that failed is preferred again.
type rest struct {
	until time.Duration // run time
	pause time.Duration // the last one
}

var _ Transport = (*Failover)(nil)

// NewFailover returns a transport of links, most wanted first. There must be one.
// A nil clock is Go's.
func NewFailover(links []Transport, c clock.Clock) *Failover {
	if c == nil {
		c = clock.Go()
	}
	return &Failover{links: links, clock: c, rest: make([]rest, len(links))}
}

// String names the link of the session, or the one that was tried last.
func (f *Failover) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.links[f.current].String()
}

// Session implements [Transport].
func (f *Failover) Session(ctx context.Context, h Handler, start func(context.Context, Session)) error {
	var errs []error
	var failed []int
	for _, i := range f.order() {
		up, err := f.try(ctx, i, h, start, func() { f.tire(failed) })
		if up || ctx.Err() != nil {
			return err
		}
		failed = append(failed, i)
		errs = append(errs, err)
	}
	f.forgive()
	return joined(errs)
}

// order returns the links as they are tried: those at rest last.
func (f *Failover) order() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock.Run()
	var ready, resting []int
	for i, r := range f.rest {
		if r.until > now {
			resting = append(resting, i)
		} else {
			ready = append(ready, i)
		}
	}
	return append(ready, resting...)
}

// try runs a session on one link; up reports whether it came up, and cameUp is
// called when it does.
func (f *Failover) try(ctx context.Context, i int, h Handler, start func(context.Context, Session), cameUp func()) (up bool, err error) {
	f.mu.Lock()
	f.current = i
	f.mu.Unlock()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	w := &upWatch{Handler: h}
	var back *time.Timer
	w.first = func() {
		cameUp()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.rest[i] = rest{}
		if wait, ok := f.failback(i); ok {
			back = time.AfterFunc(wait, func() { end(errFailback) })
		}
	}
	err = f.links[i].Session(ctx, w, start)
	if back != nil {
		back.Stop()
	}
	if errors.Is(context.Cause(ctx), errFailback) {
		err = errFailback
	}
	return w.up.Load(), err
}

// failback returns how long a session on link i may last before an earlier link has
// its turn; f.mu is held.
func (f *Failover) failback(i int) (wait time.Duration, ok bool) {
	now := f.clock.Run()
	for _, r := range f.rest[:i] {
		if d := max(r.until-now, firstFailback/10); !ok || d < wait {
			wait, ok = d, true
		}
	}
	return wait, ok
}

// tire puts links that failed, while another did not, to rest.
func (f *Failover) tire(links []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range links {
		r := &f.rest[i]
		r.pause = min(max(2*r.pause, firstFailback), longestFailback)
		r.until = f.clock.Run() + r.pause
	}
}

// forgive forgets all failures: when no link comes up, it is not their fault.
func (f *Failover) forgive() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.rest)
}

// joined makes one error of those of all links. It is a refusal only if all are:
// otherwise the next attempt may well succeed, and need not wait for a person.
func joined(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	for _, err := range errs {
		if _, ok := errors.AsType[*RefusedError](err); !ok {
			for i := range errs {
				errs[i] = fmt.Errorf("link %d: %s", i+1, errs[i].Error())
			}
			return errors.Join(errs...)
		}
	}
	return errors.Join(errs...)
}

// upWatch notices when a session comes up.
type upWatch struct {
	Handler
	first func()
	up    atomic.Bool
}

func (w *upWatch) Up(c Caps) {
	w.up.Store(true)
	w.first()
	w.Handler.Up(c)
}

// Hint implements [HintHandler].
func (w *upWatch) Hint(payload []byte) {
	if h, ok := w.Handler.(HintHandler); ok {
		h.Hint(payload)
	}
}
