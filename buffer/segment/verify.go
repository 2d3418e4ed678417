package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
)

// maxFile is the largest file that is ever verified: no file of ours is longer.
const maxFile = 256 << 20

// Visitor is called for every value of a verified file, bucket by bucket in key
// order. An error ends the walk and is wrapped into its result.
type Visitor func(bucket string, key, value []byte) error

// Verify walks a file with plain reads, no mapping and no bbolt code, and fails
// with [ErrDamaged] where bbolt would panic, loop or read beyond the end: the
// headers not whole, a page out of range, used twice or of the wrong kind, keys out of
// order. It does not know what values hold: visit does, and may be nil.
func Verify(path string, visit Visitor) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if err := verify(f, st.Size(), visit); err != nil {
		return fmt.Errorf("verify %s: %w", filepath.Base(path), err)
	}
	return nil
}

func verify(r io.ReaderAt, size int64, visit Visitor) error {
	if size > maxFile {
		return damaged("%d bytes long", size)
	}
	w := walker{r: r, visit: visit}
	root, freelist, err := w.header(size)
	if err != nil {
		return err
	}
	w.seen = make([]bool, w.pages)
	w.seen[0], w.seen[1] = true, true
	if err := w.freelist(freelist); err != nil {
		return err
	}
	return w.tree(root, "", 0, span{})
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// walker follows the layout of a bbolt file, version 2: pages with a 16-byte
// header {id u64, flags u16, count u16, overflow u32}, two header pages of which
// the valid one with the higher transaction counts.
type walker struct {
	r     io.ReaderAt
	pages uint64 // high-water mark of the header that counts
	seen  []bool
	visit Visitor
}

// Page flags and limits of the format.
const (
	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10

	pageHeader   = 16
	element      = 16
	bucketHeader = 16
	maxDepth     = 24
	maxKey       = 1024
)

var le = binary.LittleEndian

// header reads the header page that counts. Both must be whole, and of two
// commits in a row: bbolt would be content with one, and silently be where it was
// a commit earlier. A header page is written at once, and what matters of it lies
// within one sector, so one that is bad is damage, not an interrupted commit.
func (w *walker) header(size int64) (root, freelist uint64, err error) {
	var pages [2][]byte
	for i := range pages {
		p := make([]byte, pageHeader+64)
		if _, err := w.r.ReadAt(p, int64(i)*pageSize); err != nil {
			return 0, 0, damaged("header page %d: %v", i, err)
		}
		m := p[pageHeader:]
		if le.Uint64(p) != uint64(i) || !validMeta(m) || le.Uint64(m[48:])%2 != uint64(i) {
			return 0, 0, damaged("header page %d is invalid", i)
		}
		pages[i] = m
	}
	best, other := pages[0], pages[1]
	if le.Uint64(other[48:]) > le.Uint64(best[48:]) {
		best, other = other, best
	}
	if le.Uint64(best[48:]) != le.Uint64(other[48:])+1 {
		return 0, 0, damaged("a commit is missing between the header pages")
	}
	if ps := le.Uint32(best[8:]); ps != pageSize {
		return 0, 0, damaged("page size %d", ps)
	}
	w.pages = le.Uint64(best[40:])
	if w.pages < 4 || w.pages > uint64(size)/pageSize {
		return 0, 0, damaged("truncated: %d pages of %d are there", size/pageSize, w.pages)
	}
	return le.Uint64(best[16:]), le.Uint64(best[32:]), nil
}

func validMeta(m []byte) bool {
	h := fnv.New64a()
	h.Write(m[:56])
	return le.Uint32(m) == 0xED0CDAED && le.Uint32(m[4:]) == 2 && le.Uint64(m[56:]) == h.Sum64()
}

// freelist reads the list of free pages, which no page of the tree may use.
func (w *walker) freelist(id uint64) error {
	p, err := w.take(id, flagFreelist)
	if err != nil {
		return err
	}
	n, ids := uint64(le.Uint16(p[10:])), p[pageHeader:]
	if n == 0xFFFF {
		n, ids = le.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		return damaged("the free list overruns its page")
	}
	prev := uint64(1)
	for i := range n {
		free := le.Uint64(ids[8*i:])
		if free <= prev || free >= w.pages || w.seen[free] {
			return damaged("bad entry %d in the free list", free)
		}
		prev, w.seen[free] = free, true
	}
	return nil
}

// take reads a page with its overflow pages and marks them as used once.
func (w *walker) take(id uint64, flags ...uint16) ([]byte, error) {
	if id < 2 || id >= w.pages {
		return nil, damaged("page %d out of range", id)
	}
	var head [pageHeader]byte
	if _, err := w.r.ReadAt(head[:], int64(id)*pageSize); err != nil {
		return nil, damaged("page %d: %v", id, err)
	}
	more, kind := uint64(le.Uint32(head[12:])), le.Uint16(head[8:])
	known := false
	for _, f := range flags {
		known = known || f == kind
	}
	if le.Uint64(head[:]) != id || more >= w.pages-id || !known {
		return nil, damaged("page %d has a bad header", id)
	}
	for i := id; i <= id+more; i++ {
		if w.seen[i] {
			return nil, damaged("page %d is used twice", i)
		}
		w.seen[i] = true
	}
	p := make([]byte, (more+1)*pageSize)
	if _, err := w.r.ReadAt(p, int64(id)*pageSize); err != nil {
		return nil, damaged("page %d: %v", id, err)
	}
	return p, nil
}

// span bounds the keys of a page: a branch page leads to keys from its own key up
// to, and without, the next one. A wrong branch key would hide whole pages.
type span struct{ from, below []byte }

func (s span) holds(k []byte) bool {
	return bytes.Compare(k, s.from) >= 0 && (s.below == nil || bytes.Compare(k, s.below) < 0)
}

func (w *walker) tree(id uint64, bucket string, depth int, keys span) error {
	if depth > maxDepth {
		return damaged("tree is too deep")
	}
	p, err := w.take(id, flagBranch, flagLeaf)
	if err != nil {
		return err
	}
	return w.page(p, bucket, depth, keys)
}

func (w *walker) page(p []byte, bucket string, depth int, keys span) error {
	n := int(le.Uint16(p[10:]))
	if pageHeader+n*element > len(p) {
		return damaged("page elements overrun")
	}
	leaf := le.Uint16(p[8:]) == flagLeaf
	if !leaf && n == 0 {
		return damaged("empty branch page")
	}
	var prev []byte
	for i := range n {
		e, err := readElement(p, i, n, leaf)
		if err != nil {
			return err
		}
		if prev != nil && bytes.Compare(prev, e.key) >= 0 || !keys.holds(e.key) {
			return damaged("keys out of order")
		}
		prev = e.key
		switch {
		case leaf && e.flags == 0 && bucket == "":
			return damaged("a value outside any bucket")
		case leaf:
			err = w.leaf(e, bucket, depth)
		default:
			err = w.branch(p, e, i, n, bucket, depth, keys)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) branch(p []byte, e pageElement, i, n int, bucket string, depth int, keys span) error {
	below := keys.below
	if i+1 < n {
		next, err := readElement(p, i+1, n, false)
		if err != nil {
			return err
		}
		below = next.key
	}
	return w.tree(e.child, bucket, depth+1, span{e.key, below})
}

func (w *walker) leaf(e pageElement, bucket string, depth int) error {
	if e.flags == 0 {
		if w.visit == nil {
			return nil
		}
		return w.visit(bucket, e.key, e.value)
	}
	if e.flags != 1 || bucket != "" { // our buckets are not nested
		return damaged("unknown element flag")
	}
	if len(e.value) < bucketHeader {
		return damaged("short bucket")
	}
	if root := le.Uint64(e.value); root != 0 {
		return w.tree(root, string(e.key), depth+1, span{})
	}
	inline := e.value[bucketHeader:]
	if len(inline) < pageHeader || le.Uint16(inline[8:]) != flagLeaf {
		return damaged("bad inline bucket")
	}
	return w.page(inline, string(e.key), depth+1, span{})
}

type pageElement struct {
	key, value []byte
	flags      uint32 // of a leaf
	child      uint64 // of a branch
}

// readElement reads element i of n: {flags, pos, ksize, vsize} in a leaf,
// {pos, ksize, child u64} in a branch, pos counted from the element itself.
func readElement(p []byte, i, n int, leaf bool) (pageElement, error) {
	at := pageHeader + i*element
	var e pageElement
	var pos, ksize, vsize uint64
	if leaf {
		e.flags, pos = le.Uint32(p[at:]), uint64(le.Uint32(p[at+4:]))
		ksize, vsize = uint64(le.Uint32(p[at+8:])), uint64(le.Uint32(p[at+12:]))
	} else {
		pos, ksize = uint64(le.Uint32(p[at:])), uint64(le.Uint32(p[at+4:]))
		e.child = le.Uint64(p[at+8:])
	}
	from := uint64(at) + pos
	if ksize == 0 || ksize > maxKey || from < uint64(pageHeader+n*element) || from+ksize+vsize > uint64(len(p)) {
		return e, damaged("element out of bounds")
	}
	e.key, e.value = p[from:from+ksize], p[from+ksize:from+ksize+vsize]
	return e, nil
}

// Contents checks that path is a whole segment of this format and calls visit
// for its blocks, in order, and its series blocks. A file that never saw its
// first commit is empty and fine. [ErrFormat] tells a file of another version,
// and goes before what the callbacks say of values they do not understand.
func Contents(path string, block func(Block) error, series func(encoded []byte) error) error {
	format, found := "", false
	var firstErr error
	err := Verify(path, func(bucket string, key, value []byte) error {
		found = true
		if isFormat(bucket, key) && format != Format {
			format = string(value)
		}
		if firstErr == nil {
			firstErr = content(bucket, key, value, block, series)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if found && format != Format {
		return fmt.Errorf("segment %s: %w: %q, this version reads %q", filepath.Base(path), ErrFormat, format, Format)
	}
	if firstErr != nil {
		return fmt.Errorf("segment %s: %w", filepath.Base(path), firstErr)
	}
	return nil
}

func isFormat(bucket string, key []byte) bool {
	return (bucket == string(bucketMeta) || bucket == string(bucketFormat)) && string(key) == string(keyFormat)
}

func content(bucket string, key, value []byte, block func(Block) error, series func([]byte) error) error {
	switch bucket {
	case string(bucketBlocks):
		first, starts, ok := ParseBlockKey(key)
		if !ok {
			return damaged("bad key %x", key)
		}
		return block(Block{first, starts, value})
	case string(bucketSeries):
		return series(value)
	}
	return nil
}
