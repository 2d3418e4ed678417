package headlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
)

// packed is how much of a rotation is written at a time.
const packed = 64 << 10

// Start makes a log of what was recovered: it writes head and tails into a file
// that holds nothing of value, syncs it, and only then lets go of the others, as
// [Log.Rotate] and [Log.Release] do. tails are all recovered frames that are not
// sealed durably, in the order in which they shall be recovered; nil means none.
// It may be called twice, and may read from [Recovery.Frames]. Limits that were
// recovered for the same epoch count, too.
//
// Files that are missing are created, at their full size. After an error nothing
// that was recovered is lost, but r is closed: call [Recover] again.
func (r *Recovery) Start(ctx context.Context, head Head, tails iter.Seq[Frame]) (*Log, error) {
	if r.closed {
		return nil, fmt.Errorf("start head log: %w", ErrClosed)
	}
	defer func() { r.closed = true }()
	head.Limits.raise(r.report.Limits[head.Epoch])
	l := &Log{dir: r.dir, o: r.o, turn: make(chan struct{}, 1), cur: -1, seen: r.seen, head: head}
	for i, f := range r.files {
		if f == nil {
			continue
		}
		s := &l.slots[i]
		*s = slot{state: free, file: f, gen: r.scans[i].gen}
		if r.scans[i].frames > 0 && !r.scans[i].dead {
			s.state = old
		}
	}
	if err := l.start(ctx, tails); err != nil {
		l.closeFiles()
		return nil, fmt.Errorf("start head log in %s: %w", r.dir, err)
	}
	return l, nil
}

func (l *Log) start(ctx context.Context, tails iter.Seq[Frame]) error {
	ready := false
	for i := range l.slots {
		if s := &l.slots[i]; s.state == free {
			if err := l.fit(s.file); err != nil {
				return createError(fmt.Errorf("resize %s: %w", path("", i), err), l.o.Size)
			}
			ready = true
		}
	}
	if !ready {
		if err := l.create(); err != nil {
			return err
		}
	}
	// One failure is survived here as it is later.
	for {
		err := l.Rotate(ctx, tails)
		if err == nil {
			err = l.Release(ctx)
		}
		if !errors.Is(err, ErrSuspect) {
			if err == nil {
				l.mu.Lock()
				l.allowed = l.head.Limits
				l.mu.Unlock()
			}
			return err
		}
	}
}

// closeFiles lets go of all files without another word.
func (l *Log) closeFiles() {
	for i := range l.slots {
		if f := l.slots[i].file; f != nil {
			_ = f.Close()
		}
	}
}

// Rotate begins a new generation in the other file: head, then tails, then what is
// appended from now on. tails are all frames of the log that are not sealed
// durably, oldest first; their payloads are copied, and may share memory. From
// here on the old file is needed only until the new one is synced, which Release
// sees to; Rotate itself does not wait for the medium.
//
// The caller holds the lock under which it appends, so that nothing comes between
// what is in tails and what comes behind them. tails must not call the log.
//
// After ErrSuspect, Rotate is how the log goes on: it leaves the bad file, and
// makes a new one if there is no other, which takes as long as writing it. ErrFull
// means that tails do not fit into a file, ErrUnreleased that there is none; then
// the log is as it was before. Other errors are ErrSuspect (call Rotate again),
// ErrBroken, ErrClosed, ctx's, or say what is wrong with a tail.
func (l *Log) Rotate(ctx context.Context, tails iter.Seq[Frame]) error {
	if err := l.makeRoom(ctx); err != nil {
		return fmt.Errorf("rotate head log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil && !errors.Is(err, ErrSuspect) {
		return fmt.Errorf("rotate head log: %w", err)
	}
	i := l.find(free)
	if i < 0 {
		return fmt.Errorf("rotate head log: %w", ErrUnreleased)
	}
	if err := l.begin(i, tails); err != nil {
		return fmt.Errorf("rotate head log: %w", err)
	}
	if l.cur >= 0 {
		l.slots[l.cur].state = old
	}
	l.slots[i].state, l.cur = current, i
	l.suspect = false
	l.count.rotations++
	return nil
}

// makeRoom makes another file if the log is suspect and has none to go to.
func (l *Log) makeRoom(ctx context.Context) error {
	if !l.cornered() {
		return nil
	}
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.give()
	if !l.cornered() { // somebody else was faster
		return nil
	}
	if err := l.create(); err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.breakDown(err)
	}
	return nil
}

// cornered reports whether the log must leave its file and has none to go to.
func (l *Log) cornered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.suspect && !l.closed && l.broken == nil && l.find(free) < 0
}

