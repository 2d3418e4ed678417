package buffer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/headlog"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// ReadOnly is the buffer of a stopped agent, opened to look at. It changes no byte
// and repairs nothing: what the next start would salvage is shown as damaged. It
// reads with plain reads, and opens no file with bbolt. Not safe for concurrent
// use.
type ReadOnly struct {
	b          *Buffer // epochs, destinations and header; none of its files are open
	lock       *os.File
	image      image
	stateErr   error // state.db could not be used
	clean      bool
	states     map[*seg]SegmentState
	unused     []*seg // of no chain: see SegmentUnused
	head       *replay
	headReport headlog.Report
	used       int64
}

// image is the content of state.db: bucket, key, value.
type image map[string]map[string][]byte

func (m image) get(bucket string, key []byte, v any) error {
	return parse(bucket, key, m[bucket][string(key)], v)
}

// each calls f for the keys of a bucket that begin with prefix, in order.
func (m image) each(bucket string, prefix []byte, f func(key, value []byte) error) error {
	for _, k := range slices.Sorted(maps.Keys(m[bucket])) {
		if !strings.HasPrefix(k, string(prefix)) {
			continue
		}
		if err := f([]byte(k), m[bucket][k]); err != nil {
			return err
		}
	}
	return nil
}

// OpenReadOnly opens the buffer in dir without changing anything. It takes the
// lock beside others who only read, and holds it until Close: an agent that is
// started meanwhile is refused. It fails with [ErrLocked] while an agent has the
// buffer, with [fs.ErrNotExist] where there is none, and with [ErrForeign] for
// files of another version, and with [ErrKey] without the key of an encrypted one.
// Damage is no error.
//
// Sealed segments are taken at the word of state.db; the others are read, which
// ctx bounds.
func OpenReadOnly(ctx context.Context, dir string, key Encryption) (*ReadOnly, error) {
	v, err := key.vault()
	if err != nil {
		return nil, fmt.Errorf("read buffer %s: %w", dir, err)
	}
	lock, err := lockToRead(dir)
	if err != nil {
		return nil, err
	}
	r := &ReadOnly{
		b:      &Buffer{dir: dir, vault: v, log: slog.New(slog.DiscardHandler), dests: map[string]*destination{}},
		lock:   lock,
		states: map[*seg]SegmentState{},
	}
	if err := r.load(ctx); err != nil {
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) { // noBuffer said so
			err = fmt.Errorf("read buffer %s: %w", dir, err)
		}
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// lockToRead returns nil when there is no lock file, as on a copy or a read-only
// medium: then nobody has it open either.
func lockToRead(dir string) (*os.File, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, noBuffer(dir, err)
	}
	f, err := os.Open(filepath.Join(dir, lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no file, no lock
	}
	if err != nil {
		return nil, noBuffer(dir, err)
	}
	held, err := lockShared(f)
	switch {
	case err == nil:
		return f, nil
	case held:
		return nil, errors.Join(edgeagent.WithHint(fmt.Errorf("read buffer %s: %w", dir, ErrLocked),
			"ask the agent instead of the files: see --socket"), f.Close())
	}
	return nil, errors.Join(fmt.Errorf("lock buffer %s: %w", dir, err), f.Close())
}

func noBuffer(dir string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return edgeagent.WithHint(fmt.Errorf("no buffer in %s: %w", dir, fs.ErrNotExist),
			"name the directory with --dir, or the agent's configuration with -c")
	case errors.Is(err, fs.ErrPermission):
		return edgeagent.WithHint(fmt.Errorf("read buffer %s: %w", dir, fs.ErrPermission), "run it with sudo, or as the user of the agent")
	}
	return fmt.Errorf("read buffer %s: %w", dir, err)
}

// Close lets go of the directory.
func (r *ReadOnly) Close() error {
	if r.lock == nil {
		return nil
	}
	return r.lock.Close()
}

func (r *ReadOnly) load(ctx context.Context) error {
	files, err := listSegments(r.b.dir)
	if err != nil {
		return err
	}
	rec, err := r.b.recoverHead(readFS{})
	if err != nil {
		return err
	}
	defer func() { _ = rec.Close() }() // it was only read
	if err := r.loadState(len(files) > 0 || rec.Report().Frames > 0); err != nil {
		return err
	}
	if err := r.b.proveKey(files, rec, r.stateErr != nil); err != nil {
		return err
	}
	if err := r.b.guessEpochs(files, rec); err != nil {
		return err
	}
	for _, ep := range r.b.epochs {
		for _, s := range edgeagent.Streams() {
			of := slices.DeleteFunc(slices.Clone(files), func(f segmentFile) bool { return f.epoch != ep.id || f.stream != s })
			if err := r.adopt(ctx, ep, ep.streams[s], of); err != nil {
				return err
			}
		}
	}
	if r.head, err = r.b.replayHead(rec); err != nil {
		return err
	}
	r.headReport = rec.Report()
	for _, ep := range r.b.epochs {
		for _, s := range edgeagent.Streams() {
			ch := ep.streams[s]
			ch.next = r.end(ch)
			r.b.coverLost(ch)
		}
		ep.series.durable = uint32(len(ep.series.byID))
	}
	r.used = r.b.usedBytes()
	return nil
}

