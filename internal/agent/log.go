package agent

import (
	"context"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// bufferLog shows the buffer to an uplink as the log of one destination. The two
// packages do not know each other; this is the seam.
type bufferLog struct {
	buffer  *buffer.Buffer
	dest    string
	cursors map[edgeagent.Stream]*buffer.Cursor
}

var _ uplink.Log = (*bufferLog)(nil)

// newBufferLog returns the log of a registered destination.
func newBufferLog(b *buffer.Buffer, dest string) (*bufferLog, error) {
	l := &bufferLog{b, dest, map[edgeagent.Stream]*buffer.Cursor{}}
	for _, s := range edgeagent.Streams() {
		c, err := b.Cursor(dest, s)
		if err != nil {
			return nil, err
		}
		l.cursors[s] = c
	}
	return l, nil
}

func (l *bufferLog) Wait(ctx context.Context, seen uint64) (uint64, error) {
	return l.buffer.Wait(ctx, seen)
}

func (l *bufferLog) Epochs() []edgeagent.Epoch { return l.buffer.Epochs() }

func (l *bufferLog) Cursor(s edgeagent.Stream) uplink.Cursor { return bufferCursor{l.cursors[s]} }

func (l *bufferLog) SeriesBlocks(e edgeagent.Epoch, above, upTo uint32, limit int) ([]uplink.SeriesBlock, error) {
	blocks, err := l.buffer.SeriesBlocks(e, above, upTo, limit)
	if err != nil {
		return nil, err
	}
	out := make([]uplink.SeriesBlock, len(blocks))
	for i, b := range blocks {
		out[i] = uplink.SeriesBlock{Encoded: b.Encoded, MaxID: b.MaxID}
	}
	return out, nil
}

func (l *bufferLog) MarksVersion() uint64 { return l.buffer.MarksVersion(l.dest) }

func (l *bufferLog) Marks(limit int) ([][]byte, error) {
	var out [][]byte
	for _, e := range l.buffer.Epochs() {
		blocks, err := l.buffer.MarksBlocks(l.dest, e, limit)
		if err != nil {
			return nil, err
		}
		out = append(out, blocks...)
	}
	return out, nil
}

func (l *bufferLog) Ack(ctx context.Context, e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) error {
	return l.buffer.Ack(ctx, l.dest, e, s, ranges)
}

func (l *bufferLog) RunAt(e edgeagent.Epoch, s edgeagent.Stream, n edgeagent.Seq) (edgeagent.Run, bool) {
	return l.buffer.RunAt(e, s, n)
}

func (l *bufferLog) Replay(ctx context.Context, e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) (uplink.Reader, error) {
	r, err := l.buffer.Replay(ctx, l.dest, e, s, ranges)
	if err != nil {
		return nil, err // and no reader: a nil of the buffer's type is none
	}
	return r, nil
}

func (l *bufferLog) Reappend(ctx context.Context, e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) error {
	_, err := l.buffer.Reappend(ctx, l.dest, e, s, ranges)
	return err
}

func (l *bufferLog) ProveRewind(ctx context.Context, e edgeagent.Epoch) (restart bool, err error) {
	return l.buffer.ProveRewind(ctx, l.dest, e)
}

func (l *bufferLog) Rewound(e edgeagent.Epoch) bool { return l.buffer.Rewound(l.dest, e) }

func (l *bufferLog) DeadLetter(ctx context.Context, e edgeagent.Epoch, s edgeagent.Stream, r edgeagent.Range, cause string) error {
	return l.buffer.DeadLetter(ctx, l.dest, e, s, r, cause)
}

// bufferCursor narrows the readers' type to the uplink's interface.
type bufferCursor struct{ *buffer.Cursor }

func (c bufferCursor) Live(from edgeagent.Seq) uplink.Reader { return c.Cursor.Live(from) }

func (c bufferCursor) Backlog(below edgeagent.Seq, skip map[edgeagent.Epoch]edgeagent.Ranges) uplink.Reader {
	return c.Cursor.Backlog(below, skip)
}
