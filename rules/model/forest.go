package model

import (
	"errors"
	"fmt"
	"math"

	"github.com/edgeagent/edgeagent"
)

// node is a split or a leaf. Nodes of a tree stand in preorder: the left child is
// the next node.
type node struct {
	// value: of a split, go left if x <= value; of a leaf, what it adds; of a
	// categorical split, packed by category.
	value   float64
	right   uint32 // index of the right child
	feature uint16
	flags   uint8
}

const nodeSize = 16

// Flags of a node.
const (
	isLeaf        uint8 = 1 << iota
	missingLeft         // a missing value goes left
	zeroIsMissing       // LightGBM's missing type Zero; NaN is taken as 0
	isCategorical       // left if x is one of the categories
	roundFirst          // categorical: x is rounded to float32, and below 0 it is no category
)

// zeroThreshold is LightGBM's kZeroThreshold: what is nearer to 0 is 0.
const zeroThreshold = float64(float32(1e-35))

// forest is a tree ensemble. It is immutable once built.
type forest struct {
	nodes  []node
	trees  []tree
	bits   []uint32  // sets of categories
	base   []float64 // what each output begins with
	single bool      // sums are in float32
	divide float64   // sums are divided by this: the number of iterations for averages, else 1
	link   link
	depth  int // sum over trees of the longest way to a leaf
}

type tree struct {
	root   uint32
	output uint32
}

func (f *forest) bytes() int { return nodeSize*cap(f.nodes) + 8*cap(f.trees) + 4*cap(f.bits) }
func (f *forest) steps() int { return f.depth }

func (f *forest) evaluate() evalFunc {
	if f.single {
		return f.evalSingle
	}
	return f.eval
}

func (f *forest) eval(x, out []float64) []float64 {
	copy(out, f.base)
	for _, t := range f.trees {
		out[t.output] += f.leaf(t.root, x)
	}
	for i := range out {
		out[i] /= f.divide
	}
	f.link.apply(out)
	return nil
}

// evalSingle adds in float32, in the order of the trees, as XGBoost does.
func (f *forest) evalSingle(x, out []float64) []float64 {
	copy(out, f.base)
	for _, t := range f.trees {
		out[t.output] = float64(float32(out[t.output]) + float32(f.leaf(t.root, x)))
	}
	f.link.apply(out)
	return nil
}

// leaf walks a tree and returns the value of the leaf it ends in.
func (f *forest) leaf(i uint32, x []float64) float64 {
	n := &f.nodes[i]
	for n.flags&isLeaf == 0 {
		v := x[n.feature]
		left := v <= n.value
		if n.flags&(zeroIsMissing|isCategorical) != 0 || v != v {
			left = f.special(n, v)
		}
		if left {
			i++
		} else {
			i = n.right
		}
		n = &f.nodes[i]
	}
	return n.value
}

// special decides what one comparison cannot.
func (f *forest) special(n *node, v float64) bool {
	if n.flags&isCategorical != 0 {
		if math.IsNaN(v) {
			return n.flags&missingLeft != 0
		}
		return f.inCategories(n, v)
	}
	if math.IsNaN(v) || math.Abs(v) <= zeroThreshold {
		return n.flags&missingLeft != 0
	}
	return v <= n.value
}

func (f *forest) inCategories(n *node, v float64) bool {
	if n.flags&roundFirst != 0 {
		if v = float64(float32(v)); v < 0 {
			return false
		}
	}
	if !(v > -1 && v < 1<<31) {
		return false
	}
	packed := math.Float64bits(n.value)
	first, words := uint32(packed>>32), uint32(packed)
	c := uint32(int32(v))
	return c/32 < words && f.bits[first+c/32]>>(c%32)&1 != 0
}

// builder makes a forest of the trees of a file and holds it against the limits.
type builder struct {
	forest
	width    int
	maxBytes int
	stack    []pending
}

// pending is a node that was announced by its parent.
type pending struct {
	id     int
	parent int // index of the node whose right child it is, or -1
	depth  int
}

// split is a node as a reader finds it; left and right are the ids of its children
// and mean nothing for a leaf.
type split struct {
	node
	left, right int
}

var errTreeLoops = errors.New("the nodes do not form a tree")

// tree adds a tree of at most size nodes; at returns the node of an id.
func (b *builder) tree(output, root, size int, at func(id int) (split, error)) error {
	if uint(output) >= uint(len(b.base)) {
		return fmt.Errorf("it belongs to output %d of %d", output, len(b.base))
	}
	b.trees = append(b.trees, tree{uint32(len(b.nodes)), uint32(output)})
	b.stack = append(b.stack[:0], pending{root, -1, 0})
	begin, longest := len(b.nodes), 0
	for len(b.stack) > 0 {
		p := b.stack[len(b.stack)-1]
		b.stack = b.stack[:len(b.stack)-1]
		here := len(b.nodes)
		if here-begin >= size {
			return errTreeLoops
		}
		s, err := at(p.id)
		if err != nil {
			return err
		}
		if err := b.check(s.node); err != nil {
			return err
		}
		b.nodes = append(b.nodes, s.node)
		if p.parent >= 0 {
			b.nodes[p.parent].right = uint32(here)
		}
		longest = max(longest, p.depth)
		if s.flags&isLeaf == 0 {
			b.stack = append(b.stack, pending{s.right, here, p.depth + 1}, pending{s.left, -1, p.depth + 1})
		}
	}
	b.depth += longest
	return b.room()
}

// check refuses a node that could not be evaluated.
func (b *builder) check(n node) error {
	switch {
	case n.flags&isLeaf != 0:
		if math.IsNaN(n.value) || math.IsInf(n.value, 0) {
			return fmt.Errorf("a leaf adds %v", n.value)
		}
	case int(n.feature) >= b.width:
		return fmt.Errorf("a node asks for feature %d of %d", n.feature, b.width)
	}
	return b.room()
}

// room refuses what takes more memory than allowed.
func (b *builder) room() error {
	if nodeSize*len(b.nodes)+8*len(b.trees)+4*len(b.bits) > b.maxBytes {
		return tooLarge(b.maxBytes)
	}
	return nil
}

func tooLarge(maxBytes int) error {
	return edgeagent.WithHint(fmt.Errorf("the model takes more than %v of memory", edgeagent.Bytes(maxBytes)),
		"train fewer or smaller trees, or fewer and narrower layers; 16 bytes a node, 4 a weight")
}

// categories stores a set of categories and returns what a node holds of it.
func (b *builder) categories(words []uint32) float64 {
	first := len(b.bits)
	b.bits = append(b.bits, words...)
	return math.Float64frombits(uint64(first)<<32 | uint64(len(words)))
}

// finish returns the forest without spare capacity.
func (b *builder) finish() *forest {
	f := b.forest
	f.nodes = append(make([]node, 0, len(f.nodes)), f.nodes...)
	f.bits = append(make([]uint32, 0, len(f.bits)), f.bits...)
	f.trees = append(make([]tree, 0, len(f.trees)), f.trees...)
	return &f
}
