package buffer

import (
	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// The ways of stored blocks to the disk and back: everything else asks these.

// appendBlocks writes blocks and the series that they use, in one commit.
func appendBlocks(f *segment.Segment, blocks []segment.Block, series [][]byte) error {
	return f.Append(blocks, series)
}

// eachBlock reads the blocks of an open segment, from the one that holds a number
// on.
func eachBlock(f *segment.Segment, from edgeagent.Seq, do func(segment.Block) bool) error {
	return f.Each(from, do)
}

// contents reads a segment with plain reads.
func contents(path string, blocks func(segment.Block) error, series func([]byte) error) error {
	return segment.Contents(path, blocks, series)
}

// stored is a stored block and its header. Encoded is never changed.
type stored struct {
	segment.Block
	h block.Header
}