// find returns a good slot in a state, -1 if there is none; mu is held.
func (l *Log) find(want state) int {
	for i := range l.slots {
		if s := &l.slots[i]; s.state == want && !s.bad {
			return i
		}
	}
	return -1
}

// begin writes a new generation into a free slot; mu is held.
func (l *Log) begin(i int, tails iter.Seq[Frame]) error {
	s := &l.slots[i]
	l.open(s)
	written := l.written
	buf := l.appendHead(l.buf[:0], s)
	n := uint32(1)
	flush := func() error {
		k, err := s.file.WriteAt(buf, s.off)
		if err := wrote(k, len(buf), err); err != nil {
			return l.fail(i, fmt.Errorf("write %s: %w", path("", i), err))
		}
		s.off += int64(k)
		buf = buf[:0]
		return nil
	}
	if tails == nil {
		tails = func(func(Frame) bool) {}
	}
	for f := range tails {
		if err := l.check(&f); err != nil {
			return err
		}
		if s.off+int64(len(buf)+headerSize+len(f.Payload)) > l.o.Size-reserve {
			return ErrFull
		}
		s.index = n
		buf = s.encode(buf, s.off+int64(len(buf)), &f)
		n++
		if len(buf) < packed {
			continue
		}
		if err := flush(); err != nil {
			return err
		}
	}
	s.index = n
	buf = s.encode(buf, s.off+int64(len(buf)), &Frame{Kind: kindBegun, Epoch: l.head.Epoch})
	if err := flush(); err != nil {
		return err
	}
	s.index, s.head, l.buf = n+1, l.head, buf
	l.written = written + uint64(n) + 1
	l.count.moved += uint64(n - 1)
	l.count.bytes += uint64(s.off)
	return nil
}

// open gives a slot a new generation; mu is held. The random half makes it
// unlike any that was begun and lost: what a cut left of such a one must not be
// taken for a part of this.
func (l *Log) open(s *slot) {
	l.seen = (l.seen>>32+1)<<32 | uint64(l.o.salt())
	s.gen, s.index, s.off, s.durable, s.head = l.seen, 0, 0, 0, Head{}
	s.page = anchors{}
}

// appendHead appends the header frame of a slot's generation; mu is held.
func (l *Log) appendHead(dst []byte, s *slot) []byte {
	var b [64]byte
	f := Frame{Kind: kindHeader, Epoch: l.head.Epoch, Payload: headPayload(b[:0], l.head.Limits)}
	return s.encode(dst, 0, &f)
}

// Release says that all frames written before the last Rotate are sealed durably,
// with the directories of what they are sealed in, or were among its tails. It
// syncs the current file, and only then gives the others free. Bad files are removed
// and replaced. Errors are those of Sync.
func (l *Log) Release(ctx context.Context) error {
	if err := l.take(ctx); err != nil {
		return fmt.Errorf("release head file: %w", err)
	}
	defer l.give()
	if err := l.release(); err != nil {
		return fmt.Errorf("release head file: %w", err)
	}
	return nil
}

// release is Release while turn is held.
func (l *Log) release() error {
	l.mu.Lock()
	err := l.usable()
	for err == nil && l.slots[l.cur].durable == 0 { // its tails are not durable
		target := l.written
		l.mu.Unlock()
		err = l.syncTo(target)
		l.mu.Lock()
	}
	if err == nil {
		err = l.retire()
	}
	target := l.written
	l.mu.Unlock()
	if err != nil {
		return err
	}
	// Before a byte of an old file changes, the current one must say durably that
	// nothing in there counts: else a cut could leave what looks like damage.
	if err := l.syncTo(target); err != nil {
		return err
	}
	return l.tidy()
}

// retire takes the old files out of use, and notes in the current one that they
// are dead, so that recovery need not read them; mu is held.
func (l *Log) retire() error {
	dead := false
	for i := range l.slots {
		if s := &l.slots[i]; s.state == old || s.state == free && s.bad {
			s.state, dead = retired, true
		}
	}
	if !dead || l.slots[l.cur].off+headerSize > l.o.Size {
		return nil
	}
	return l.write(l.cur, &Frame{Kind: kindReleased, Epoch: l.head.Epoch})
}

