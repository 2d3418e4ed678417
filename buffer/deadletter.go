package buffer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// What a destination refuses for ever is copied to <dir>/dead/<destination>/, one
// file a range: a line of JSON that says what it is, then series blocks and blocks
// of records back to back.

const (
	deadDir    = "dead"
	deadSuffix = ".dead"
	// maxDead bounds the copies of a buffer, and deadPart what they take of its
	// budget; the oldest go.
	maxDead  = 16 << 20
	deadPart = 8
	// maxLetter is how many bytes of records make a file of their own.
	maxLetter = 1 << 20
	// maxCause bounds the text that says why.
	maxCause = 1 << 10
	// maxDeadHead bounds the first line of a file.
	maxDeadHead = 8 << 10
)

// DeadLetter is a copy of records that a destination refused.
type DeadLetter struct {
	Destination string           `json:"destination"`
	Epoch       edgeagent.Epoch  `json:"epoch"`
	Stream      edgeagent.Stream `json:"stream"`
	// Range is what was given up; Records of it were there to be copied.
	From    edgeagent.Seq `json:"from"`
	To      edgeagent.Seq `json:"to"`
	Records uint64        `json:"records"`
	Cause   string        `json:"cause"`
	At      int64         `json:"at"` // wall time, Unix ns
	// File is relative to the buffer's directory.
	File  string `json:"-"`
	Bytes int64  `json:"-"` // of the file
}

// DeadLetter gives up, for one destination, what of a range it has not confirmed:
// a receiver that refuses a record whatever is done would otherwise be sent it for
// ever. The records are copied, durably, for [Buffer.ReadDeadLetter]; then the
// numbers are a gap of reason [DeadLettered] in the marks of that destination, and
// count as confirmed there. Other destinations are not touched. The copies of all
// destinations take at most 16 MiB, or an eighth of max_bytes: the oldest go first,
// and what finds no room at all is given up without a copy, which is logged.
//
// After an error nothing has changed, and the call can be made again.
func (b *Buffer) DeadLetter(ctx context.Context, dest string, e edgeagent.Epoch, s edgeagent.Stream, r edgeagent.Range, cause string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("dead letter of %s: %w", dest, err)
	}
	if err := b.deadLetter(ctx, dest, e, s, r, cause); err != nil {
		return fmt.Errorf("dead letter of %s: %w", dest, err)
	}
	return nil
}

func (b *Buffer) deadLetter(ctx context.Context, dest string, e edgeagent.Epoch, s edgeagent.Stream, r edgeagent.Range, cause string) error {
	d, missing, err := b.owedOf(dest, e, s, []edgeagent.Range{r})
	if err != nil || len(missing) == 0 {
		return err
	}
	if len(cause) > maxCause {
		cause = strings.ToValidUTF8(cause[:maxCause], "")
	}
	var gaps []Gap
	for _, part := range missing {
		gap := d.gap(e, s, part, DeadLettered)
		gap.AtMost = 0
		for from := part.From; from <= part.To; {
			letter := DeadLetter{
				Destination: dest, Epoch: e, Stream: s, From: from, To: part.To, Cause: cause, At: b.o.Clock.Wall().UnixNano(),
			}
			body, times, err := b.copyOut(ctx, &letter)
			if err != nil {
				return err
			}
			if letter.Records > 0 {
				if err := b.bury(letter, body); err != nil {
					return err
				}
			}
			gap.AtMost += letter.Records
			gap.TFrom, gap.TTo = joinTimes(gap.TFrom, gap.TTo, times.From, times.To)
			from = letter.To + 1
		}
		gaps = append(gaps, gap)
	}
	b.disk.Lock()
	defer b.disk.Unlock()
	if b.isClosed() {
		return ErrClosed
	}
	return writeError(b.disown(d, e, s, gaps))
}

// owedOf returns a registered destination, and the parts of ranges that it has not
// confirmed. Ranges at or above the next number are refused.
func (b *Buffer) owedOf(dest string, e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) (*destination, []edgeagent.Range, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, ch, err := b.given(dest, e, s, ranges)
	if err != nil {
		return nil, nil, err
	}
	set := d.place(ch.epoch, ch.stream).set
	var owed edgeagent.Ranges
	for _, r := range ranges {
		for _, part := range set.Missing(r) {
			owed.Add(part)
		}
	}
	return d, owed, nil
}

// given returns a registered destination and the chain that gave the numbers of
// ranges, or why there is none; b.mu is held.
func (b *Buffer) given(dest string, e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) (*destination, *chain, error) {
	if b.closed {
		return nil, nil, ErrClosed
	}
	d, ep := b.dests[dest], b.epoch(e)
	switch {
	case d == nil || !d.registered:
		return nil, nil, errUnknownDestination
	case ep == nil || !s.Valid():
		return nil, nil, fmt.Errorf("%w %s, stream %s", errUnknownEpoch, e, s)
	}
	ch := ep.streams[s]
	for _, r := range ranges {
		if r.Len() == 0 || r.To >= ch.next {
			return nil, nil, fmt.Errorf("range [%d,%d] of %s is not below %d", r.From, r.To, s, ch.next)
		}
	}
	return d, ch, nil
}

