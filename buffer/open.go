package buffer

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/headlog"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

const stateFile = "state.db"

// created is why the first epoch begins.
const created = "created"

// Report says what Open found and did.
type Report struct {
	Epoch edgeagent.Epoch
	Run   edgeagent.Run
	// NewEpoch says why a new epoch was begun, empty if none was.
	NewEpoch string
	// Clean: the last run ended with Close, or without a power cut.
	Clean       bool
	Segments    int
	Records     uint64   // stored, over all streams and epochs
	Inspected   int      // segments read from end to end
	Quarantined []string // copies of damaged files
	Salvaged    uint64   // records found in damaged files
	Gaps        []Gap    // entered by this open
	Took        time.Duration
}

// Open opens the buffer in dir, making one if there is none. It takes the
// directory for itself ([ErrLocked] when another process has it), and finds out
// what the last run left: see the package's documentation on what survives.
// Damage is no error: what is whole is kept, the rest is in the report. Errors
// mean that the directory cannot be used: no permission, another version's files
// ([ErrForeign]), or that it is encrypted and the key is not the one ([ErrKey]):
// nothing in it is changed then. On a disk that fails, may only be read or has no
// space for the few KiB of a beginning, the buffer begins in memory, which its health
// says loudly, and moves to the disk once it can.
//
// The context bounds the work of reading damaged and unclean segments.
func Open(ctx context.Context, dir string, o Options) (*Buffer, Report, error) {
	began := time.Now()
	if err := o.Validate(); err != nil {
		return nil, Report{}, fmt.Errorf("open buffer: %w", err)
	}
	o = o.withDefaults()
	v, err := o.Encryption.vault()
	if err != nil {
		return nil, Report{}, fmt.Errorf("open buffer: %w", err)
	}
	b, err := openDisk(ctx, dir, o, v)
	if err != nil && unusable(err) { // one failure is survived
		b, err = openDisk(ctx, dir, o, v)
	}
	if err != nil && unusable(err) {
		b, err = openMemory(dir, o, v, err), nil
	}
	if err != nil {
		return nil, Report{}, err
	}
	b.told.learn(b.everyGap(), b.report.Gaps)
	b.report.Epoch, b.report.Run, b.report.Took = b.Epoch(), b.run, time.Since(began)
	return b, b.report, nil
}

// openDisk opens what the directory holds.
func openDisk(ctx context.Context, dir string, o Options, v vault) (*Buffer, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("open buffer: %w", err), "check buffer.dir and who may write to it")
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	b := newBuffer(dir, o, v)
	b.lock = lock
	if err := b.recover(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open buffer %s: %w", dir, writeError(err)), b.release(context.WithoutCancel(ctx)))
	}
	return b, nil
}

func newBuffer(dir string, o Options, v vault) *Buffer {
	b := &Buffer{
		dir: dir, vault: v, o: o, log: o.Logger, run: edgeagent.Run(random()),
		dests: map[string]*destination{}, rewinds: map[edgeagent.Epoch]rewind{}, disk: newTurn(), wake: make(chan struct{}, 1),
		start: edgeagent.Instant{Wall: o.Clock.Wall().UnixNano(), Run: int64(o.Clock.Run())},
	}
	b.bound()
	return b
}

// bound works out how much goes into one call, and into one frame, so that it fits
// behind a checkpoint.
func (b *Buffer) bound() {
	size := b.o.headSize()
	b.headSize = size
	b.maxPayload = int(min(headlog.MaxPayload, size/4)) - b.vault.room()
	room := usable(size) - 5*headPage // what a rotation and syncs in between leave empty
	b.callRows = int(min(maxCall/rowBytes, (room-usable(size)/eventPart)/maxRow))
	b.callEvents = int(min(maxCall, room*7/8))
}

// random returns 64 bits, of which no part is zero.
func random() uint64 {
	for {
		var buf [8]byte
		rand.Read(buf[:])
		if n := binary.LittleEndian.Uint64(buf[:]); uint32(n) != 0 && n>>32 != 0 {
			return n
		}
	}
}

// recover brings memory and state.db to where the last run left off.
func (b *Buffer) recover(ctx context.Context) error {
	files, foreign, err := b.listFiles()
	if err != nil {
		return err
	}
	rec, err := b.recoverHead(b.o.headFS)
	if err != nil {
		return err
	}
	if err := b.recoverWith(ctx, rec, files, foreign); err != nil {
		return errors.Join(err, rec.Close())
	}
	return nil
}

