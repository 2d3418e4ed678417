package buffer

import (
	"errors"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// The ways of stored blocks to the disk and back: everything else asks these, and
// has to do with plain blocks only.

// appendBlocks writes blocks of a chain and the series that they use, in one
// commit.
func (b *Buffer) appendBlocks(f *segment.Segment, e edgeagent.Epoch, s edgeagent.Stream, blocks []segment.Block, series [][]byte) error {
	if b.vault.key == nil {
		return f.Append(blocks, series)
	}
	boxes, names := make([]segment.Block, len(blocks)), make([][]byte, len(series))
	for i, blk := range blocks {
		boxes[i] = blk
		boxes[i].Encoded = b.vault.seal(nil, blk.Encoded, boxOf(boxBlock, e, s))
	}
	for i, blk := range series {
		names[i] = b.vault.seal(nil, blk, boxOf(boxSeries, e, 0))
	}
	return f.Append(boxes, names)
}

// eachBlock reads the blocks of an open segment, from the one that holds a number
// on. What does not open comes without bytes, which are no block.
func (b *Buffer) eachBlock(f *segment.Segment, sg *seg, from edgeagent.Seq, do func(segment.Block) bool) error {
	var scratch []byte
	var failed error
	box := boxOf(boxBlock, sg.epoch, sg.stream)
	err := f.Each(from, func(blk segment.Block) bool {
		plain, err := b.vault.open(scratch[:0], blk.Encoded, box)
		if errors.Is(err, ErrKey) {
			failed = err
			return false
		}
		if len(blk.Encoded) != len(plain) {
			scratch = plain
		}
		blk.Encoded = plain
		return do(blk)
	})
	return errors.Join(err, failed)
}

// contents reads a segment of a chain with plain reads. What does not open comes
// without bytes, which are no block.
func (b *Buffer) contents(path string, e edgeagent.Epoch, s edgeagent.Stream, blocks func(segment.Block) error, series func([]byte) error) error {
	var scratch []byte
	open := func(stored, box []byte) ([]byte, error) {
		plain, err := b.vault.open(scratch[:0], stored, box)
		if errors.Is(err, ErrKey) {
			return nil, err
		}
		if len(stored) != len(plain) {
			scratch = plain
		}
		return plain, nil
	}
	blockBox, seriesBox := boxOf(boxBlock, e, s), boxOf(boxSeries, e, 0)
	return segment.Contents(path, func(blk segment.Block) (err error) {
		if blk.Encoded, err = open(blk.Encoded, blockBox); err != nil {
			return err
		}
		return blocks(blk)
	}, func(stored []byte) error {
		plain, err := open(stored, seriesBox)
		if err != nil {
			return err
		}
		return series(plain)
	})
}

// stored is a stored block and its header. Encoded is never changed.
type stored struct {
	segment.Block
	h block.Header
}
