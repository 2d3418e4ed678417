package buffer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/headlog"
)

const (
	// ackSyncEvery bounds how long a power cut can make acks of durable records
	// forgotten: what is lost of them is delivered again.
	ackSyncEvery = time.Minute
	// retryEvery is the least time between checkpoints that fail.
	retryEvery = time.Second
	// never is a run time that does not come.
	never = time.Duration(math.MaxInt64)
)

// unsynced are the records of a stream that a power cut would take, in pieces that
// were appended at about the same time, oldest first.
type unsynced []piece

type piece struct {
	edgeagent.Range
	at time.Duration // run time of the first
}

// note adds records. Pieces are an eighth of the bound long, so that there are
// never many of them, and little is synced too early.
func (u *unsynced) note(r edgeagent.Range, now, bound time.Duration) {
	if n := len(*u); n > 0 && now-(*u)[n-1].at < bound/8 {
		(*u)[n-1].To = r.To
		return
	}
	*u = append(*u, piece{r, now})
}

// trim forgets the records below next.
func (u *unsynced) trim(next edgeagent.Seq) {
	gone := 0
	for gone < len(*u) && (*u)[gone].To < next {
		gone++
	}
	*u = slices.Delete(*u, 0, gone)
}

// syncDue returns the run time at which the head log has to be synced: when the
// oldest record that is neither durable here nor durably confirmed by every
// destination reaches sync_every. b.mu is held.
func (b *Buffer) syncDue() time.Duration {
	due := never
	if b.acksAt != 0 {
		due = b.acksAt + ackSyncEvery
	}
	for _, s := range edgeagent.Streams() {
		u := &b.unsynced[s]
		gone := 0
		for gone < len(*u) && b.confirmedDurably(s, (*u)[gone].Range) {
			gone++
		}
		*u = slices.Delete(*u, 0, gone)
		if len(*u) > 0 {
			due = min(due, (*u)[0].at+b.o.SyncEvery)
		}
	}
	return due
}

// confirmedDurably reports whether every destination has records of the newest
// epoch for good, so that nobody needs them from here after a power cut. b.mu is
// held.
func (b *Buffer) confirmedDurably(s edgeagent.Stream, r edgeagent.Range) bool {
	e, any := b.newest().id, false
	for _, d := range b.dests {
		if !d.holds() {
			continue
		}
		if any = true; !d.durable || len(d.place(e, s).set.Missing(r)) > 0 {
			return false
		}
	}
	return any
}

// watermark is what the head log holds at some moment.
type watermark struct {
	next   [5]edgeagent.Seq
	series uint32
}

// mark returns what the head log holds now; b.mu is held.
func (b *Buffer) mark() (w watermark) {
	for _, s := range edgeagent.Streams() {
		w.next[s] = b.newest().streams[s].next
	}
	w.series = uint32(len(b.newest().series.byID))
	b.acksAt = 0
	return w
}

// survives notes that what w names is durable now.
func (b *Buffer) survives(w watermark) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ep := b.newest()
	for _, s := range edgeagent.Streams() {
		b.unsynced[s].trim(w.next[s])
		ep.streams[s].durable = max(ep.streams[s].durable, w.next[s])
	}
	ep.series.durable = max(ep.series.durable, w.series)
}

// Sync makes durable everything that Append has returned for: a power cut does not
// take it back. ctx bounds the wait for the syncs of others, not one's own.
func (b *Buffer) Sync(ctx context.Context) error {
	if b.isClosed() {
		return nil // Close has done it
	}
	if err := b.syncHead(ctx); err != nil && !b.outlive(ctx, err) {
		return fmt.Errorf("sync buffer: %w", err)
	}
	return nil
}

// syncHead syncs the head log. Appends go on meanwhile.
func (b *Buffer) syncHead(ctx context.Context) error {
	for {
		b.mu.Lock()
		w, head := b.mark(), b.head
		b.mu.Unlock()
		var err error
		if head != nil {
			err = head.Sync(ctx)
		}
		if err == nil {
			b.survives(w)
			return nil
		}
		if !errors.Is(err, headlog.ErrSuspect) {
			return err
		}
		if err := b.mend(ctx); err != nil {
			return err
		}
	}
}

// replaceLost makes files anew that were removed under the buffer. All that was in
// them and is in no segment is in memory, too.
func (b *Buffer) replaceLost(ctx context.Context) error {
	head := b.headLog()
	if b.isGone() || head == nil {
		return nil
	}
	if err := head.Look(ctx); errors.Is(err, headlog.ErrSuspect) {
		b.log.Error("a file of the buffer was removed under the agent; it is made anew", "dir", b.dir, "err", err)
		if err := b.syncHead(ctx); err != nil {
			return err
		}
	}
	if err := b.disk.lock(ctx); err != nil {
		return err
	}
	defer b.disk.Unlock()
	if b.store == nil || !b.store.Lost() {
		return nil
	}
	b.log.Error("a file of the buffer was removed or replaced under the agent; it is made anew", "path", filepath.Join(b.dir, stateFile))
	return b.store.Commit(nil)
}