// readFS is the disk for those who only read.
type readFS struct{}

func (readFS) OpenFile(path string, _ bool) (headlog.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return readFile{f}, nil
}

func (readFS) Remove(string) error  { return fs.ErrPermission }
func (readFS) SyncDir(string) error { return fs.ErrPermission }

type readFile struct{ *os.File }

func (readFile) WriteAt([]byte, int64) (int, error) { return 0, fs.ErrPermission }
func (readFile) Datasync() error                    { return fs.ErrPermission }
func (readFile) Truncate(int64) error               { return fs.ErrPermission }

func (f readFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// listSegments lists the segments in order of stream, epoch and number, and leaves
// alone what is none.
func listSegments(dir string) ([]segmentFile, error) {
	var list []segmentFile
	for _, s := range edgeagent.Streams() {
		entries, err := os.ReadDir(filepath.Join(dir, s.String()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, noBuffer(dir, err)
		}
		for _, e := range entries {
			epoch, first, ok := parseSegmentName(e.Name())
			if !ok {
				continue
			}
			fi, err := e.Info()
			if err != nil {
				return nil, err
			}
			list = append(list, segmentFile{s, epoch, first, filepath.Join(dir, s.String(), e.Name()), fi.Size(), fi.ModTime()})
		}
	}
	return list, nil
}

// loadState reads state.db. Where it is damaged or gone, the segments have to speak
// for themselves.
func (r *ReadOnly) loadState(segments bool) error {
	path := filepath.Join(r.b.dir, stateFile)
	r.image = image{}
	err := segment.Verify(path, func(bucket string, key, value []byte) error {
		if r.image[bucket] == nil {
			r.image[bucket] = map[string][]byte{}
		}
		r.image[bucket][string(key)] = bytes.Clone(value)
		return nil
	})
	switch {
	case errors.Is(err, fs.ErrNotExist) && !segments:
		return noBuffer(r.b.dir, err)
	case errors.Is(err, fs.ErrPermission):
		return noBuffer(r.b.dir, err)
	case err == nil && string(r.image["meta"]["format"]) != segment.StoreFormat:
		return r.b.foreign("%s is of format %q", stateFile, r.image["meta"]["format"])
	case err == nil:
		err = r.readState()
	}
	if errors.Is(err, ErrKey) {
		return err
	}
	if err != nil {
		r.stateErr = err
		r.b.epochs, r.b.dests, r.b.header, r.image = nil, map[string]*destination{}, header{}, image{}
	}
	r.clean = err == nil && r.b.header.Clean
	return nil
}

// readState makes the epochs and destinations of what state.db holds.
func (r *ReadOnly) readState() error {
	if len(r.image[bucketBuffer]) == 0 && len(r.image[bucketEpochs]) == 0 {
		return nil // made and never used
	}
	if err := r.image.get(bucketBuffer, keyHeader, &r.b.header); err != nil {
		return err
	}
	if err := r.b.vault.prove(r.b.header.Key); err != nil {
		return err
	}
	err := r.image.each(bucketEpochs, nil, func(key, value []byte) error {
		var x epochRecord
		if err := parse(bucketEpochs, key, value, &x); err != nil {
			return err
		}
		ep := newEpoch(x.Epoch, x.Reason)
		ep.prev = x.Prev
		r.b.epochs = append(r.b.epochs, ep)
		return r.readEpoch(ep)
	})
	if err != nil {
		return err
	}
	if len(r.b.epochs) == 0 || len(r.b.newest().series.byID) != int(r.b.header.Series) {
		return fmt.Errorf("state: %w: entries are missing", segment.ErrDamaged)
	}
	return errors.Join(r.b.readDestinations(r.image.each), r.b.readCorrections(r.image.each))
}

func (r *ReadOnly) readEpoch(ep *epoch) error {
	for _, s := range edgeagent.Streams() {
		var x record
		if err := r.image.get(bucketStreams, streamKey(ep.id, s), &x); err != nil {
			return err
		}
		ep.streams[s].load(x)
	}
	var dec block.Decoder
	return r.image.each(bucketSeries, binary.BigEndian.AppendUint64(nil, uint64(ep.id)), func(_, value []byte) error {
		value, err := r.b.vault.open(nil, value, boxOf(boxSeries, ep.id, 0))
		if err != nil {
			return fmt.Errorf("state series: %w", err)
		}
		device, _, list, _, err := dec.Series(value)
		if err != nil {
			return fmt.Errorf("state series: %w: %w", segment.ErrDamaged, err)
		}
		r.b.o.Device = device
		return ep.series.adoptAll(list)
	})
}

func (reg *registry) adoptAll(list []block.SeriesEntry) error {
	for _, e := range list {
		if e.ID == 0 || e.ID > maxSeries {
			return fmt.Errorf("state series: %w: id %d", segment.ErrDamaged, e.ID)
		}
		reg.adopt(e.ID, edgeagent.NewSeries(e.Key))
	}
	return nil
}

// adopt finds out what the segments of a chain hold, as the next start would, and
// leaves them as they are.
func (r *ReadOnly) adopt(ctx context.Context, ep *epoch, ch *chain, files []segmentFile) error {
	gone := ch.gone()
	below := maxSeq + 1
	for _, f := range slices.Backward(files) {
		if err := ctx.Err(); err != nil {
			return err
		}
		sg, err := r.segment(ep, ch, f, below)
		if err != nil {
			return err
		}
		r.b.measure(sg)
		if r.states[sg] == "" && (sg.records == 0 || len(gone.Missing(sg.rng())) == 0) {
			r.states[sg] = SegmentUnused
			r.unused = append(r.unused, sg)
			continue
		}
		ch.segs = append(ch.segs, sg)
		below = sg.first
	}
	slices.Reverse(ch.segs)
	if n := len(ch.segs); n > 0 && ep == r.b.newest() && !ch.segs[n-1].sealed {
		ch.open = ch.segs[n-1]
	}
	return nil
}

// gone returns what was given up or let go of: whoever finds it in a file has
// found the rest of an interrupted eviction.
func (c *chain) gone() edgeagent.Ranges {
	gone := slices.Clone(c.released)
	for _, g := range c.gaps {
		if g.Reason == Evicted || g.Reason == RolledUp {
			gone.Add(g.Range)
		}
	}
	return gone
}

// segment finds out what one segment holds: from its summary, by reading it, or by
// looking for what is whole in it.
func (r *ReadOnly) segment(ep *epoch, ch *chain, f segmentFile, below edgeagent.Seq) (*seg, error) {
	sg := &seg{path: f.path, stream: f.stream, epoch: f.epoch, first: f.first, last: f.first - 1, sealed: true}
	if sum, ok := r.summary(sg); ok && sum.Size == f.size && sum.Last < below && (sum.Sealed || r.clean) {
		sg.last, sg.records, sg.minTime, sg.maxTime, sg.sealed = sum.Last, sum.Records, sum.MinTime, sum.MaxTime, sum.Sealed
		return sg, nil
	}
	got, err := r.b.inspect(f.path, f.epoch, f.stream, below-1)
	switch {
	case errors.Is(err, segment.ErrFormat):
		return nil, r.b.foreign("%w", err)
	case errors.Is(err, fs.ErrPermission):
		return nil, noBuffer(r.b.dir, err)
	case errors.Is(err, ErrKey):
		return nil, err
	case err != nil:
		kept, err := r.b.salvage(f.path, ch, f.first, below-1)
		if err != nil {
			return nil, err
		}
		got = kept.found
		r.states[sg] = SegmentDamaged
	default:
		sg.sealed = false // whatever is newest goes on
	}
	if got.records > 0 {
		sg.last, sg.records, sg.minTime, sg.maxTime = got.last, got.records, got.minTime, got.maxTime
	}
	if r.stateErr != nil {
		return sg, ep.series.adoptAll(got.series)
	}
	return sg, nil
}

// summary returns what state.db says of a segment; ok is false where it says
// nothing that can be used.
func (r *ReadOnly) summary(sg *seg) (sum summary, ok bool) {
	key := segmentKey(sg.epoch, sg.stream, sg.first)
	if r.image.get(bucketSegments, key, &sum) != nil {
		return summary{}, false
	}
	return sum, sum.Records > 0 && sum.Last >= sg.first
}

// end returns the number that follows everything that is known of a chain.
func (r *ReadOnly) end(ch *chain) edgeagent.Seq {
	known := ch.lostRanges()
	for _, x := range ch.released {
		known.Add(x)
	}
	for _, sg := range ch.segs {
		known.Add(sg.rng())
	}
	for i := range ch.tail.spans {
		known.Add(ch.tail.rng(i))
	}
	for _, d := range r.b.dests {
		for _, x := range d.place(ch.epoch, ch.stream).set {
			known.Add(x)
		}
	}
	if n := len(known); n > 0 {
		return known[n-1].To + 1
	}
	return 1
}

// Survey says what there is.
func (r *ReadOnly) Survey() Survey {
	s := r.b.survey(r.states)
	s.Run, s.Clean, s.Used, s.Device = r.b.header.Run, r.clean, r.used, r.b.o.Device
	s.Quarantined, s.QuarantineBytes = r.b.quarantined()
	for _, sg := range r.unused {
		s.Segments = append(s.Segments, r.b.segmentSurvey(r.b.epoch(sg.epoch).streams[sg.stream], sg, SegmentUnused))
		s.Used += sg.bytes
	}
	return s
}
