package buffer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// Verification is what reading every block has shown.
type Verification struct {
	Segments int
	Blocks   uint64 // whole ones
	Records  uint64 // in them
	Bytes    int64  // of them
	Problems []Problem
}

// ProblemKind says what is wrong.
type ProblemKind string

// The kinds of problems.
const (
	ProblemDamaged ProblemKind = "damaged" // not what was written
	ProblemOverlap ProblemKind = "overlap" // numbers that another block holds, too
	ProblemHole    ProblemKind = "hole"    // numbers that are nowhere, and the ledger does not say why
	ProblemMissing ProblemKind = "missing" // a segment that state.db knows of is not there
	ProblemRun     ProblemKind = "run"     // a block of another run than the one that gave its numbers
	ProblemSeries  ProblemKind = "series"  // a reading of a series that nothing defines
	ProblemState   ProblemKind = "state"   // state.db cannot be used
)

// Problem is one thing that is wrong.
type Problem struct {
	Kind   ProblemKind
	File   string           // relative to the directory, empty when it is about no file
	Epoch  edgeagent.Epoch  // 0 when it is about no stream
	Stream edgeagent.Stream // likewise
	edgeagent.Range
	Err error
}

// String says where and what, for people.
func (p Problem) String() string {
	s := string(p.Kind)
	if p.File != "" {
		s = p.File + ": " + s
	}
	if p.Stream.Valid() {
		s += fmt.Sprintf(": %s %d to %d of epoch %s", p.Stream, p.From, p.To, p.Epoch)
	}
	if p.Err != nil {
		s += ": " + p.Err.Error()
	}
	return s
}

// checker reads the blocks of one segment and notes what is wrong with them.
type checker struct {
	b      *Buffer
	v      *Verification
	file   string
	epoch  edgeagent.Epoch
	stream edgeagent.Stream
	last   edgeagent.Seq // numbers above it were never accepted
	run    func(edgeagent.Seq) (edgeagent.Run, bool)
	names  []edgeagent.Series

	dec   block.Decoder
	recs  records
	good  edgeagent.Ranges
	top   edgeagent.Seq // highest number that was claimed
	bad   []badBlock
	count Verification // what this file adds
}

type badBlock struct {
	first edgeagent.Seq
	err   error
}

func (c *checker) problem(kind ProblemKind, from, to edgeagent.Seq, err error) {
	c.count.Problems = append(c.count.Problems, Problem{kind, c.file, c.epoch, c.stream, edgeagent.Range{From: from, To: to}, err})
}

// block takes up one block in the order of their keys.
func (c *checker) block(blk segment.Block) {
	if blk.First > c.last {
		return
	}
	c.top = max(c.top, blk.First)
	h, err := block.Check(blk.Encoded)
	if err == nil && (h.Epoch != c.epoch || h.Stream != c.stream || h.First != blk.First) {
		err = fmt.Errorf("block is %s %d of epoch %s", h.Stream, h.First, h.Epoch)
	}
	if err == nil {
		err = c.decode(h, blk.Encoded)
	}
	if err != nil {
		c.bad = append(c.bad, badBlock{blk.First, err})
		return
	}
	c.top = max(c.top, h.Last())
	if n := len(c.good); n > 0 && c.good[n-1].To >= h.First {
		c.problem(ProblemOverlap, h.First, min(c.good[n-1].To, h.Last()), errors.New("the block before holds these numbers, too"))
	}
	if run, known := c.run(h.First); known && run != h.Run {
		c.problem(ProblemRun, h.First, h.Last(), fmt.Errorf("block bears run %s, run %s gave the numbers", h.Run, run))
	}
	c.good.Add(edgeagent.Range{From: h.First, To: h.Last()})
	c.count.Blocks++
	c.count.Records += uint64(h.Count)
	c.count.Bytes += int64(len(blk.Encoded))
}

func (c *checker) decode(h block.Header, encoded []byte) (err error) {
	c.recs.reset()
	if err := c.recs.decode(&c.dec, h.Kind, encoded); err != nil {
		return err
	}
	for _, row := range c.recs.rows {
		if !c.defined(h, row.Series) {
			return nil
		}
	}
	for _, row := range c.recs.folded {
		if !c.defined(h, row.Series) {
			return nil
		}
	}
	return nil
}

// defined notes a series that nothing defines.
func (c *checker) defined(h block.Header, id uint32) bool {
	if id == 0 || int(id) > len(c.names) || c.names[id-1].IsZero() {
		c.problem(ProblemSeries, h.First, h.Last(), fmt.Errorf("nothing defines series %d", id))
		return false
	}
	return true
}

