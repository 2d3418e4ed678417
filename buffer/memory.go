package buffer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/headlog"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// When the disk has failed for good, the buffer goes on in memory: a new epoch, the
// bound of the tails, the oldest gives way. What it loses then is in no ledger, and
// a receiver sees an unexplained hole. Records that were in memory when it happened
// keep their names and are delivered from there. The files are let go of, and tried
// again now and then; when they can be used, another epoch begins on the disk, and
// all that memory holds of earlier ones moves there.

// How often the disk is tried again, one that failed and one that was full at the
// start.
const (
	retryDiskEvery = 10 * time.Minute
	retryFullEvery = time.Minute
)

const (
	diskFailed = "the disk failed"
	diskBack   = "the disk can be used again"
)

// hopeless reports whether an error means that the disk will not take another write
// soon.
func hopeless(err error) bool {
	return errors.Is(err, headlog.ErrBroken) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EIO)
}

// unusable reports whether an error at the start means that the disk will not take a
// buffer soon.
func unusable(err error) bool { return hopeless(err) || full(err) }

func full(err error) bool { return errors.Is(err, ErrFull) || noSpace(err) }

func retryAfter(cause error) time.Duration {
	if full(cause) {
		return retryFullEvery
	}
	return retryDiskEvery
}

// headLog returns the head log, nil while there is none.
func (b *Buffer) headLog() *headlog.Log {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.head
}

// outlive goes on in memory if err says that the head log is broken, and reports
// whether it does.
func (b *Buffer) outlive(ctx context.Context, err error) bool {
	if !errors.Is(err, headlog.ErrBroken) || b.disk.lock(ctx) != nil {
		return false
	}
	defer b.disk.Unlock()
	return b.degrade(ctx, err)
}

// degrade gives up the disk. b.disk is held.
func (b *Buffer) degrade(ctx context.Context, cause error) bool {
	b.in.Lock()
	b.mu.Lock()
	if b.closed || b.head == nil {
		memory := b.head == nil && !b.closed
		b.mu.Unlock()
		b.in.Unlock()
		return memory
	}
	head, store := b.head, b.store
	b.head, b.store = nil, nil
	b.unsaved, b.late, b.leftover, b.doubtful = nil, nil, nil, nil
	var segs []*seg
	for _, ep := range b.epochs {
		for _, s := range edgeagent.Streams() {
			ch := ep.streams[s]
			segs = append(segs, ch.segs...)
			ch.segs, ch.open = nil, nil
		}
	}
	prev := b.newest().id
	b.beginMemory(cause)
	b.newest().prev = prev
	b.tell()
	b.mu.Unlock()
	b.in.Unlock()

	for _, sg := range segs {
		sg.io.Lock()
		sg.gone = true
		_ = b.closeHandle(sg)
		sg.io.Unlock()
	}
	// Whatever a broken disk says to this.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = head.Close(ctx)
	_ = store.Close()
	b.log.Error("the disk failed: the buffer goes on in memory, and loses what it holds with the process",
		"dir", b.dir, "err", cause, "retry", retryDiskEvery)
	return true
}

// beginMemory begins an epoch that is in memory only; b.in and b.mu are held.
func (b *Buffer) beginMemory(cause error) {
	ep := newEpoch(edgeagent.Epoch(random()), diskFailed)
	ep.series.durable, ep.series.stored = math.MaxUint32, math.MaxUint32 // there is nothing to wait for
	for _, s := range edgeagent.Streams() {
		ep.streams[s].begin(b.run)
	}
	b.epochs = append(b.epochs, ep)
	b.beginAnew()
	b.noDisk, b.noDiskSince = cause, b.o.Clock.Wall()
	b.retryDisk = b.o.Clock.Run() + retryAfter(cause)
}

// beginAnew forgets what belongs to the newest epoch and to the head log; b.in and
// b.mu are held.
func (b *Buffer) beginAnew() {
	b.intake = [5]intake{}
	b.guard, b.framed, b.optional = b.guard[:0], b.framed[:0], 0
	b.unsynced, b.acksAt = [5]unsynced{}, 0
	b.unreleased.Store(false)
}

// forgotFirst orders the streams: whose records memory gives up first.
var forgotFirst = [...]edgeagent.Stream{edgeagent.StreamTelemetry, edgeagent.StreamEvent, edgeagent.StreamAlarm}

// admitsMemory makes room in memory by dropping the oldest records of streams that
// are no more important; b.in and b.mu are held.
func (b *Buffer) admitsMemory(r room) error {
	for _, s := range forgotFirst {
		for _, ep := range b.epochs {
			t := &ep.streams[s].tail
			for t.len() > 0 && b.tailBytes+r.memory > maxTail {
				n := min(t.len(), max(b.o.BlockSize/16, 1))
				before := t.bytes
				t.drop(n)
				b.tailBytes -= before - t.bytes
				b.count.forgotten += uint64(n)
			}
		}
		if s == r.stream {
			break
		}
	}
	if b.tailBytes+r.memory > maxTail {
		return edgeagent.WithHint(fmt.Errorf("%w: 2 MiB of memory are taken, and the disk cannot be used", ErrFull),
			"look at the kernel log for errors of the disk under buffer.dir")
	}
	return nil
}

// diskDue reports whether the disk is to be tried again.
func (b *Buffer) diskDue() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.head == nil && !b.closed && b.o.Clock.Run() >= b.retryDisk
}

