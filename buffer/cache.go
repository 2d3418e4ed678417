package buffer

import (
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// maxCache bounds the committed blocks that stay in memory, so that whoever reads
// at the head needs no disk. The oldest go first.
const maxCache = 2 << 20

// cachedOverhead is what an entry takes beside its bytes.
const cachedOverhead = 160

// stored is a stored block and its header. Encoded is never changed.
type stored struct {
	segment.Block
	h block.Header
}

// cache holds the newest blocks of the newest epoch, each stream's without a hole.
// Guarded by Buffer.mu.
type cache struct {
	blocks [5][]stored
	order  []edgeagent.Stream // of the entries, oldest first
	bytes  int
}

func (c *cache) add(s edgeagent.Stream, blk stored) {
	c.blocks[s] = append(c.blocks[s], blk)
	c.order = append(c.order, s)
	c.bytes += len(blk.Encoded) + cachedOverhead
	for c.bytes > maxCache {
		s := c.order[0]
		c.bytes -= len(c.blocks[s][0].Encoded) + cachedOverhead
		c.blocks[s][0] = stored{}
		c.order, c.blocks[s] = c.order[1:], c.blocks[s][1:]
	}
}

// from returns the blocks from the one that holds s on, and whether the cache
// reaches back that far.
func (c *cache) from(st edgeagent.Stream, s edgeagent.Seq) ([]stored, bool) {
	list := c.blocks[st]
	if len(list) == 0 || s < list[0].First {
		return nil, false
	}
	i, _ := slices.BinarySearchFunc(list, s, func(x stored, s edgeagent.Seq) int {
		if x.h.Last() < s {
			return -1
		}
		return 1
	})
	return list[i:], true
}