// finish compares what was found with what should be there: the numbers from first
// to at least last, without those that lost explains.
func (c *checker) finish(first, last edgeagent.Seq, lost edgeagent.Ranges, fileErr error) {
	expect := edgeagent.Range{From: first, To: max(last, c.top)}
	known := slices.Clone(c.good)
	for _, r := range lost {
		known.Add(r)
	}
	missing := known.Missing(expect)
	for _, r := range missing {
		p, err := ProblemDamaged, fileErr
		for _, bad := range c.bad {
			if r.Contains(bad.first) {
				err = bad.err
			}
		}
		if err == nil {
			p, err = ProblemHole, errors.New("no block holds them, and the ledger does not say why")
		}
		c.problem(p, r.From, r.To, err)
	}
	for _, bad := range c.bad {
		if !slices.ContainsFunc(missing, func(r edgeagent.Range) bool { return r.Contains(bad.first) }) {
			c.problem(ProblemDamaged, bad.first, bad.first, bad.err)
		}
	}
	if fileErr != nil && len(missing) == 0 {
		c.problem(ProblemDamaged, expect.From, expect.To, fmt.Errorf("no block is lost: %w", fileErr))
	}
	c.v.Segments++
	c.v.Blocks += c.count.Blocks
	c.v.Records += c.count.Records
	c.v.Bytes += c.count.Bytes
	c.v.Problems = append(c.v.Problems, c.count.Problems...)
}

// file reads a segment with plain reads. Where the file's own structure is damaged
// it counts what a search finds: that is what the next start would keep.
func (c *checker) readFile(path string, ch *chain, first edgeagent.Seq) error {
	var dec block.Decoder
	var seriesErr error
	err := c.b.contents(path, c.epoch, c.stream, func(blk segment.Block) error {
		c.block(blk)
		return nil
	}, func(blk []byte) error {
		if _, _, _, _, err := dec.Series(blk); err != nil && seriesErr == nil {
			seriesErr = fmt.Errorf("series block: %w", err)
		}
		return nil
	})
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, seriesErr)
	}
	top := c.top
	c.good, c.bad, c.count = nil, nil, Verification{}
	kept, salvageErr := c.b.salvage(path, ch, first, c.last)
	if salvageErr != nil {
		return errors.Join(err, salvageErr)
	}
	for _, blk := range kept.blocks {
		c.block(blk)
	}
	c.top = max(c.top, top)
	return err
}

func (b *Buffer) checker(v *Verification, sg *seg, ep *epoch, last edgeagent.Seq) *checker {
	return &checker{
		b: b, v: v, file: b.relative(sg.path), epoch: sg.epoch, stream: sg.stream, last: last,
		run: ep.streams[sg.stream].clone().runAt, names: ep.series.byID,
	}
}

// Verify reads every block: that it is whole and decodes, stands in its place, and
// that every number is in a block, in the ledger, or was let go of. It changes
// nothing. The error is that of ctx, or of a file that could not be read; what is
// wrong stands in the result.
func (r *ReadOnly) Verify(ctx context.Context) (Verification, error) {
	var v Verification
	if r.stateErr != nil {
		v.Problems = append(v.Problems, Problem{Kind: ProblemState, File: stateFile, Err: r.stateErr})
	}
	r.verifyHead(&v)
	for _, ep := range r.b.epochs {
		for _, s := range edgeagent.Streams() {
			v.Records += uint64(ep.streams[s].tail.len())
			if err := r.verifyChain(ctx, &v, ep, ep.streams[s]); err != nil {
				return v, fmt.Errorf("verify: %w", err)
			}
		}
	}
	return v, nil
}

// verifyHead says which head files lost what had been synced. Which records that
// were, only the numbers say that are missing.
func (r *ReadOnly) verifyHead(v *Verification) {
	for _, f := range r.headReport.Files {
		if !f.Dead && f.Lost > 0 {
			v.Problems = append(v.Problems, Problem{Kind: ProblemDamaged, File: f.Name, Err: fmt.Errorf("%d frames are not what was written", f.Lost)})
		}
	}
	if r.head.damaged > 0 {
		v.Problems = append(v.Problems, Problem{Kind: ProblemDamaged, File: "head", Err: fmt.Errorf("%d frames cannot be read", r.head.damaged)})
	}
}

func (r *ReadOnly) verifyChain(ctx context.Context, v *Verification, ep *epoch, ch *chain) error {
	lost := ch.lostRanges()
	known := ch.lostRanges()
	for _, x := range ch.released {
		known.Add(x)
	}
	for i, sg := range ch.segs {
		if err := ctx.Err(); err != nil {
			return err
		}
		limit := maxSeq
		if i+1 < len(ch.segs) {
			limit = ch.segs[i+1].first - 1
		}
		c := r.b.checker(v, sg, ep, limit)
		err := c.readFile(sg.path, ch, sg.first)
		if errors.Is(err, fs.ErrPermission) {
			return err
		}
		last := sg.last
		if sum, ok := r.summary(sg); ok {
			last = max(last, min(sum.Last, limit))
		}
		c.finish(sg.first, last, lost, err)
		known.Add(edgeagent.Range{From: sg.first, To: max(last, c.top)})
	}
	for i := range ch.tail.spans {
		known.Add(ch.tail.rng(i))
	}
	r.missingSegments(v, ch, &known)
	if n := len(known); n > 0 {
		for _, x := range known.Missing(edgeagent.Range{From: 1, To: max(known[n-1].To, ch.next-1)}) {
			v.Problems = append(v.Problems, Problem{
				ProblemHole, "", ch.epoch, ch.stream, x, errors.New("no segment holds them, and the ledger does not say why"),
			})
		}
	}
	return nil
}