// Look finds out whether a file of the log was removed under it: the open file would
// take every write, and nobody would ever find it again. Then the log is suspect, and
// the error, which wraps [ErrSuspect], says what is missing. Errors are ctx's else.
func (l *Log) Look(ctx context.Context) error {
	if err := l.take(ctx); err != nil {
		return fmt.Errorf("look for head files: %w", err)
	}
	defer l.give()
	for i := range l.slots {
		l.mu.Lock()
		there := l.slots[i].file != nil && !l.slots[i].bad && !l.closed && l.broken == nil
		l.mu.Unlock()
		if !there {
			continue
		}
		f, err := l.o.FS.OpenFile(path(l.dir, i), false)
		if err == nil {
			_ = f.Close()
		}
		if errors.Is(err, fs.ErrNotExist) {
			l.mu.Lock()
			l.slots[i].bad = true
			l.count.failures++
			l.failed, l.suspect = fmt.Errorf("%s was removed", path("", i)), true
			l.mu.Unlock()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.suspect {
		return l.usable()
	}
	return nil
}

// tidy readies what is retired for the next rotation, removes what is bad or too
// much, and makes what is missing; turn is held.
func (l *Log) tidy() error {
	for i := slots - 1; i >= 0; i-- {
		l.mu.Lock()
		s := &l.slots[i]
		if (s.state == free || s.state == retired) && l.good() > 2 {
			s.state, s.bad = retired, true // more than two are made in need only
		}
		isRetired, bad := s.state == retired, s.bad
		l.mu.Unlock()
		switch {
		case isRetired && bad:
			l.remove(i)
		case isRetired:
			if err := l.ready(i); err != nil {
				return err
			}
		}
	}
	l.mu.Lock()
	missing := l.good() < 2
	l.mu.Unlock()
	if missing {
		if err := l.create(); err != nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.breakDown(err)
		}
	}
	return l.stamp()
}

// good counts the files that can be used; mu is held.
func (l *Log) good() int {
	n := 0
	for i := range l.slots {
		if s := &l.slots[i]; !s.bad && (s.state == free || s.state == current || s.state == retired) {
			n++
		}
	}
	return n
}

// ready frees a retired file; turn is held.
func (l *Log) ready(i int) error {
	err := l.fit(l.slots[i].file)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		return l.fail(i, fmt.Errorf("resize %s: %w", path("", i), err))
	}
	l.slots[i].state = free
	return nil
}

// remove unlinks a bad file; turn is held. One that cannot be removed stays in its
// slot: what is in it is true, and known elsewhere.
func (l *Log) remove(i int) {
	s := &l.slots[i]
	if s.file != nil {
		_ = s.file.Close()
		l.mu.Lock()
		s.file = nil
		l.mu.Unlock()
	}
	if err := l.o.FS.Remove(path(l.dir, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	_ = l.o.FS.SyncDir(l.dir)
	l.mu.Lock()
	*s = slot{}
	l.mu.Unlock()
}

// create makes a file in the first slot that has none; turn is held, or nobody
// else knows the log yet.
func (l *Log) create() error {
	l.mu.Lock()
	i := 0
	for i < slots && l.slots[i].state != absent {
		i++
	}
	l.mu.Unlock()
	if i == slots {
		return errors.New("no room for another head file")
	}
	name := path(l.dir, i)
	f, err := l.o.FS.OpenFile(name, true)
	if err == nil {
		if err = l.fit(f); err == nil {
			err = l.o.FS.SyncDir(l.dir)
		}
		if err != nil {
			_ = f.Close()
			_ = l.o.FS.Remove(name) // a part of a file takes space and helps nobody
		}
	}
	if err != nil {
		return createError(fmt.Errorf("create %s: %w", name, err), l.o.Size)
	}
	l.mu.Lock()
	l.slots[i] = slot{state: free, file: f}
	l.mu.Unlock()
	return nil
}

// fit brings a file to its size, with zeros that are really written: a file with
// holes would need the journal at every sync, and could meet a full disk.
func (l *Log) fit(f File) error {
	size, err := f.Size()
	if err != nil || size == l.o.Size {
		return err
	}
	if size > l.o.Size {
		return f.Truncate(l.o.Size)
	}
	zeros := make([]byte, packed)
	for size < l.o.Size {
		part := zeros[:min(packed, l.o.Size-size)]
		n, err := f.WriteAt(part, size)
		if err := wrote(n, len(part), err); err != nil {
			return err
		}
		size += int64(n)
	}
	return f.Datasync() // some file systems notice only now that they are full
}

// stamp writes the head into the free file if the one in it is not the log's, so
// that either file alone tells the limits; turn is held. While the other file is
// not free, Release makes up for it.
func (l *Log) stamp() error {
	l.mu.Lock()
	i := l.find(free)
	if i < 0 || l.slots[i].head == l.head {
		l.mu.Unlock()
		return nil
	}
	s := &l.slots[i]
	l.open(s)
	s.head, l.buf = l.head, l.appendHead(l.buf[:0], s)
	n, err := s.file.WriteAt(l.buf, 0)
	file := s.file
	err = wrote(n, len(l.buf), err)
	l.mu.Unlock()
	if err == nil {
		err = file.Datasync()
	}
	if err == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fail(i, fmt.Errorf("write limits to %s: %w", path("", i), err))
}
