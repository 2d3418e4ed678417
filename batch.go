package edgeagent

import "errors"

// Limit bounds one batch. Zero means no limit of that kind.
type Limit struct {
	Records int // readings or events
	Bytes   int // of the encoded block, header included
	// Decoded says that the records are wanted and not their block: a batch may
	// then come without Encoded, and Bytes does not count. It, and what is cut from
	// it, may be used until the next batch is read from the same reader.
	Decoded bool
}

// BatchHeader identifies a batch: records First … First+Count-1 of one stream of
// one epoch, all appended in one run and within one clock segment.
type BatchHeader struct {
	Stream      Stream
	Epoch       Epoch
	Run         Run
	First       Seq
	Count       int
	MinTime     int64  // Unix ns, earliest wall time in the batch
	MaxTime     int64  // Unix ns, latest
	MaxSeriesID uint32 // the highest series id used; receivers need all up to it
	Unsynced    bool   // taken while the clock could not be trusted
}

// Last returns the number of the last record.
func (h BatchHeader) Last() Seq { return h.First + Seq(h.Count) - 1 }

// Range returns the numbers the batch holds.
func (h BatchHeader) Range() Range { return Range{h.First, h.Last()} }

// Batch is a contiguous run of records as the buffer hands them to a
// destination. Encoded is the finished block; the records themselves are decoded
// on demand by the content behind it. A batch owns its memory: it stays valid
// when the buffer moves on. One that was read for its records alone is different:
// see [Limit].
type Batch struct {
	BatchHeader
	Encoded []byte
	content BatchContent
}

// BatchContent gives access to the records of a batch; the buffer implements it.
type BatchContent interface {
	// Readings appends the batch's readings to dst, in sequence order.
	Readings(dst []Reading) ([]Reading, error)
	// Events appends the batch's events to dst, in sequence order.
	Events(dst []Event) ([]Event, error)
	// Cut returns the batch that holds only the records of r, which lies
	// within the batch, encoded anew if the batch is encoded.
	Cut(r Range) (Batch, error)
}

// NewBatch makes a batch of an encoded block and the content behind it.
func NewBatch(h BatchHeader, encoded []byte, content BatchContent) Batch {
	return Batch{BatchHeader: h, Encoded: encoded, content: content}
}

// Readings appends the batch's readings to dst, in sequence order. It fails on a
// batch of anything else.
func (b Batch) Readings(dst []Reading) ([]Reading, error) { return b.content.Readings(dst) }

// Events appends the batch's events to dst, in sequence order. It fails on a
// batch of anything else.
func (b Batch) Events(dst []Event) ([]Event, error) { return b.content.Events(dst) }

// Rollups appends the batch's rollups to dst, in sequence order. It fails on a
// batch of anything else.
func (b Batch) Rollups(dst []Rollup) ([]Rollup, error) {
	c, ok := b.content.(RollupContent)
	if !ok {
		return dst, errNoRollups
	}
	return c.Rollups(dst)
}

var errNoRollups = errors.New("batch holds no rollups")

// Cut returns the records of r, which must lie within the batch, as a batch with
// its own encoding, if this one has any. Identity does not change with the cut.
func (b Batch) Cut(r Range) (Batch, error) { return b.content.Cut(r) }