func (b *Buffer) recoverWith(ctx context.Context, rec *headlog.Recovery, files []segmentFile, foreign string) error {
	head := rec.Report()
	// Before anything is put aside, the key is known to be the right one.
	prove := func(lost bool) error { return b.proveKey(files, rec, lost) }
	lost, err := b.openStore(len(files) > 0 || head.Frames > 0, foreign, prove)
	if err != nil {
		return err
	}
	identity, err := b.o.Identify(b.dir)
	if err != nil {
		return err
	}
	if err := b.guessEpochs(files, rec); err != nil {
		return err
	}
	switch {
	case lost:
		b.report.NewEpoch = "the state was lost"
	case len(b.epochs) == 0:
		b.report.NewEpoch = created
	default:
		b.report.NewEpoch = cmp.Or(b.header.Identity.moved(identity), b.rewoundNow())
		if b.graft != nil {
			b.report.NewEpoch = cmp.Or(b.report.NewEpoch, diskBack)
		}
	}
	b.report.Clean = b.header.Clean || b.header.Identity.sameBoot(identity)
	if err := b.adoptAll(ctx, files, rec); err != nil {
		return err
	}
	if b.graft != nil {
		b.graft()
	}
	if err := b.begin(identity, func() error { return b.startHead(ctx, rec) }); err != nil {
		return err
	}
	if err := b.makeRoom(0); err != nil { // max_bytes may have been lowered
		b.log.Warn("the buffer is larger than it should be", "err", err)
	}
	return nil
}

// openStore opens state.db and loads it. A damaged one is put aside, and its loss
// reported.
func (b *Buffer) openStore(segments bool, foreign string, prove func(lost bool) error) (lost bool, err error) {
	path := filepath.Join(b.dir, stateFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := prove(true); err != nil {
			return false, err
		}
	}
	store, created, err := segment.OpenStore(path, b.o.faults)
	if err == nil {
		if created && !segments && foreign != "" {
			return false, errors.Join(b.foreign("%s is not ours", foreign), store.Close(), os.Remove(path))
		}
		b.store = store
		if err = b.loadState(); err == nil {
			// One that was made and never used is what an open left that ended
			// early: the state is still lost.
			lost = segments && b.store.Get(bucketBuffer, keyHeader) == nil
			return lost, prove(lost)
		}
		_ = store.Close()
	}
	switch {
	case errors.Is(err, segment.ErrFormat):
		return false, b.foreign("%w", err)
	case !errors.Is(err, segment.ErrDamaged):
		return false, err
	}
	if err := prove(true); err != nil {
		return false, err
	}
	b.log.Error("state of the buffer is damaged", "path", path, "err", err)
	b.count.damaged++
	if err := b.quarantine(path, stateFile); err != nil {
		b.log.Warn("damaged state not kept", "err", err)
	}
	if err := segment.Remove(path, b.o.faults); err != nil {
		return false, err
	}
	b.epochs, b.dests, b.header = nil, map[string]*destination{}, header{}
	b.corrections.Store(nil)
	b.store, _, err = segment.OpenStore(path, b.o.faults)
	return true, err
}

func (b *Buffer) foreign(format string, args ...any) error {
	return edgeagent.WithHint(fmt.Errorf("%w: %w", ErrForeign, fmt.Errorf(format, args...)),
		"let the version that wrote "+b.dir+" deliver what is in it, or set buffer.dir to another directory; nothing in it was changed")
}

// segmentFile is a segment as the directory lists it.
type segmentFile struct {
	stream  edgeagent.Stream
	epoch   edgeagent.Epoch
	first   edgeagent.Seq
	path    string
	size    int64
	changed time.Time
}

// listFiles makes the stream's directories, lists the segments in order of stream
// and number, and removes what an interrupted repair left. foreign names an entry
// that is not ours.
func (b *Buffer) listFiles() (list []segmentFile, foreign string, err error) {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, "", err
	}
	ours := []string{lockName, stateFile, stateFile + ".tmp", quarantineDir, "dead", "lost+found"}
	ours = append(ours, headFiles[:]...)
	for _, s := range edgeagent.Streams() {
		ours = append(ours, s.String())
	}
	for _, e := range entries {
		if !slices.Contains(ours, e.Name()) && !strings.HasPrefix(e.Name(), ".") {
			foreign = e.Name()
		}
	}
	for _, s := range edgeagent.Streams() {
		more, err := b.listStream(s)
		if err != nil {
			return nil, "", err
		}
		list = append(list, more...)
	}
	return list, foreign, nil
}

