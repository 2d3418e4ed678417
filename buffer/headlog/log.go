package headlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/edgeagent/edgeagent"
)

// maxSeq is the greatest number a record may have.
const maxSeq = 1<<53 - 1

// reserve is what appends leave of a file to the log's own frames.
const reserve = 4 * pageSize

// Log is an open head log. All methods are safe for concurrent use.
type Log struct {
	dir string
	o   Options

	// turn is held by whoever syncs, makes or removes files. It is taken before
	// mu, never while mu is held.
	turn chan struct{}

	mu    sync.Mutex // guards what follows; held for page-cache writes at most
	slots [slots]slot
	cur   int    // the slot that is appended to; -1 before the first rotation
	seen  uint64 // greatest generation given
	head  Head   // as written last; the limits may not be durable yet
	// allowed are the limits that are durable.
	allowed Limits
	// written and durable count frames, the log's own included, since Start.
	written, durable uint64
	buf              []byte

	failed  error // the first failure
	suspect bool  // since then nobody has rotated
	broken  error
	closed  bool
	count   counters
}

// Head is what stands in the header of every generation.
type Head struct {
	Epoch  edgeagent.Epoch
	Limits Limits // highest wins: numbers below were reserved at some time
}

// state is what a file is there for.
type state uint8

const (
	absent  state = iota
	free          // may be rotated into
	current       // is appended to
	old           // superseded, not released yet
	retired       // is being readied, or removed
)

// slot is one head file.
type slot struct {
	state state
	file  File
	bad   bool // a write or sync failed: not trusted any more
	head  Head // in its header; zero if unknown

	gen     uint64
	index   uint32 // frames written
	off     int64  // where the next one goes
	durable int64  // a page boundary
	page    anchors
}

// counters count since Start.
type counters struct {
	frames, bytes, moved       uint64
	syncs, rotations, failures uint64
	padding                    uint64
}

// place is where the next frame stands.
func (s *slot) place() place {
	return place{gen: s.gen, index: s.index, durable: uint16(s.durable / pageSize)}
}

// encode appends the next frame to dst as it will stand at offset at: short, if
// there is a full one in the page to which it can refer.
func (s *slot) encode(dst []byte, at int64, f *Frame) []byte {
	p := s.place()
	if a := s.page.find(at, p, f); a != nil {
		return a.appendShort(dst, at, p.index, f)
	}
	start := len(dst)
	dst = appendFrame(dst, at, p, f)
	s.page.note(at, p, f, binary.LittleEndian.Uint32(dst[start:]))
	return dst
}

// usable says why the log cannot be written to; mu is held.
func (l *Log) usable() error {
	switch {
	case l.closed:
		return ErrClosed
	case l.broken != nil:
		return l.broken
	case l.suspect:
		return fmt.Errorf("%w: %w", ErrSuspect, l.failed)
	}
	return nil
}

// fail notes that a file cannot be trusted any more, and returns what to tell the
// caller; mu is held.
func (l *Log) fail(i int, err error) error {
	s := &l.slots[i]
	if s.bad {
		return l.usable()
	}
	s.bad = true
	l.count.failures++
	if l.failed != nil {
		return l.breakDown(err)
	}
	l.failed, l.suspect = err, true
	return l.usable()
}

// breakDown notes that nothing can be done any more; mu is held.
func (l *Log) breakDown(err error) error {
	if l.broken == nil {
		l.broken = fmt.Errorf("%w: %w", ErrBroken, err)
		if l.failed == nil {
			l.failed = err
		}
	}
	return l.broken
}

// Append writes a frame. When it returns without error the frame survives the
// death of the process; [Log.Sync] makes it survive that of the machine. Append
// never waits for the medium.
//
// Frames of one log are recovered in the order in which their Appends returned,
// so a caller that numbers records holds one lock of its own over numbering and
// Append. Errors are ErrFull, ErrLimit, ErrSuspect, ErrBroken, ErrClosed, or say
// what is wrong with the frame; none leaves anything behind that counts.
func (l *Log) Append(f Frame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return fmt.Errorf("append frame: %w", err)
	}
	if err := l.check(&f); err != nil {
		return fmt.Errorf("append frame: %w", err)
	}
	if limit := l.allowed[f.Stream]; f.numbered() && f.Epoch == l.head.Epoch && f.last() >= limit {
		return fmt.Errorf("append frame: %w: number %d of %s, the limit is %d", ErrLimit, f.last(), f.Stream, limit)
	}
	s := &l.slots[l.cur]
	if s.off+headerSize+int64(len(f.Payload)) > l.o.Size-reserve {
		return fmt.Errorf("append frame: %w", ErrFull)
	}
	if err := l.write(l.cur, &f); err != nil {
		return fmt.Errorf("append frame: %w", err)
	}
	l.count.frames++
	return nil
}

