package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/sealed"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

const quarantineDir = "quarantine"

// salvaged is what was still whole in a damaged segment.
type salvaged struct {
	found
	blocks   []segment.Block
	encoded  [][]byte // series blocks
	fileSize int64
}

// salvage finds the blocks of a chain that are whole in a file of any condition.
// Stale copies are the same bytes; of two blocks that claim the same numbers the
// one whose run the run table confirms is right. Numbers above last (0: none is)
// were never accepted.
func (b *Buffer) salvage(path string, ch *chain, first, last edgeagent.Seq) (salvaged, error) {
	var s salvaged
	var dec block.Decoder
	byFirst := map[edgeagent.Seq]segment.Block{}
	take := func(b []byte) int {
		h, err := block.ParseHeader(b)
		if err != nil || h.Size() > len(b) || h.Epoch != ch.epoch {
			return 0
		}
		b = b[:h.Size()]
		if _, err := block.Check(b); err != nil {
			return 0
		}
		if h.Kind == block.KindSeries {
			if _, _, list, _, err := dec.Series(b); err == nil && !s.names(list) {
				s.addSeries(list)
				s.encoded = append(s.encoded, bytes.Clone(b))
			}
			return len(b)
		}
		run, known := ch.runAt(h.First)
		_, taken := byFirst[h.First]
		if h.Stream == ch.stream && h.First >= first && (last == 0 || h.Last() <= last) && (known && run == h.Run || !known && !taken) {
			byFirst[h.First] = segment.Block{First: h.First, Starts: true, Encoded: bytes.Clone(b)}
		}
		return len(b)
	}
	if err := b.scan(path, ch, take); err != nil {
		return s, err
	}
	if fi, err := os.Lstat(path); err == nil {
		s.fileSize = fi.Size()
	}
	s.choose(byFirst)
	return s, nil
}

// scan calls take wherever a block of a chain may begin, sealed or not.
func (b *Buffer) scan(path string, ch *chain, take func(b []byte) int) error {
	if err := segment.Scan(path, []byte("EB"), block.MaxStored, take); err != nil {
		return err
	}
	boxes := [][]byte{boxOf(boxBlock, ch.epoch, ch.stream), boxOf(boxSeries, ch.epoch, 0)}
	var failed error
	err := segment.Scan(path, []byte("EX"), maxBox, func(stored []byte) int {
		n, ok := sealed.BoxSize(stored)
		if !ok || n > len(stored) || failed != nil {
			return 0
		}
		for _, box := range boxes {
			plain, err := b.vault.open(nil, stored[:n], box)
			if err == nil && take(plain) > 0 {
				return n
			}
			if errors.Is(err, ErrKey) {
				failed = err
			}
		}
		return 0
	})
	return errors.Join(err, failed)
}

func (s *salvaged) names(list []block.SeriesEntry) bool {
	return !slices.ContainsFunc(list, func(e block.SeriesEntry) bool { return !s.named.has(e.ID) })
}

// choose puts the blocks in order and leaves out what overlaps its predecessor.
func (s *salvaged) choose(byFirst map[edgeagent.Seq]segment.Block) {
	for _, blk := range byFirst {
		s.blocks = append(s.blocks, blk)
	}
	slices.SortFunc(s.blocks, func(a, b segment.Block) int { return int(int64(a.First) - int64(b.First)) })
	kept := s.blocks[:0]
	for _, blk := range s.blocks {
		h, _ := block.ParseHeader(blk.Encoded)
		if s.records > 0 && h.First <= s.last {
			continue
		}
		s.add(h)
		kept = append(kept, blk)
	}
	s.blocks = kept
}

