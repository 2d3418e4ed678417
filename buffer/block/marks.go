package block

import (
	"fmt"

	"github.com/edgeagent/edgeagent"
)

// Marks says how far an epoch goes and what of it can no longer be delivered.
// With it a receiver proves that it holds everything there is.
type Marks struct {
	Epoch edgeagent.Epoch
	Prev  edgeagent.Epoch // the epoch before, 0 if none
	// Successor is the epoch that came after, 0 for the one that still grows: the
	// numbers of an epoch with a successor end at Next.
	Successor edgeagent.Epoch
	Run       edgeagent.Run // the run that writes
	Clock     []Correction
	Streams   map[edgeagent.Stream]MarkStream
}

// Correction is what to add to the times of a run that began without a clock.
type Correction struct {
	Run edgeagent.Run `cbor:"run"`
	Add int64         `cbor:"add_ns"`
	Err int64         `cbor:"err"` // ns, the bound of the correction's error
}

// MarkStream is the state of one stream.
type MarkStream struct {
	Low  edgeagent.Seq `cbor:"low"`  // nothing below can be delivered any more
	Next edgeagent.Seq `cbor:"next"` // the number the next record will get
	Gaps []Gap         `cbor:"gaps,omitempty"`
}

// Gap is a range that can no longer be delivered. What the receiver holds of it
// stays valid.
type Gap struct {
	From   edgeagent.Seq   `cbor:"from"`
	To     edgeagent.Seq   `cbor:"to"`
	Reason string          `cbor:"reason"` // "evicted", "power_cut", …
	AtMost uint64          `cbor:"at_most"`
	TFrom  int64           `cbor:"t_from"` // Unix ns, 0 when not known
	TTo    int64           `cbor:"t_to"`
	Rollup []edgeagent.Seq `cbor:"rollup,omitempty"` // first and last number of the rollup records made of it
}

type marksRecord struct {
	Epoch   edgeagent.Epoch       `cbor:"epoch"`
	Prev    edgeagent.Epoch       `cbor:"prev,omitempty"`
	Succ    edgeagent.Epoch       `cbor:"successor,omitempty"`
	Run     edgeagent.Run         `cbor:"run"`
	Clock   []Correction          `cbor:"clock,omitempty"`
	Streams map[string]MarkStream `cbor:"streams"`
}

// Marks appends a block of one marks record to dst.
func (e *Encoder) Marks(dst []byte, m Marks) ([]byte, error) {
	if len(m.Clock) > maxElements {
		return dst, fmt.Errorf("%w: %d clock corrections", ErrInvalid, len(m.Clock))
	}
	rec := marksRecord{m.Epoch, m.Prev, m.Successor, m.Run, m.Clock, map[string]MarkStream{}}
	for s, state := range m.Streams {
		if !s.Valid() {
			return dst, fmt.Errorf("%w: %s", ErrInvalid, s)
		}
		if err := state.validate(); err != nil {
			return dst, fmt.Errorf("%w: %s: %w", ErrInvalid, s, err)
		}
		rec.Streams[s.String()] = state
	}
	e.raw = e.raw[:0]
	if err := e.appendRecord(rec); err != nil {
		return dst, err
	}
	return e.seal(dst, Header{Kind: KindMarks, Count: 1, Epoch: m.Epoch, Run: m.Run}, e.raw)
}

// Marks checks blk and returns the marks in it.
func (d *Decoder) Marks(blk []byte) (Marks, Header, error) {
	h, r, err := d.open(blk, KindMarks)
	if err != nil {
		return Marks{}, Header{}, err
	}
	var rec marksRecord
	if !r.record(&rec) || r.left() != 0 {
		return Marks{}, Header{}, corrupt("marks")
	}
	if rec.Epoch != h.Epoch || rec.Run != h.Run || h.Count != 1 || h.MaxSeriesID != 0 {
		return Marks{}, Header{}, corrupt("header does not match the marks")
	}
	m := Marks{rec.Epoch, rec.Prev, rec.Succ, rec.Run, rec.Clock, map[edgeagent.Stream]MarkStream{}}
	for name, state := range rec.Streams {
		s, err := edgeagent.ParseStream(name)
		if err != nil {
			return Marks{}, Header{}, corrupt("marks of an unknown stream")
		}
		if err := state.validate(); err != nil {
			return Marks{}, Header{}, err
		}
		m.Streams[s] = state
	}
	return m, h, nil
}

// validate holds the numbers together.
func (s MarkStream) validate() error {
	if s.Low == 0 || s.Low > s.Next || s.Next > maxSeq {
		return corrupt("low and next of a stream")
	}
	if len(s.Gaps) > maxElements {
		return corrupt("too many gaps")
	}
	for _, g := range s.Gaps {
		if g.From == 0 || g.To < g.From || g.To > maxSeq {
			return corrupt("range of a gap")
		}
		if len(g.Rollup) != 0 && (len(g.Rollup) != 2 || g.Rollup[0] == 0 || g.Rollup[1] < g.Rollup[0]) {
			return corrupt("rollup of a gap")
		}
	}
	return nil
}