// lookForFiles reports whether it is time to.
func (b *Buffer) lookForFiles() bool {
	now := b.o.Clock.Run()
	b.mu.Lock()
	defer b.mu.Unlock()
	due := b.lookedFor == 0 || now-b.lookedFor >= lookEvery
	if due {
		b.lookedFor = max(now, 1)
	}
	return due
}

func (b *Buffer) isGone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gone
}

// mend leaves a head file that failed, and whatever was left unreleased.
func (b *Buffer) mend(ctx context.Context) error {
	for {
		b.in.Lock()
		err := b.rotateNow(ctx)
		b.in.Unlock()
		if err != nil && !errors.Is(err, headlog.ErrUnreleased) {
			return err
		}
		if err := b.releaseHead(ctx); !errors.Is(err, headlog.ErrSuspect) {
			return err
		}
	}
}

// releaseHead gives the older head files free. All that they hold is sealed or was
// moved by the last rotation.
func (b *Buffer) releaseHead(ctx context.Context) error {
	b.mu.Lock()
	w, head := b.mark(), b.head
	b.mu.Unlock()
	b.unreleased.Store(false)
	if head == nil {
		return nil
	}
	if err := head.Release(ctx); err != nil {
		b.unreleased.Store(true)
		return err
	}
	b.survives(w)
	return nil
}

// Run keeps the promise of sync_every, moves what fills blocks from the head log
// into segments, lets go of head files, and tells of gaps, until ctx ends or the
// buffer is closed.
// Nothing else of the package runs by itself. Without Run whoever appends does it
// on the way: a sync that is overdue, a checkpoint that is due; then nothing
// happens while nobody appends. It returns an error only when it runs already.
func (b *Buffer) Run(ctx context.Context) error {
	b.mu.Lock()
	if b.running {
		b.mu.Unlock()
		return errors.New("buffer runs already")
	}
	b.running = true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.running = false
	}()
	ctx, stop := context.WithCancel(ctx)
	var telling sync.WaitGroup
	telling.Go(func() { b.watchGaps(ctx) })
	defer func() { stop(); telling.Wait() }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.wake:
		case <-timer.C:
		}
		if b.isClosed() {
			return nil
		}
		b.upkeep(ctx)
		timer.Reset(b.sleep())
	}
}

// poke lets Run look at once.
func (b *Buffer) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// sleep returns how long Run has nothing to do.
func (b *Buffer) sleep() time.Duration {
	now := b.o.Clock.Run()
	due := now + lookEvery
	if b.checkpointDue() {
		due = now + retryEvery // it failed
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.head == nil {
		return min(max(b.retryDisk-now, time.Millisecond), retryDiskEvery)
	}
	// What comes next is due no earlier than sync_every from now.
	return max(min(due, b.syncDue(), now+b.o.SyncEvery)-now, time.Millisecond)
}

// upkeep does what is due.
func (b *Buffer) upkeep(ctx context.Context) {
	if b.diskDue() {
		b.retry(ctx)
	}
	b.lookAround()
	if b.lookForFiles() {
		b.trouble(ctx, "look after the files", b.replaceLost(ctx))
	}
	b.closeIdle()
	now := b.o.Clock.Run()
	b.mu.Lock()
	due := b.syncDue() <= now
	b.mu.Unlock()
	if due {
		b.trouble(ctx, "sync", b.syncHead(ctx))
	}
	if b.unreleased.Load() {
		b.trouble(ctx, "release head file", b.mend(ctx))
	}
	if !b.checkpointDue() {
		return
	}
	b.mu.Lock()
	wait := b.retryAt > now
	b.mu.Unlock()
	if wait || b.disk.lock(ctx) != nil {
		return
	}
	defer b.disk.Unlock()
	if b.checkpointDue() { // nobody else has done it meanwhile
		// Once begun it is finished, also when the agent stops meanwhile.
		err := b.checkpoint(context.WithoutCancel(ctx), false) // notes its failure itself
		if errors.Is(err, headlog.ErrBroken) {
			b.degrade(ctx, err)
		}
	}
}

// trouble notes what nobody waits for.
func (b *Buffer) trouble(ctx context.Context, what string, err error) {
	if err == nil || ctx.Err() != nil || b.isClosed() || b.outlive(ctx, err) {
		return
	}
	b.failed(fmt.Errorf("%s: %w", what, writeError(err)))
}
