package uplink

import (
	"context"

	"github.com/edgeagent/edgeagent"
)

// Log is what the engine needs of a buffer, for one destination. Every method is
// safe for concurrent use and never waits for the network.
type Log interface {
	// Wait returns a change counter above seen as soon as there is one: it
	// counts appends. It returns early with ctx's error.
	Wait(ctx context.Context, seen uint64) (uint64, error)
	// Cursor returns the destination's place in a stream.
	Cursor(s edgeagent.Stream) Cursor
	// Epochs lists all epochs, oldest first.
	Epochs() []edgeagent.Epoch
	// SeriesBlocks returns encoded series blocks that define the ids of epoch e
	// in (above, upTo], rising, each at most limit bytes.
	SeriesBlocks(e edgeagent.Epoch, above, upTo uint32, limit int) ([]SeriesBlock, error)
	// MarksVersion changes whenever Marks would say something new, other than how
	// far the streams go.
	MarksVersion() uint64
	// Marks returns encoded marks blocks of every epoch, oldest first, each at most
	// limit bytes.
	Marks(limit int) ([][]byte, error)
	// Ack confirms ranges of one epoch and stream for this destination.
	Ack(ctx context.Context, e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) error
	// RunAt returns the run that gave a number, if that is known.
	RunAt(e edgeagent.Epoch, s edgeagent.Stream, n edgeagent.Seq) (edgeagent.Run, bool)
	// Replay returns a reader of what is still stored of ranges that may be
	// confirmed. What is gone becomes a gap in the marks.
	Replay(ctx context.Context, e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) (Reader, error)
	// Reappend gives what is unconfirmed of ranges of an older epoch numbers of the
	// newest one, and gives the old ones up. It may be called again after an error.
	Reappend(ctx context.Context, e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) error
	// ProveRewind notes durably that a receiver holds other records under numbers of
	// the newest epoch. The next start of the process begins a new epoch, which it
	// should do when restart is true; it is false when that was tried lately.
	ProveRewind(ctx context.Context, e edgeagent.Epoch) (restart bool, err error)
	// Rewound reports whether that was proved of an epoch.
	Rewound(e edgeagent.Epoch) bool
	// DeadLetter gives a range up for this destination, after a copy of it was made
	// durable.
	DeadLetter(ctx context.Context, e edgeagent.Epoch, s edgeagent.Stream, r edgeagent.Range, cause string) error
}

// Cursor is a destination's place in one stream.
type Cursor interface {
	// Head returns the newest epoch and the number its next record will get.
	Head() (e edgeagent.Epoch, next edgeagent.Seq)
	// LiveFrom returns the first unconfirmed record of the newest epoch whose
	// wall time is since (Unix ns) or later, or next when there is none.
	LiveFrom(since int64) edgeagent.Seq
	// Live returns a reader of the newest epoch from a record up, for ever.
	Live(from edgeagent.Seq) Reader
	// Backlog returns a reader of all older epochs, oldest first, and then of
	// the newest epoch below a record. It leaves out what skip holds.
	Backlog(below edgeagent.Seq, skip map[edgeagent.Epoch]edgeagent.Ranges) Reader
	// Unconfirmed counts the records that are stored and not confirmed.
	Unconfirmed() uint64
}

// Reader walks over the unconfirmed records of a stream, each once.
type Reader interface {
	// Next returns the next batch within limit, never less than one record. ok
	// is false when there is nothing to read now.
	Next(ctx context.Context, limit edgeagent.Limit) (b edgeagent.Batch, ok bool, err error)
}

// SeriesBlock is an encoded block of series and the highest id in it.
type SeriesBlock struct {
	Encoded []byte
	MaxID   uint32
}