// span is a span of wall time, zero if it is not known.
type span struct{ From, To int64 }

// copyOut returns the blocks of a letter's records, after the series that they
// need, and counts the records. A letter that gets too long ends earlier.
func (b *Buffer) copyOut(ctx context.Context, letter *DeadLetter) (body []byte, times span, err error) {
	r := &Reader{b: b, stream: letter.Stream, parts: []part{{epoch: letter.Epoch, pos: letter.From, below: letter.To + 1}}}
	var records []byte
	var maxID uint32
	for {
		if len(records) >= min(maxLetter, int(b.maxDeadBytes())/2) {
			letter.To = r.parts[0].pos - 1
			break
		}
		batch, ok, err := r.Next(ctx, edgeagent.Limit{})
		if err != nil {
			return nil, span{}, err
		}
		if !ok {
			break
		}
		records = append(records, batch.Encoded...)
		letter.Records += uint64(batch.Count)
		maxID = max(maxID, batch.MaxSeriesID)
		times.From, times.To = joinTimes(times.From, times.To, batch.MinTime, batch.MaxTime)
	}
	blocks, err := b.SeriesBlocks(letter.Epoch, 0, maxID, 0)
	if err != nil {
		return nil, span{}, err
	}
	for _, x := range blocks {
		body = append(body, x.Encoded...)
	}
	return append(body, records...), times, nil
}

// bury writes a letter, durably, after making room for it. The same letter again
// replaces itself.
func (b *Buffer) bury(letter DeadLetter, body []byte) error {
	head, err := json.Marshal(letter)
	if err != nil {
		return err
	}
	content := b.vault.seal(nil, slices.Concat(head, []byte("\n"), body), boxOf(boxLetter, 0, 0))
	b.disk.Lock()
	defer b.disk.Unlock()
	if b.isClosed() {
		return ErrClosed
	}
	need := int64(len(content)) + 8<<10 // and what directories take
	if err := b.makeDeadRoom(need); err != nil {
		if errors.Is(err, ErrFull) {
			b.log.Warn("records that a destination refuses are given up without a copy", "destination", letter.Destination,
				"stream", letter.Stream.String(), "from", uint64(letter.From), "to", uint64(letter.To), "cause", letter.Cause, "err", err)
			return nil
		}
		return err
	}
	dir := filepath.Join(b.dir, deadDir, deadName(letter.Destination))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return writeError(err)
	}
	name := fmt.Sprintf("%s-%s-%016x-%016x%s", letter.Epoch, letter.Stream, uint64(letter.From), uint64(letter.To), deadSuffix)
	if err := b.writeWhole(filepath.Join(dir, name), content); err != nil {
		return writeError(err)
	}
	for _, d := range []string{dir, filepath.Dir(dir), b.dir} {
		if err := segment.SyncDir(d, b.o.faults); err != nil {
			return writeError(err)
		}
	}
	b.log.Warn("records that a destination refuses were put aside", "destination", letter.Destination,
		"stream", letter.Stream.String(), "from", uint64(letter.From), "to", uint64(letter.To), "cause", letter.Cause)
	return nil
}

// writeWhole puts content into a file of which nobody sees a part.
func (b *Buffer) writeWhole(path string, content []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return segment.Rename(tmp, path, b.o.faults)
}

// maxDeadBytes is what all dead letters may take.
func (b *Buffer) maxDeadBytes() int64 { return min(maxDead, int64(b.o.MaxBytes)/deadPart) }