// retry tries the disk again, and moves there if it can.
func (b *Buffer) retry(ctx context.Context) {
	if b.disk.lock(ctx) != nil {
		return
	}
	defer b.disk.Unlock()
	if !b.diskDue() {
		return
	}
	err := b.probe()
	if err == nil {
		err = b.reopen(ctx)
	}
	b.mu.Lock()
	every := retryAfter(err)
	b.retryDisk = b.o.Clock.Run() + every
	if err == nil || unusable(err) {
		b.noDisk = err
	}
	b.mu.Unlock()
	if err != nil {
		b.log.Warn("the disk cannot be used yet", "dir", b.dir, "err", err, "retry", every)
		return
	}
	b.log.Info("the disk can be used again: the buffer has moved there", "dir", b.dir, "epoch", b.Epoch().String())
}

// probe finds out whether the directory can be written to, before anybody has to
// wait for that.
func (b *Buffer) probe() error {
	if err := os.MkdirAll(b.dir, 0o750); err != nil {
		return err
	}
	path := filepath.Join(b.dir, ".probe")
	if b.o.faults != nil {
		if err := b.o.faults(segment.OpCreate, path); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, headPage))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(path))
}

// reopen recovers what the disk holds, adds what memory holds, and begins a new
// epoch there. Appends wait meanwhile. b.disk is held.
func (b *Buffer) reopen(ctx context.Context) error {
	if b.lock == nil {
		lock, err := lockDir(b.dir)
		if err != nil {
			return err
		}
		b.lock = lock
	}
	b.in.Lock()
	defer b.in.Unlock()
	n := newBuffer(b.dir, b.o, b.vault)
	n.run, n.start = b.run, b.start
	n.graft = func() { b.graftOnto(n) }
	if err := n.recover(ctx); err != nil {
		b.ungraft()
		return errors.Join(err, n.release(ctx)) // n has no lock of its own
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.store, b.head, b.header = n.store, n.head, n.header
	b.unsaved, b.late, b.leftover, b.doubtful = n.unsaved, n.late, n.leftover, n.doubtful
	b.epochs, b.dests, b.rewinds, b.handles, b.tailBytes = n.epochs, n.dests, n.rewinds, n.handles, n.tailBytes
	b.beginAnew()
	b.framed, b.optional = n.framed, n.optional
	b.fault = fault{}
	b.tell()
	return nil
}

// graftOnto adds what memory holds to a buffer that is being opened: epochs of its
// own, records of known epochs behind those on the disk, and what destinations
// have confirmed. b.in is held, so nothing is appended.
func (b *Buffer) graftOnto(n *Buffer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ep := range b.epochs {
		known := n.epoch(ep.id)
		if known == nil {
			ep.series.stored, ep.series.durable = 0, 0
			n.epochs = append(n.epochs, ep)
			continue
		}
		for i, x := range ep.series.byID {
			if i >= len(known.series.byID) || known.series.byID[i].IsZero() {
				known.series.adopt(uint32(i)+1, x)
			}
		}
		for _, s := range edgeagent.Streams() {
			known.streams[s].graft(ep.streams[s])
		}
	}
	n.tailBytes = 0
	for _, ep := range n.epochs {
		for _, s := range edgeagent.Streams() {
			n.tailBytes += ep.streams[s].tail.bytes
		}
	}
	for name, d := range b.dests {
		if x := n.dests[name]; x != nil {
			for k, p := range x.places {
				for _, r := range p.set {
					d.place(k.epoch, k.stream).add(r)
				}
			}
		}
		if d.registered {
			d.seen = n.header.Opens + 1 // as it will be
		}
		changes := []segment.Change{d.change()}
		for k, p := range d.places {
			p.dirty, p.version = true, p.version+1
			changes = append(changes, d.ownChange(k))
		}
		n.late = append(n.late, changes...)
		n.dests[name] = d
	}
	n.rewinds = b.rewinds
	n.corrections.Store(b.corrections.Load())
}

// ungraft takes back what graftOnto did to b.
func (b *Buffer) ungraft() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ep := range b.epochs {
		if ep == b.newest() {
			ep.series.stored, ep.series.durable = math.MaxUint32, math.MaxUint32
		}
	}
}

// graft adds the records that memory holds of the same chain and the disk does not.
func (c *chain) graft(from *chain) {
	t := &from.tail
	for i, s := range t.spans {
		rng := t.rng(i)
		first := max(rng.From, c.next)
		if first > rng.To {
			continue
		}
		at := s.at + int(first-s.first)
		s.starts = s.starts && first == s.first
		s.first = first
		c.tail.begin(s)
		if len(t.events) > 0 {
			c.tail.addEvents(slices.Clone(t.events[at:t.end(i)]))
		} else {
			c.tail.addRows(t.rows[at:t.end(i)])
		}
	}
	c.next = max(c.next, from.next)
}

// openMemory opens a buffer whose disk cannot be used.
func openMemory(dir string, o Options, v vault, cause error) *Buffer {
	b := newBuffer(dir, o, v)
	b.beginMemory(cause)
	b.report.Epoch, b.report.Run, b.report.NewEpoch = b.newest().id, b.run, diskFailed
	b.log.Error("the disk cannot be used: the buffer begins in memory, and loses what it holds with the process",
		"dir", dir, "err", cause, "retry", retryAfter(cause))
	return b
}