// missingSegments looks for segments that state.db knows of and that are not
// there. The one that was written to last may be missing without its records being
// counted anywhere.
func (r *ReadOnly) missingSegments(v *Verification, ch *chain, known *edgeagent.Ranges) {
	there := map[edgeagent.Seq]bool{}
	var newest edgeagent.Seq
	for _, sg := range slices.Concat(ch.segs, r.unused) {
		if sg.epoch == ch.epoch && sg.stream == ch.stream {
			there[sg.first], newest = true, max(newest, sg.first)
		}
	}
	prefix := streamKey(ch.epoch, ch.stream)
	_ = r.image.each(bucketSegments, prefix, func(key, value []byte) error {
		var sum summary
		if parse(bucketSegments, key, value, &sum) != nil || len(key) != len(prefix)+8 {
			return nil // a hint, no more
		}
		var first edgeagent.Seq
		for _, b := range key[len(prefix):] {
			first = first<<8 | edgeagent.Seq(b)
		}
		rng := edgeagent.Range{From: first, To: max(sum.Last, first)}
		unsure := sum.Records == 0 && !sum.Sealed && !r.clean && first > newest
		if there[first] || !unsure && (sum.Records == 0 || len(known.Missing(rng)) == 0) {
			return nil
		}
		known.Add(rng)
		v.Problems = append(v.Problems, Problem{
			ProblemMissing, r.b.relative(segmentPath(r.b.dir, ch.stream, ch.epoch, first)), ch.epoch, ch.stream, rng,
			errors.New("the segment is not there"),
		})
		return nil
	})
}

// Verify reads every block as [ReadOnly.Verify] does, while the buffer is in use. It
// repairs nothing; whoever reads the damaged part next does. What is appended,
// evicted or repaired meanwhile is no problem.
func (b *Buffer) Verify(ctx context.Context) (Verification, error) {
	type step struct {
		sg   *seg
		ep   *epoch
		last edgeagent.Seq
		open bool
	}
	var steps []step
	var v Verification
	b.mu.Lock()
	for _, ep := range b.epochs {
		for _, s := range edgeagent.Streams() {
			ch := ep.streams[s]
			for _, sg := range ch.segs {
				if sg.records > 0 {
					steps = append(steps, step{sg, ep, sg.last, sg == ch.open})
				}
			}
			if b.head != nil { // else its segments are out of reach
				v.Problems = append(v.Problems, ch.holes()...)
			}
			v.Records += uint64(ch.tail.len())
		}
	}
	if b.head == nil {
		v.Problems = append(v.Problems, Problem{Kind: ProblemState, Err: fmt.Errorf("the disk cannot be used: %w", b.noDisk)})
	}
	b.mu.Unlock()
	for _, x := range steps {
		if err := ctx.Err(); err != nil {
			return v, fmt.Errorf("verify: %w", err)
		}
		b.mu.Lock()
		c := b.checker(&v, x.sg, x.ep, x.last)
		ch := x.ep.streams[x.sg.stream].clone()
		b.mu.Unlock()
		var err error
		if x.open { // its pages change under plain reads
			err = b.view(x.sg, func(f *segment.Segment) error {
				return b.eachBlock(f, x.sg, x.sg.first, func(blk segment.Block) bool {
					c.block(blk)
					return ctx.Err() == nil
				})
			})
		} else {
			err = c.readFile(x.sg.path, ch, x.sg.first)
		}
		if ctx.Err() != nil || errors.Is(err, errGone) || errors.Is(err, fs.ErrNotExist) && b.evicted(x.sg) {
			continue
		}
		b.mu.Lock()
		lost := x.ep.streams[x.sg.stream].lostRanges()
		b.mu.Unlock()
		c.finish(x.sg.first, x.last, lost, err)
	}
	return v, nil
}

// evicted reports whether a segment is no longer part of the buffer.
func (b *Buffer) evicted(sg *seg) bool {
	sg.io.RLock()
	defer sg.io.RUnlock()
	return sg.gone
}

// holes returns the numbers that neither a segment nor the ledger accounts for;
// Buffer.mu is held.
func (c *chain) holes() []Problem {
	known := c.lostRanges()
	for _, r := range c.released {
		known.Add(r)
	}
	for _, sg := range c.segs {
		known.Add(sg.rng())
	}
	for i := range c.tail.spans {
		known.Add(c.tail.rng(i))
	}
	var out []Problem
	for _, r := range known.Missing(edgeagent.Range{From: 1, To: c.next - 1}) {
		out = append(out, Problem{
			ProblemHole, "", c.epoch, c.stream, r, errors.New("no segment holds them, and the ledger does not say why"),
		})
	}
	slices.SortFunc(out, func(a, b Problem) int { return cmp.Compare(a.From, b.From) })
	return out
}