// sweepDead removes what interrupted writes left.
func sweepDead(dir string) error {
	dests, err := os.ReadDir(filepath.Join(dir, deadDir))
	if err != nil {
		return nil // nothing was ever written
	}
	for _, d := range dests {
		files, err := os.ReadDir(filepath.Join(dir, deadDir, d.Name()))
		if err != nil {
			return err
		}
		for _, f := range files {
			if strings.HasSuffix(f.Name(), deadSuffix+".tmp") {
				if err := os.Remove(filepath.Join(dir, deadDir, d.Name(), f.Name())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// makeDeadRoom removes the oldest letters until need more bytes are within their
// bound, and then makes room for them in the budget. b.disk is held.
func (b *Buffer) makeDeadRoom(need int64) error {
	if err := sweepDead(b.dir); err != nil {
		return err
	}
	list, err := b.listDead()
	if err != nil {
		return err
	}
	used := deadBytes(b.dir)
	for used+need > b.maxDeadBytes() && len(list) > 0 {
		b.log.Warn("oldest dead letter removed to make room", "file", list[0].File)
		if err := segment.Remove(filepath.Join(b.dir, filepath.FromSlash(list[0].File)), b.o.faults); err != nil {
			return err
		}
		list, used = list[1:], deadBytes(b.dir)
	}
	if used+need > b.maxDeadBytes() {
		return fmt.Errorf("%w: a dead letter of %s", ErrFull, edgeagent.Bytes(need))
	}
	return b.makeRoom(need)
}

// deadName is a destination's name as a directory's.
func deadName(dest string) string {
	var s strings.Builder
	for _, c := range []byte(dest) {
		plain := c == '-' || c == '_' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
		if plain {
			s.WriteByte(c)
		} else {
			fmt.Fprintf(&s, "%%%02X", c)
		}
	}
	return s.String()
}

// deadBytes returns what the letters of a buffer take of the disk.
func deadBytes(dir string) (n int64) {
	list, err := os.ReadDir(filepath.Join(dir, deadDir))
	if err != nil {
		return 0
	}
	for _, e := range list {
		n += dirBytes(filepath.Join(dir, deadDir, e.Name()))
	}
	return n
}

// listDead lists the letters of a buffer, oldest first. One that cannot be read
// is listed by its name.
func (b *Buffer) listDead() ([]DeadLetter, error) {
	dir := b.dir
	dests, err := os.ReadDir(filepath.Join(dir, deadDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []DeadLetter
	for _, d := range dests {
		files, err := os.ReadDir(filepath.Join(dir, deadDir, d.Name()))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			fi, err := f.Info()
			if err != nil || !strings.HasSuffix(f.Name(), deadSuffix) {
				continue
			}
			path := filepath.Join(deadDir, d.Name(), f.Name())
			letter, _, err := b.readDead(filepath.Join(dir, path))
			if err != nil {
				letter = DeadLetter{Cause: err.Error(), At: fi.ModTime().UnixNano()}
				letter.Destination, _ = url.PathUnescape(d.Name())
			}
			letter.File, letter.Bytes = filepath.ToSlash(path), fi.Size()
			out = append(out, letter)
		}
	}
	slices.SortStableFunc(out, func(a, b DeadLetter) int { return cmp.Compare(a.At, b.At) })
	return out, nil
}

// readDead reads a letter's file; body holds blocks back to back.
func (b *Buffer) readDead(path string) (letter DeadLetter, body []byte, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return DeadLetter{}, nil, err
	}
	if content, err = b.vault.open(nil, content, boxOf(boxLetter, 0, 0)); err != nil {
		return DeadLetter{}, nil, fmt.Errorf("dead letter: %w", err)
	}
	return parseDead(content)
}

func parseDead(content []byte) (letter DeadLetter, body []byte, err error) {
	end := slices.Index(content[:min(len(content), maxDeadHead)], '\n')
	if end < 0 {
		return DeadLetter{}, nil, fmt.Errorf("dead letter: %w: no first line", segment.ErrDamaged)
	}
	if err := json.Unmarshal(content[:end], &letter); err != nil {
		return DeadLetter{}, nil, fmt.Errorf("dead letter: %w: %w", segment.ErrDamaged, err)
	}
	return letter, content[end+1:], nil
}

// DeadLetters lists the copies of what destinations refused, oldest first: of one,
// or of all if dest is "".
func (b *Buffer) DeadLetters(dest string) ([]DeadLetter, error) { return b.deadOf(dest) }

// DeadLetters is as [Buffer.DeadLetters].
func (r *ReadOnly) DeadLetters(dest string) ([]DeadLetter, error) { return r.b.deadOf(dest) }

func (b *Buffer) deadOf(dest string) ([]DeadLetter, error) {
	list, err := b.listDead()
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	return slices.DeleteFunc(list, func(x DeadLetter) bool { return dest != "" && x.Destination != dest }), nil
}

// ReadDeadLetter calls f for the blocks of a letter that [Buffer.DeadLetters]
// listed: series first, then records. A damaged block ends the walk with an error,
// as does an error of f, which does not keep blk.
func (b *Buffer) ReadDeadLetter(letter DeadLetter, f func(blk []byte) error) error {
	return b.eachDead(letter, f)
}

// ReadDeadLetter is as [Buffer.ReadDeadLetter].
func (r *ReadOnly) ReadDeadLetter(letter DeadLetter, f func(blk []byte) error) error {
	return r.b.eachDead(letter, f)
}

func (b *Buffer) eachDead(letter DeadLetter, f func(blk []byte) error) error {
	path := filepath.FromSlash(letter.File)
	if !filepath.IsLocal(path) {
		return fmt.Errorf("read dead letter %q: not a file of the buffer", letter.File)
	}
	_, body, err := b.readDead(filepath.Join(b.dir, path))
	for err == nil && len(body) > 0 {
		var blk []byte
		if blk, body, err = block.Next(body); err == nil {
			if _, err = block.Check(blk); err == nil {
				err = f(blk)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("read dead letter %s: %w", letter.File, err)
	}
	return nil
}