// MaxPayload returns the greatest payload that this log takes.
func (l *Log) MaxPayload() int { return int(min(MaxPayload, l.o.Size/4)) }

// check refuses frames that recovery would not return, and fills in the epoch; mu
// is held.
func (l *Log) check(f *Frame) error {
	if f.Epoch == 0 {
		f.Epoch = l.head.Epoch
	}
	switch {
	case f.Kind == 0 || f.Kind >= kindHeader:
		return fmt.Errorf("kind %d is not for callers", f.Kind)
	case len(f.Payload) > l.MaxPayload():
		return fmt.Errorf("payload of %d bytes, at most %d fit", len(f.Payload), l.MaxPayload())
	case f.numbered() && (!f.Stream.Valid() || f.First == 0 || f.Count == 0 || f.First > maxSeq || f.last() > maxSeq):
		return fmt.Errorf("%d records from %d of %s have no numbers", f.Count, f.First, f.Stream)
	}
	return nil
}

// write writes one frame into the page cache; mu is held.
func (l *Log) write(i int, f *Frame) error {
	s := &l.slots[i]
	l.buf = s.encode(l.buf[:0], s.off, f)
	n, err := s.file.WriteAt(l.buf, s.off)
	if err := wrote(n, len(l.buf), err); err != nil {
		return l.fail(i, fmt.Errorf("write %s: %w", path("", i), err))
	}
	s.off += int64(n)
	s.index++
	l.written++
	l.count.bytes += uint64(n)
	return nil
}

// take waits for the turn.
func (l *Log) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Log) give() { <-l.turn }

// Sync makes durable all frames whose Append had returned before: they survive a
// power cut. Callers that come together share one fdatasync; appends go on
// meanwhile. The pages that are durable then are never written again, so what
// follows begins a new one. ctx bounds the wait for the fdatasync of others, not
// one's own. Errors are ctx's, ErrSuspect, ErrBroken or ErrClosed.
func (l *Log) Sync(ctx context.Context) error {
	l.mu.Lock()
	target, err := l.written, l.usable()
	done := l.durable >= target
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("sync head log: %w", err)
	}
	if done {
		return nil
	}
	if err := l.take(ctx); err != nil {
		return fmt.Errorf("sync head log: %w", err)
	}
	defer l.give()
	if err := l.syncTo(target); err != nil {
		return fmt.Errorf("sync head log: %w", err)
	}
	return nil
}

// syncTo syncs until so many frames are durable; turn is held.
func (l *Log) syncTo(target uint64) error {
	for {
		l.mu.Lock()
		err := l.usable()
		if err != nil || l.durable >= target {
			l.mu.Unlock()
			return err
		}
		i, upTo := l.cur, l.written
		s := &l.slots[i]
		s.pad(&l.count)
		off, file := s.off, s.file
		l.mu.Unlock()

		err = file.Datasync()

		l.mu.Lock()
		l.count.syncs++
		if err != nil {
			// Whoever has rotated away from this file meanwhile makes us try the
			// next one.
			_ = l.fail(i, fmt.Errorf("sync %s: %w", path("", i), err))
		} else {
			s.durable, l.durable = off, max(l.durable, upTo)
		}
		l.mu.Unlock()
	}
}

// pad moves on to the next page: what a sync covers is never written again.
func (s *slot) pad(c *counters) {
	next := nextPage(s.off)
	c.padding += uint64(next - s.off)
	s.off = next
}

