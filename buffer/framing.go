package buffer

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/headlog"
)

// What the head log keeps of a file and of a frame for itself.
const (
	headReserve = 16 << 10
	headPage    = 4096
	frameHeader = 60
)

// maxTries bounds how often a call is written anew: the log fails once, and is
// broken the second time.
const maxTries = 3

// optionalPart of a head file is for definitions that state.db has as well.
const optionalPart = 8

// writeFrame is the only way into the head log, but for rotations; b.in is held.
func (b *Buffer) writeFrame(f headlog.Frame) error {
	if b.head == nil { // there is no disk
		return nil
	}
	return b.head.Append(b.wrapFrame(f))
}

// wrapFrame and unwrapFrame stand between every payload and the disk. What
// wrapFrame returns is good until the next call; b.in is held.
func (b *Buffer) wrapFrame(f headlog.Frame) headlog.Frame {
	if b.vault.key != nil {
		b.boxBuf = appendFrameBox(b.boxBuf[:0], f)
		b.sealBuf = b.vault.seal(b.sealBuf[:0], f.Payload, b.boxBuf)
		f.Payload = b.sealBuf
	}
	return f
}

func (b *Buffer) unwrapFrame(f headlog.Frame) (headlog.Frame, error) {
	var err error
	f.Payload, err = b.vault.open(nil, f.Payload, appendFrameBox(nil, f))
	return f, err
}

// insist lets write write its frames, and again into another file if that one
// failed; b.in is held.
func (b *Buffer) insist(ctx context.Context, write func() error) error {
	for try := 1; ; try++ {
		err := write()
		if !errors.Is(err, headlog.ErrSuspect) || try == maxTries {
			return err
		}
		if err := b.rotateNow(ctx); err != nil {
			return err
		}
		b.poke() // to release the file that failed
	}
}

// rotateNow begins a new head file with all that no segment holds; b.in is held.
func (b *Buffer) rotateNow(ctx context.Context) error {
	if b.head == nil {
		return nil
	}
	for {
		b.framed, b.optional = b.framed[:0], 0
		err := b.head.Rotate(ctx, b.tails)
		if !errors.Is(err, headlog.ErrSuspect) {
			if err == nil {
				b.unreleased.Store(true)
			}
			return err
		}
	}
}

// seriesFrames are definitions that a head file needs before rows that use them.
type seriesFrames struct {
	ids    []uint32
	blocks []SeriesBlock
	must   bool // some of them stand nowhere else
}

func (s *seriesFrames) room() int64 {
	n := 0
	for _, x := range s.blocks {
		n += len(x.Encoded)
	}
	return int64(len(s.blocks)*frameHeader + n)
}

// unframed returns the series of rows that the head file does not define yet. Those
// that state.db does not know have to stand there; the others are there for the
// case that it is lost, and take an eighth of the file at most. b.in is held.
func (b *Buffer) unframed(ep *epoch, rows []block.Row) (s seriesFrames, err error) {
	b.ids = b.ids[:0]
	if b.head == nil {
		return s, nil
	}
	for i := range rows {
		if id := rows[i].Series; !b.framed.has(id) {
			b.framed.add(id)
			b.ids = append(b.ids, id)
		}
	}
	if len(b.ids) == 0 {
		return s, nil
	}
	for _, id := range b.ids { // until they are written
		b.framed.remove(id)
	}
	slices.Sort(b.ids)
	b.mu.Lock()
	stored := ep.series.stored
	b.mu.Unlock()
	must, _ := slices.BinarySearch(b.ids, stored+1)
	if s, err = b.encodeNames(ep, b.ids[must:]); err != nil || must == 0 {
		s.must = true
		return s, err
	}
	s.must = must < len(b.ids)
	may, err := b.encodeNames(ep, b.ids[:must])
	if err != nil {
		return s, err
	}
	left := b.headSize/optionalPart - b.optional
	for _, x := range may.blocks {
		if left -= int64(len(x.Encoded)); left < 0 {
			break // as good as there
		}
		s.blocks = append(s.blocks, x)
	}
	s.ids = b.ids
	return s, nil
}

// encodeNames makes frames of the series with some ids.
func (b *Buffer) encodeNames(ep *epoch, ids []uint32) (s seriesFrames, err error) {
	var list []block.SeriesEntry
	for _, id := range ids {
		if x := ep.series.byID[id-1]; !x.IsZero() {
			list = append(list, block.SeriesEntry{ID: id, Key: x.Key()})
		}
	}
	s.ids = ids
	s.blocks, err = encodeSeries(&b.frameEnc, b.o.Device, ep.id, list, b.maxPayload)
	return s, err
}

// writeSeries writes definitions into the head log; b.in is held.
func (b *Buffer) writeSeries(e edgeagent.Epoch, s *seriesFrames) error {
	for _, x := range s.blocks {
		if err := b.writeFrame(headlog.Frame{Kind: headlog.Series, Epoch: e, Payload: x.Encoded}); err != nil {
			return err
		}
		b.optional += int64(len(x.Encoded))
	}
	for _, id := range s.ids {
		b.framed.add(id)
	}
	return nil
}

