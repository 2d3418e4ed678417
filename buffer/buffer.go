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
	"github.com/edgeagent/edgeagent/buffer/headlog"
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
	// The last look for idle segments; Run's own.
	swept     time.Duration
	sweptTick uint64
	// corrections of the clock; nil while there are none.
	corrections atomic.Pointer[corrections]

	// disk serialises everything that changes files. It is taken before any
	// seg.io, which is taken before mu.
	disk     turn
	vault    vault // does not change after open
	store    *segment.Store
	header   header
	enc      block.Encoder
	graft    func()           // adds what was in memory while there was no disk; while opening only
	unsaved  []*seg           // sealed, and state.db does not say so yet
	late     []segment.Change // go with the next commit to state.db, before it
	doubtful *thinning        // its ledger may be in state.db, and was taken back
	told     notices          // of gaps; whoever runs the buffer has it

	// in is held while records are numbered and written into the head log, and
	// while that moves on to another file. Taken after disk and seg.io, before mu.
	in         sync.Mutex
	head       *headlog.Log // nil while the disk has failed; changed under mu as well; never asked while that is held
	headSize   int64        // bytes of a head file
	maxPayload int          // of a frame
	callRows   int          // readings that are stored or refused as a whole
	callEvents int          // bytes of events that are
	intake     [5]intake
	guard      []int64 // last agent-stamped time, by series id - 1
	framed     idSet   // series that the current head file defines
	optional   int64   // bytes that their definitions take
	frameEnc   block.Encoder
	rows       []block.Row // scratch
	ids        []uint32
	payload    []byte
	tailBuf    []byte
	sealBuf    []byte
	boxBuf     []byte
	unreleased atomic.Bool // the head log was rotated in need
	wake       chan struct{}

	mu          sync.Mutex // guards what follows
	closed      bool
	epochs      []*epoch // oldest first; the last is the newest; replaced under disk and in as well
	noDisk      error    // why there is none
	noDiskSince time.Time
	retryDisk   time.Duration // run time at which it is tried again
	running     bool          // Run does
	tailBytes   int           // of records in memory
	unsynced    [5]unsynced
	acksAt      time.Duration // run time of the oldest ack of durable records that is not durable itself, 0 if none
	retryAt     time.Duration // no checkpoint before, after one that failed
	looked      time.Duration // run time of the last look at LOCK
	lookedFor   time.Duration // the files in it
	dests       map[string]*destination
	rewinds     map[edgeagent.Epoch]rewind
	handles     []*seg // with an open file
	report      Report
	appends     uint64
	changed     chan struct{} // closed at the next append; nil while nobody waits
	freed       chan struct{} // closed when something is confirmed; nil while nobody waits
	count       counters
	fault       fault
	gone        bool // LOCK is not the file that was locked
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
func (b *Buffer) Epoch() edgeagent.Epoch {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.newest().id
}

// RunID returns this process' run.
func (b *Buffer) RunID() edgeagent.Run { return b.run }

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
		n, closed := b.appends, b.closed
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
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

// Close seals what fills blocks, syncs the rest, notes durably that this was an
// orderly end, and lets go of the directory. Appends that come later fail with
// [ErrClosed]; Run ends. ctx bounds the wait for syncs that are under way; the rest
// is done in any case.
func (b *Buffer) Close(ctx context.Context) error {
	b.in.Lock()
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		b.in.Unlock()
		return nil
	}
	b.closed = true
	b.tell() // for those in Wait; nobody appends any more
	b.mu.Unlock()
	b.in.Unlock()
	b.poke()

	b.disk.Lock()
	defer b.disk.Unlock()
	_, err := b.sealTails(ctx, false)
	if err != nil { // they are in the head log
		b.log.Warn("records not moved into segments before the end", "err", err)
	}
	err = b.syncHead(ctx)
	if err == nil {
		err = b.markClean()
	}
	if err != nil {
		err = fmt.Errorf("close buffer: %w", writeError(err))
	}
	return errors.Join(err, b.release(context.WithoutCancel(ctx)))
}

// markClean writes everything that the next open would otherwise have to find out.
// b.disk is held, and the head log is synced.
func (b *Buffer) markClean() error {
	ep := b.newest()
	b.mu.Lock()
	for _, s := range edgeagent.Streams() {
		ch := ep.streams[s]
		for _, sg := range ch.segs {
			if sg == ch.open && sg.records > 0 {
				b.unsaved = append(b.unsaved, sg)
			}
		}
	}
	h := b.header
	h.Clean, h.Next = true, b.mark().next
	stored, byID := ep.series.stored, ep.series.byID
	b.mu.Unlock()
	h.Series = uint32(len(byID))
	changes, err := b.seriesChanges(ep.id, entries(byID, stored, h.Series))
	if err != nil {
		return err
	}
	return b.save(append(changes, set(bucketBuffer, keyHeader, h)))
}

// release closes all files.
func (b *Buffer) release(ctx context.Context) error {
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
	if b.head != nil {
		errs = append(errs, b.head.Close(ctx))
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