// Raise makes limit the number of a stream below which numbers may be handed out,
// durably, in both files. A limit that is not higher than the one before changes
// nothing.
func (l *Log) Raise(ctx context.Context, s edgeagent.Stream, limit edgeagent.Seq) error {
	if !s.Valid() || limit > maxSeq+1 {
		return fmt.Errorf("raise limit of %s to %d: no such number", s, limit)
	}
	if err := l.take(ctx); err != nil {
		return fmt.Errorf("raise limit of %s: %w", s, err)
	}
	defer l.give()
	if err := l.raise(s, limit); err != nil {
		return fmt.Errorf("raise limit of %s to %d: %w", s, limit, err)
	}
	return nil
}

// raise is Raise while turn is held.
func (l *Log) raise(s edgeagent.Stream, limit edgeagent.Seq) error {
	l.mu.Lock()
	err := l.usable()
	if err != nil || limit <= l.allowed[s] {
		l.mu.Unlock()
		return err
	}
	// From now on a generation that begins bears it, wherever this frame ends.
	l.head.Limits[s] = max(l.head.Limits[s], limit)
	if f := (Frame{Kind: kindLimit, Stream: s, First: limit, Epoch: l.head.Epoch}); l.slots[l.cur].off+headerSize > l.o.Size {
		err = ErrFull
	} else {
		err = l.write(l.cur, &f)
	}
	target := l.written
	l.mu.Unlock()
	if err != nil {
		return err
	}
	if err := l.syncTo(target); err != nil {
		return err
	}
	l.mu.Lock()
	l.allowed[s] = max(l.allowed[s], limit)
	l.mu.Unlock()
	return l.stamp()
}

// Close syncs, if it still can, and lets go of the files. What comes later fails
// with ErrClosed. ctx bounds the wait for the sync of others.
func (l *Log) Close(ctx context.Context) error {
	if err := l.take(ctx); err != nil {
		return fmt.Errorf("close head log: %w", err)
	}
	defer l.give()
	l.mu.Lock()
	target, done := l.written, l.closed
	l.mu.Unlock()
	if done {
		return nil
	}
	err := l.syncTo(target)
	if err == nil {
		l.testify()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for i := range l.slots {
		if s := &l.slots[i]; s.file != nil {
			err = errors.Join(err, s.file.Close())
			s.file = nil
		}
	}
	if err != nil {
		return fmt.Errorf("close head log: %w", err)
	}
	return nil
}

// testify leaves a frame that says how much was durable at the end, so that what
// is damaged later is not taken for what a power cut tore. It matters too little
// to fail; turn is held.
func (l *Log) testify() {
	l.mu.Lock()
	err := ErrFull
	if l.slots[l.cur].off+headerSize <= l.o.Size {
		err = l.write(l.cur, &Frame{Kind: kindWitness, Epoch: l.head.Epoch})
	}
	target := l.written
	l.mu.Unlock()
	if err == nil {
		_ = l.syncTo(target)
	}
}

// Stats says how the log is. Counters count since Start.
type Stats struct {
	Generation uint64
	Size, Used int64 // bytes of the current file; appends are refused 16 KiB before its end
	Files      int
	Unreleased bool  // the other file waits for Release
	Unsynced   int64 // bytes that a power cut would take
	Limits     Limits

	Frames    uint64 // appended
	Moved     uint64 // frames written anew by rotations
	Bytes     uint64 // of all frames, headers included
	Padding   uint64 // bytes left empty behind syncs
	Syncs     uint64 // fdatasyncs
	Rotations uint64
	Failures  uint64 // of writes and syncs: the second breaks the log
	Degraded  error  // the first failure, nil if there was none
	Broken    bool
}

// Stats returns a snapshot.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &l.count
	st := Stats{
		Size: l.o.Size, Limits: l.allowed, Frames: c.frames, Moved: c.moved, Bytes: c.bytes, Padding: c.padding,
		Syncs: c.syncs, Rotations: c.rotations, Failures: c.failures, Degraded: l.failed, Broken: l.broken != nil,
	}
	for i := range l.slots {
		s := &l.slots[i]
		if s.file != nil {
			st.Files++
		}
		if s.state == old {
			st.Unreleased = true
		}
		if i != l.cur {
			continue
		}
		st.Generation, st.Used = s.gen, s.off
		if l.durable < l.written {
			st.Unsynced = s.off - s.durable
		}
	}
	return st
}