// replace puts what was salvaged into the place of a damaged segment, which goes
// to quarantine if there is room. Nothing salvaged leaves no file. At every moment
// the path holds either the damaged file or the new one, so a crash loses nothing
// that the next open would not find again.
func (b *Buffer) replace(path string, e edgeagent.Epoch, s edgeagent.Stream, kept salvaged) error {
	if err := b.quarantine(path, s.String()+"-"+filepath.Base(path)); err != nil {
		b.log.Warn("damaged segment not kept", "path", path, "err", err)
	}
	if len(kept.blocks) == 0 {
		return segment.Remove(path, b.o.faults)
	}
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := segment.Create(tmp, int(b.o.segmentSize()), b.o.faults)
	if err != nil {
		return err
	}
	err = errors.Join(b.appendBlocks(f, e, s, kept.blocks, kept.encoded), f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return segment.Rename(tmp, path, b.o.faults)
}

// quarantine keeps a copy of a damaged file for people to look at, if a quarter of
// the budget is enough for all of them. The file itself stays where it is.
func (b *Buffer) quarantine(path, name string) error {
	dir := filepath.Join(b.dir, quarantineDir)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if int64(b.o.MaxBytes)/4 < dirBytes(dir)+allocated(fi) || int64(b.o.MaxBytes) < b.usedBytes()+2*allocated(fi)+reserveBytes {
		return errors.New("no room in quarantine")
	}
	to := filepath.Join(dir, strconv.FormatInt(b.o.Clock.Wall().UnixNano(), 16)+"-"+name)
	if err := os.Link(path, to); err != nil {
		if err := copyFile(path, to); err != nil {
			return err
		}
	}
	b.report.Quarantined = append(b.report.Quarantined, to)
	b.log.Warn("damaged file kept in quarantine", "path", path, "copy", to)
	return segment.SyncDir(dir, b.o.faults)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

// heal brings a segment that turned out damaged while the buffer is open into
// order: what is whole is kept, the rest goes to the ledger. b.disk is held.
func (b *Buffer) heal(sg *seg, cause error) error {
	sg.io.Lock()
	defer sg.io.Unlock()
	if sg.gone {
		return nil
	}
	if sg.verified && sg.file == nil { // healed by another meanwhile
		return nil
	}
	b.mu.Lock()
	ch := b.epoch(sg.epoch).streams[sg.stream]
	b.mu.Unlock()
	b.log.Error("segment is damaged", "path", sg.path, "err", cause)
	_ = b.closeHandle(sg)
	sg.verified = false
	kept, err := b.salvage(sg.path, ch, sg.first, sg.last)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("salvage %s: %w", filepath.Base(sg.path), err)
	}
	if err == nil {
		if err := b.replace(sg.path, sg.epoch, sg.stream, kept); err != nil {
			return fmt.Errorf("replace damaged %s: %w", filepath.Base(sg.path), err)
		}
	}
	return b.settle(ch, sg, kept)
}

// settle makes memory and state.db say what is left of a segment; sg.io is held.
func (b *Buffer) settle(ch *chain, sg *seg, kept salvaged) error {
	b.mu.Lock()
	missing := b.unexplained(sg, kept.ranges)
	b.mu.Unlock()
	next := ch.clone()
	for _, r := range missing {
		next.lost(Gap{Range: r, Reason: Damaged, AtMost: r.Len(), TFrom: sg.minTime, TTo: sg.maxTime})
	}
	b.mu.Lock()
	sg.records, sg.minTime, sg.maxTime = kept.records, kept.minTime, kept.maxTime
	sg.named, sg.sealed, sg.verified = kept.named, true, true
	if ch.open == sg {
		ch.open = nil
	}
	ch.adopt(next)
	b.coverLost(ch)
	if kept.records == 0 {
		ch.remove(sg)
		sg.gone = true
	} else {
		b.unsaved = append(b.unsaved, sg)
	}
	b.count.damaged++
	b.mu.Unlock()
	b.measure(sg)
	changes := []segment.Change{next.change()}
	if sg.gone {
		changes = append(changes, unset(bucketSegments, segmentKey(sg.epoch, sg.stream, sg.first)))
	}
	return b.save(changes)
}