// tails yields everything that is in the head log and neither in a segment nor in
// state.db; b.in is held, and the log's own lock, so nothing here may ask the log
// anything that takes it.
func (b *Buffer) tails(yield func(headlog.Frame) bool) {
	for _, ep := range b.epochs {
		if !b.tailSeries(ep, yield) {
			return
		}
		for _, s := range edgeagent.Streams() {
			if !b.tailRecords(ep, ep.streams[s], yield) {
				return
			}
		}
	}
	for _, f := range b.ackFrames() {
		if !yield(b.wrapFrame(f)) {
			return
		}
	}
}

// tailSeries yields the series that an epoch's tail uses, and those that state.db
// does not know.
func (b *Buffer) tailSeries(ep *epoch, yield func(headlog.Frame) bool) bool {
	rows := ep.streams[edgeagent.StreamTelemetry].tail.rows
	var used idSet
	b.mu.Lock()
	stored := ep.series.stored
	b.mu.Unlock()
	var ids []uint32
	add := func(id uint32) {
		if !used.has(id) {
			used.add(id)
			ids = append(ids, id)
		}
	}
	for i := range rows {
		add(rows[i].Series)
	}
	slices.Sort(ids)
	for id := stored + 1; id <= uint32(len(ep.series.byID)); id++ {
		add(id)
	}
	slices.Sort(ids)
	names, err := b.encodeNames(ep, ids)
	if err != nil {
		b.log.Error("series not moved to the next head file", "err", err) // cannot be: all were encoded before
		return true
	}
	for _, x := range names.blocks {
		if !yield(b.wrapFrame(headlog.Frame{Kind: headlog.Series, Epoch: ep.id, Payload: x.Encoded})) {
			return false
		}
		b.optional += int64(len(x.Encoded))
	}
	if ep == b.newest() {
		b.framed = append(b.framed[:0], used...)
	}
	return true
}

// tailRecords yields the records of a tail, packed.
func (b *Buffer) tailRecords(ep *epoch, ch *chain, yield func(headlog.Frame) bool) bool {
	t := &ch.tail
	perFrame := b.maxPayload / maxRow
	for i, s := range t.spans {
		for at := s.at; at < t.end(i); {
			f := headlog.Frame{Stream: ch.stream, Epoch: ch.epoch, Run: s.run, First: s.first + edgeagent.Seq(at-s.at)}
			if s.unsynced {
				f.Flags |= headlog.Unsynced
			}
			if s.starts && at == s.at {
				f.Flags |= headlog.Starts
			}
			n := min(t.end(i)-at, perFrame)
			if ch.stream == edgeagent.StreamTelemetry {
				f.Kind = headlog.Readings
				rows := t.rows[at : at+n]
				f.Payload, f.Base, f.Resolution = headlog.AppendRows(b.tailBuf[:0], rows, finest(ep.series.res, rows))
				b.tailBuf = f.Payload
			} else {
				f.Kind = headlog.Events
				id := block.ID{Stream: ch.stream, Epoch: ch.epoch, First: f.First, Run: s.run, Unsynced: s.unsynced, Resolution: eventResolution}
				blk, k, err := shrink(min(n, block.MaxRecords), min(block.MaxStored, b.maxPayload), func(n int) ([]byte, error) {
					return b.frameEnc.Events(nil, id, t.events[at:at+n])
				})
				if err != nil {
					b.log.Error("events not moved to the next head file", "err", err) // cannot be: they were encoded before
					return true
				}
				f.Payload, n = blk, k
			}
			f.Count = uint32(n)
			if !yield(b.wrapFrame(f)) {
				return false
			}
			at += n
		}
	}
	return true
}

// ackPayload is what a destination confirmed of a stream: its name, then pairs of
// numbers, each from the one before.
func ackPayload(dst []byte, name string, ranges []edgeagent.Range) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(name)))
	dst = append(dst, name...)
	last := edgeagent.Seq(0)
	for _, r := range ranges {
		dst = binary.AppendVarint(dst, int64(r.From-last))
		dst = binary.AppendUvarint(dst, uint64(r.To-r.From))
		last = r.To
	}
	return dst
}

var errAckFrame = errors.New("ack frame is damaged")

// parseAck is the inverse of ackPayload. Any payload is an error or ranges.
func parseAck(b []byte) (name string, ranges []edgeagent.Range, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) || n > maxNameBytes {
		return "", nil, errAckFrame
	}
	name, b = string(b[k:k+int(n)]), b[k+int(n):]
	last := edgeagent.Seq(0)
	for len(b) > 0 {
		from, k := binary.Varint(b)
		if k <= 0 {
			return "", nil, errAckFrame
		}
		length, m := binary.Uvarint(b[k:])
		r := edgeagent.Range{From: last + edgeagent.Seq(from)}
		r.To = r.From + edgeagent.Seq(length)
		if m <= 0 || r.From == 0 || r.From > maxSeq || r.To < r.From || r.To > maxSeq {
			return "", nil, errAckFrame
		}
		ranges, last, b = append(ranges, r), r.To, b[k+m:]
	}
	return name, ranges, nil
}

// ackFrames returns what destinations confirmed that state.db does not say yet.
func (b *Buffer) ackFrames() []headlog.Frame {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []headlog.Frame
	for _, d := range b.dests {
		for k, p := range d.places {
			if p.dirty && len(p.set) > 0 {
				list = append(list, headlog.Frame{Kind: headlog.Acks, Stream: k.stream, Epoch: k.epoch, Payload: ackPayload(nil, d.name, p.set)})
			}
		}
	}
	return list
}
