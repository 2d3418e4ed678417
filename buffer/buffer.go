package buffer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// Buffer is an open buffer. All methods are safe for concurrent use.
type Buffer struct {
	dir  string
	o    Options
	log  *slog.Logger
	lock *os.File
	run  edgeagent.Run
	// start is when the run began, for times taken by a clock that is not synced.
	start edgeagent.Instant
	tick  atomic.Uint64 // counts uses of segments
	// corrections of the clock; nil while there are none.
	corrections atomic.Pointer[corrections]

	// disk serialises everything that changes files. It is taken before any
	// seg.io, which is taken before mu.
	disk         sync.Mutex
	store        *segment.Store
	header       header
	enc          block.Encoder
	unsaved      []*seg           // sealed, and state.db does not say so yet
	late         []segment.Change // go with the next commit to state.db, before it
	carry        [5]cut           // what the next block of a stream begins with
	cursorsSaved time.Duration
	doubtful     *thinning     // its ledger may be in state.db, and was taken back
	told         notices       // of gaps; whoever runs the buffer has it
	looked       time.Duration // run time of the last look at LOCK

	mu      sync.Mutex // guards what follows
	closed  bool
	epochs  []*epoch // oldest first; the last is the newest and never changes
	pending [5]*group
	intake  [5]intake
	guard   []int64 // last agent-stamped time, by series id - 1
	dests   map[string]*destination
	rewinds map[edgeagent.Epoch]rewind
	cache   cache
	handles []*seg // with an open file
	report  Report
	appends uint64
	changed chan struct{} // closed and replaced at every append
	freed   chan struct{} // closed and replaced when something was confirmed
	count   counters
	fault   fault
	gone    bool // LOCK is not the file that was locked
	// leftover are segments in no chain whose files are still there; changed only
	// while disk is held as well.
	leftover []*seg
}

// newest returns the epoch that records are appended to.
func (b *Buffer) newest() *epoch { return b.epochs[len(b.epochs)-1] }

// epoch returns an epoch by its name, nil if there is none.
func (b *Buffer) epoch(e edgeagent.Epoch) *epoch {
	for _, ep := range b.epochs {
		if ep.id == e {
			return ep
		}
	}
	return nil
}

// Epoch returns the newest epoch.
func (b *Buffer) Epoch() edgeagent.Epoch { return b.newest().id }

// Run returns this process' run.
func (b *Buffer) Run() edgeagent.Run { return b.run }

// RunAt returns the run that gave number s of a stream, if the buffer still knows.
func (b *Buffer) RunAt(e edgeagent.Epoch, st edgeagent.Stream, s edgeagent.Seq) (edgeagent.Run, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ep := b.epoch(e)
	if ep == nil || !st.Valid() || s == 0 || s >= ep.streams[st].next {
		return 0, false
	}
	return ep.streams[st].runAt(s)
}

// Wait returns a counter of appends above seen as soon as there is one, or early
// with the error of ctx, or with ErrClosed.
func (b *Buffer) Wait(ctx context.Context, seen uint64) (uint64, error) {
	for {
		b.mu.Lock()
		n, changed, closed := b.appends, b.changed, b.closed
		b.mu.Unlock()
		switch {
		case n > seen:
			return n, nil
		case closed:
			return n, ErrClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
}

// Sync makes durable what other callers are appending now. What Append has
// returned for is durable already.
func (b *Buffer) Sync(ctx context.Context) error {
	b.mu.Lock()
	var waits []*group
	for _, g := range b.pending {
		if g != nil {
			g.hurryUp()
			waits = append(waits, g)
		}
	}
	b.mu.Unlock()
	for _, g := range waits {
		select {
		case <-g.done:
			if g.err != nil {
				return fmt.Errorf("sync buffer: %w", g.err)
			}
		case <-ctx.Done():
			return fmt.Errorf("sync buffer: %w", ctx.Err())
		}
	}
	return nil
}

// Gaps returns the ledger: all that cannot be delivered any more, by epoch, stream
// and number, those of single destinations last.
func (b *Buffer) Gaps() []Gap {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Gap
	for _, ep := range b.epochs {
		for _, s := range edgeagent.Streams() {
			out = append(out, ep.streams[s].gaps...)
		}
	}
	for _, d := range b.holding() {
		out = append(out, b.ownGaps(d)...)
	}
	return out
}

// Close commits what is pending, notes durably that this was an orderly end, and
// lets go of the directory. Appends that come later fail with [ErrClosed]. ctx
// bounds the wait for appends that are under way; the rest is done in any case.
func (b *Buffer) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.mu.Unlock()
	err := b.Sync(ctx)

	b.disk.Lock()
	defer b.disk.Unlock()
	b.mu.Lock()
	close(b.changed) // for those in Wait; nobody appends any more
	b.changed = make(chan struct{})
	b.mu.Unlock()
	if clean := b.markClean(); clean != nil {
		err = errors.Join(err, fmt.Errorf("close buffer: %w", clean))
	}
	return errors.Join(err, b.release())
}

// markClean writes everything that the next open would otherwise have to find out.
// b.disk is held.
func (b *Buffer) markClean() error {
	b.mu.Lock()
	for _, s := range edgeagent.Streams() {
		ch := b.newest().streams[s]
		for _, sg := range ch.segs {
			if sg == ch.open && sg.records > 0 {
				b.unsaved = append(b.unsaved, sg)
			}
		}
	}
	b.mu.Unlock()
	h := b.header
	h.Clean = true
	return b.save([]segment.Change{set(bucketBuffer, keyHeader, h)})
}

// release closes all files.
func (b *Buffer) release() error {
	var errs []error
	b.mu.Lock()
	var all []*seg
	for _, ep := range b.epochs {
		for _, s := range edgeagent.Streams() {
			all = append(all, ep.streams[s].segs...)
		}
	}
	b.mu.Unlock()
	for _, sg := range all {
		sg.io.Lock()
		sg.gone = true
		errs = append(errs, b.closeHandle(sg))
		sg.io.Unlock()
	}
	if b.store != nil {
		errs = append(errs, b.store.Close())
	}
	if b.lock != nil {
		errs = append(errs, unlockFile(b.lock), b.lock.Close())
	}
	return errors.Join(errs...)
}

func (b *Buffer) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}