func (b *Buffer) listStream(s edgeagent.Stream) ([]segmentFile, error) {
	dir := filepath.Join(b.dir, s.String())
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []segmentFile
	for _, e := range entries { // sorted by name, so by number within an epoch
		path := filepath.Join(dir, e.Name())
		if strings.HasSuffix(e.Name(), ".seg.tmp") {
			if err := os.Remove(path); err != nil {
				return nil, err
			}
			continue
		}
		epoch, first, ok := parseSegmentName(e.Name())
		if !ok {
			continue
		}
		fi, err := e.Info()
		if err != nil {
			return nil, err
		}
		list = append(list, segmentFile{s, epoch, first, path, fi.Size(), fi.ModTime()})
	}
	return list, nil
}

// makeDirs makes the directories of the streams.
func (b *Buffer) makeDirs() error {
	for _, s := range edgeagent.Streams() {
		if err := os.MkdirAll(filepath.Join(b.dir, s.String()), 0o750); err != nil {
			return err
		}
	}
	if err := segment.SyncDir(b.dir, b.o.faults); err != nil {
		return err
	}
	return segment.SyncDir(filepath.Dir(b.dir), b.o.faults)
}

func newEpoch(id edgeagent.Epoch, reason string) *epoch {
	ep := &epoch{id: id, reason: reason, series: registry{ids: map[edgeagent.Series]uint32{}}}
	for _, s := range edgeagent.Streams() {
		ep.streams[s] = &chain{epoch: id, stream: s, next: 1, limit: 1 + reserveNumbers, low: 1}
	}
	return ep
}

// loadState reads all of state.db but the summaries of segments.
func (b *Buffer) loadState() error {
	if b.store.Get(bucketBuffer, keyHeader) == nil {
		return b.emptyState()
	}
	if err := get(b.store, bucketBuffer, keyHeader, &b.header); err != nil {
		return err
	}
	if err := b.vault.prove(b.header.Key); err != nil {
		return err
	}
	err := b.store.Each(bucketEpochs, nil, func(key, value []byte) error {
		var r epochRecord
		if err := parse(bucketEpochs, key, value, &r); err != nil {
			return err
		}
		ep := newEpoch(r.Epoch, r.Reason)
		ep.prev = r.Prev
		b.epochs = append(b.epochs, ep)
		return b.loadEpoch(ep)
	})
	if err != nil {
		return err
	}
	if len(b.epochs) == 0 || len(b.newest().series.byID) != int(b.header.Series) {
		return fmt.Errorf("state: %w: entries are missing", segment.ErrDamaged)
	}
	return b.loadDestinations()
}

// emptyState accepts a store that was made and never used.
func (b *Buffer) emptyState() error {
	return b.store.Each(bucketEpochs, nil, func(_, _ []byte) error {
		return fmt.Errorf("state: %w: the header is missing", segment.ErrDamaged)
	})
}

func (b *Buffer) loadEpoch(ep *epoch) error {
	for _, s := range edgeagent.Streams() {
		var r record
		if err := get(b.store, bucketStreams, streamKey(ep.id, s), &r); err != nil {
			return err
		}
		ep.streams[s].load(r)
	}
	var dec block.Decoder
	prefix := binary.BigEndian.AppendUint64(nil, uint64(ep.id))
	err := b.store.Each(bucketSeries, prefix, func(_, value []byte) error {
		value, err := b.vault.open(nil, value, boxOf(boxSeries, ep.id, 0))
		if err != nil {
			return fmt.Errorf("state series: %w", err)
		}
		_, _, list, _, err := dec.Series(value)
		if err != nil {
			return fmt.Errorf("state series: %w: %w", segment.ErrDamaged, err)
		}
		for _, e := range list {
			if e.ID == 0 || e.ID > maxSeries {
				return fmt.Errorf("state series: %w: id %d", segment.ErrDamaged, e.ID)
			}
			ep.series.adopt(e.ID, edgeagent.NewSeries(e.Key))
		}
		return nil
	})
	ep.series.stored = uint32(len(ep.series.byID))
	return err
}

func (b *Buffer) loadDestinations() error {
	return errors.Join(b.readDestinations(b.store.Each), b.readCorrections(b.store.Each), b.readRewinds())
}
