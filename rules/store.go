package rules

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/atomicfile"
)

// Files of a store.
const (
	snapshotFile = "snapshot"
	journalFile  = "journal"
	asideFile    = "snapshot.damaged"
	// maxJournal is where a journal gives way to a new snapshot. It is never twice
	// as long.
	maxJournal = 256 << 10
)

// Store keeps the state of an engine in a directory of its own: a snapshot that is
// replaced whole, and a journal of what has changed since. Whoever runs the engine
// calls [Store.Step] when the alarms of a step are durable and
// [Store.Checkpoint] every minute and at the end. It is not safe for concurrent
// use; nothing else may write to the directory.
type Store struct {
	dir     string
	journal *os.File
	size    int64
	behind  bool // the journal misses something: a snapshot is due
	buf     []byte
}

// OpenStore opens the store in dir, which is made if need be.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open state of rules: %w", err)
	}
	if err := atomicfile.Sweep(dir); err != nil {
		return nil, fmt.Errorf("open state of rules: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, journalFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open state of rules: %w", err)
	}
	return &Store{dir: dir, journal: f}, nil
}

// Restore loads what the store holds into a new engine: see [Engine.Load]. A state
// that cannot be read is set aside, the engine starts without one and raises an
// alarm that says so; that is no error.
func (s *Store) Restore(e *Engine, now edgeagent.Instant, synced bool) (Loaded, error) {
	snapshot, err := readBounded(filepath.Join(s.dir, snapshotFile), e.snapshotLimit())
	if errors.Is(err, errState) {
		return Loaded{}, s.beginAnew(e, err, now)
	}
	if err != nil {
		return Loaded{}, fmt.Errorf("read state of rules: %w", err)
	}
	journal, err := io.ReadAll(io.NewSectionReader(s.journal, 0, 2*maxJournal))
	if err != nil {
		return Loaded{}, fmt.Errorf("read journal of rules: %w", err)
	}
	loaded, err := e.Load(snapshot, journal, now, synced)
	if err != nil {
		return Loaded{}, s.beginAnew(e, err, now)
	}
	return loaded, s.trim(int64(loaded.Whole))
}

// beginAnew sets a state aside that cannot be used.
func (s *Store) beginAnew(e *Engine, cause error, now edgeagent.Instant) error {
	e.confess(cause, now)
	if err := s.setAside(); err != nil {
		return err
	}
	s.behind = true
	return s.trim(0)
}

// snapshotLimit bounds the size of a snapshot that is read. What the rules of today
// may take decides, with room for a bound that was larger: a damaged length must
// not take the memory of the gateway, at each start anew.
func (e *Engine) snapshotLimit() int64 {
	const room = 64 << 20
	if limit := int64(e.opts.Memory); limit > 0 {
		return room + 2*limit
	}
	return maxSnapshot
}

// readBounded reads a file; one that is not there is nil, an empty one is not. One
// that is too large is damaged.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > limit {
		return nil, fmt.Errorf("%d bytes are more than rules can have written: %w", info.Size(), errState)
	}
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// setAside keeps what could not be read for whoever wants to know; an older one
// goes.
func (s *Store) setAside() error {
	err := os.Rename(filepath.Join(s.dir, snapshotFile), filepath.Join(s.dir, asideFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set damaged state of rules aside: %w", err)
	}
	return nil
}

// trim cuts the journal to its first n bytes.
func (s *Store) trim(n int64) error {
	if err := s.journal.Truncate(n); err != nil {
		return fmt.Errorf("cut journal of rules: %w", err)
	}
	if _, err := s.journal.Seek(n, io.SeekStart); err != nil {
		return fmt.Errorf("cut journal of rules: %w", err)
	}
	s.size = n
	return nil
}

// Step makes what the last steps have changed durable. It writes nothing, and costs
// little, when nothing has, but for a few bytes every second while a rule measures a
// time ([Engine.Waiting]): they survive kill -9, and wait for no disk. After an error
// the next call saves everything.
func (s *Store) Step(e *Engine) error {
	if !s.behind && !e.Changed() && !e.beatDue() {
		return nil
	}
	if s.behind || s.size > maxJournal {
		return s.Checkpoint(e)
	}
	urgent := e.urgent || e.pinsChanged
	s.buf = e.Journal(s.buf[:0])
	if len(s.buf) == 0 {
		s.buf = e.record(s.buf, func(w *encoder) { w.u8('c') }) // the time is in each record
	}
	e.beat = e.now
	s.behind = true
	if s.size+int64(len(s.buf)) > 2*maxJournal { // everything fired at once
		return s.Checkpoint(e)
	}
	if _, err := s.journal.Write(s.buf); err != nil {
		return fmt.Errorf("write journal of rules: %w", err)
	}
	if urgent {
		if err := s.journal.Sync(); err != nil {
			return fmt.Errorf("sync journal of rules: %w", err)
		}
	}
	s.size += int64(len(s.buf))
	s.behind = false
	return nil
}

// Checkpoint replaces the snapshot and empties the journal.
func (s *Store) Checkpoint(e *Engine) error {
	s.behind = true
	e.Journal(nil) // it is in the snapshot
	s.buf = e.Snapshot(s.buf[:0])
	if err := atomicfile.WriteFile(filepath.Join(s.dir, snapshotFile), s.buf, 0o600); err != nil {
		return fmt.Errorf("save state of rules: %w", err)
	}
	// A crash here leaves records in the journal that the snapshot holds already:
	// their numbers say so.
	if err := s.trim(0); err != nil {
		return err
	}
	s.behind = false
	return nil
}

// Close closes the files. It saves nothing: call Checkpoint before.
func (s *Store) Close() error { return s.journal.Close() }

// Changed reports whether Journal has something to write.
func (e *Engine) Changed() bool {
	if e.pinsChanged {
		return true
	}
	return e.dirty
}

// confess has the next step say that the state was lost. The alarm is over as soon
// as it is raised: nothing can be done about it, but to know.
func (e *Engine) confess(cause error, now edgeagent.Instant) {
	id := "state-of-rules/-/" + e.run.String() + "-" + strconv.FormatInt(now.Run/1e6, 10)
	for n, state := range []string{edgeagent.AlarmFiring, edgeagent.AlarmCleared} {
		e.missing = append(e.missing, edgeagent.Event{
			Kind: edgeagent.KindAlarm, Severity: edgeagent.Warning, ID: id, N: uint32(n) + 1,
			Text:  shorten("the state of the rules was damaged and is set aside, they begin anew: "+cause.Error(), edgeagent.MaxEventText),
			Attrs: map[string]string{"rule": "state-of-rules", "state": state},
		})
	}
}
