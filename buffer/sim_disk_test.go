package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/edgeagent/edgeagent/buffer/segment"
)

// The power-cut simulator needs neither FUSE nor root. A tape remembers every step
// that a buffer takes on a real directory: writes, syncs, entries made, moved and
// removed, directories synced. A medium then plays the tape up to any step and
// tells what a power cut at that moment may have left: all that was synced, and of
// the rest nothing, a beginning, or any of its pages or sectors. Entries of a
// directory are the same: until it is synced, a new file may be gone and a removed
// one may be back.
//
// Writes to bbolt's files are found by comparing a file before and after a commit.
// The order within a commit is bbolt's: pages in rising order, sync, one of the two
// header pages, sync. A test of package segment holds bbolt to that.

const simPage = 4096

type stepKind uint8

const (
	stepMkdir stepKind = iota + 1
	stepCreate
	stepRename
	stepRemove
	stepSyncDir
	stepWrite
	stepTruncate
	stepSync
	stepFailedSync
	stepNote
)

// simStep is one step of a tape.
type simStep struct {
	kind     stepKind
	file     int    // of create, rename, remove, write, truncate, sync
	name, to string // relative to the directory, of entries
	off      int64  // of write; the new size of truncate
	data     []byte
	note     *simNote
}

// tape records a directory.
type tape struct {
	root string

	mu    sync.Mutex
	steps []simStep
	names map[string]int // files by name, as the running system sees them
	dirs  map[string]bool
	files map[int]*taped // that have a name
	last  int
	err   error
	begun bool // what comes new is empty at first

	// fault is asked before every operation. An error fails it; of a write, which
	// fails in the middle, half is done when short is set.
	fault func(n int, what string) (short bool, err error)
	calls int
	// How the syncs of a commit end.
	dataSync, headerSync stepKind
}

// taped is a file on the tape.
type taped struct {
	info fs.FileInfo
	data []byte // as it was seen last
	seen bool
	// again holds pages that a sync failed to write: who commits next may write
	// the same to them once more, which a comparison cannot see. What nobody
	// writes again nobody reads.
	again []int
}

// newTape begins with what is in root already, all of it durable.
func newTape(root string) *tape {
	t := &tape{root: root, names: map[string]int{}, dirs: map[string]bool{}, files: map[int]*taped{}, dataSync: stepSync, headerSync: stepSync}
	t.look("")
	t.begun = true
	for _, f := range slices.Sorted(maps.Keys(t.files)) {
		t.add(simStep{kind: stepSync, file: f})
	}
	for _, d := range slices.Sorted(maps.Keys(t.dirs)) {
		t.add(simStep{kind: stepSyncDir, name: d})
	}
	t.add(simStep{kind: stepSyncDir, name: "."})
	return t
}

func (t *tape) add(s ...simStep) { t.steps = append(t.steps, s...) }

func (t *tape) note(n *simNote) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add(simStep{kind: stepNote, note: n})
}

// faults is the buffer's seam to the disk.
func (t *tape) faults(op segment.Op, path string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	name, err := filepath.Rel(t.root, path)
	if err != nil {
		return err
	}
	if op == segment.OpCommitted {
		return t.committed(name)
	}
	t.look(name)
	if _, err := t.operation(string(op), name); err != nil {
		return err
	}
	if op == segment.OpSyncDir {
		t.add(simStep{kind: stepSyncDir, name: name})
	}
	return nil
}

// operation counts an operation and asks whether it fails.
func (t *tape) operation(what, name string) (short bool, err error) {
	t.calls++
	if t.fault == nil {
		return false, nil
	}
	return t.fault(t.calls, what+" "+name)
}

// committed looks at what a commit has written. If one of the writes is to fail, it
// takes it and the later ones back; bbolt writes the rest of the file only after
// that has succeeded, so the file is what it would be then.
func (t *tape) committed(name string) error {
	f, known := t.names[name]
	if t.fault == nil || !known {
		t.look(name)
		return nil
	}
	now, err := os.ReadFile(filepath.Join(t.root, name))
	if err != nil {
		return err
	}
	was := make([]byte, len(now))
	copy(was, t.files[f].data)
	pages := changedPages(was, now)
	for i, off := range pages {
		short, err := t.operation("write", name)
		if err == nil {
			continue
		}
		if short {
			off += simPage / 2
		}
		t.fail(takeBack(filepath.Join(t.root, name), was, off, pages[i+1:]))
		// A header page is written only after the pages were synced. That nothing
		// of it is there may as well be because that sync failed.
		if off >= 2*simPage || off%simPage == 0 {
			t.dataSync = stepFailedSync
		}
		t.headerSync = stepFailedSync
		t.look(name)
		t.dataSync, t.headerSync = stepSync, stepSync
		return err
	}
	_, err = t.operation("sync", name)
	if err != nil {
		t.headerSync = stepFailedSync
	}
	t.look(name)
	t.headerSync = stepSync
	return err
}

// changedPages returns the offsets of the pages that differ, in the order in which
// bbolt writes them.
func changedPages(was, now []byte) (pages []int) {
	for off := 2 * simPage; off < len(now); off += simPage {
		if !bytes.Equal(was[off:off+simPage], now[off:off+simPage]) {
			pages = append(pages, off)
		}
	}
	for off := 0; off < 2*simPage; off += simPage {
		if !bytes.Equal(was[off:off+simPage], now[off:off+simPage]) {
			pages = append(pages, off)
		}
	}
	return pages
}

// takeBack puts a file's pages back to what they were: one from some byte on, and
// others.
func takeBack(path string, was []byte, from int, pages []int) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(was[from:(from/simPage+1)*simPage], int64(from))
	for _, off := range pages {
		_, more := f.WriteAt(was[off:off+simPage], int64(off))
		err = errors.Join(err, more)
	}
	return errors.Join(err, f.Close())
}

// look finds what has changed since the last look: entries everywhere, and the
// contents of one file. Other files change only while their name is passed to
// faults; check sees to that.
func (t *tape) look(name string) {
	found, dirs := t.list()
	for _, d := range dirs {
		if !t.dirs[d] {
			t.dirs[d] = true
			t.add(simStep{kind: stepMkdir, name: d})
		}
	}
	for _, n := range slices.Sorted(maps.Keys(t.names)) {
		f := t.names[n]
		if found[n] == f {
			continue
		}
		delete(t.names, n)
		if to := movedTo(found, t.names, f); to != "" {
			t.add(simStep{kind: stepRename, file: f, name: n, to: to})
			t.names[to] = f
			continue
		}
		t.add(simStep{kind: stepRemove, file: f, name: n})
	}
	for _, n := range slices.Sorted(maps.Keys(found)) {
		f := found[n]
		if _, known := t.names[n]; !known {
			t.names[n] = f
			t.add(simStep{kind: stepCreate, file: f, name: n})
		}
		switch {
		case t.files[f].seen:
		case t.begun && isHead(n): // tells of its writes itself
			t.files[f].seen = true
		default:
			t.compare(n, f)
		}
	}
	maps.DeleteFunc(t.files, func(f int, _ *taped) bool {
		return !slices.Contains(slices.Collect(maps.Values(found)), f)
	})
	for n, f := range t.names { // a file that is being prepared changes under no name
		if n == name || filepath.Ext(n) == ".tmp" {
			t.compare(n, f)
		}
	}
}

// movedTo returns the new name of a file, "" if it has none.
func movedTo(found, names map[string]int, f int) string {
	for _, n := range slices.Sorted(maps.Keys(found)) {
		if found[n] == f && names[n] != f {
			return n
		}
	}
	return ""
}

// list returns all files but LOCK, which only has to be there, by name.
func (t *tape) list() (map[string]int, []string) {
	files := map[string]int{}
	var dirs []string
	err := filepath.WalkDir(t.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == t.root {
			return err
		}
		name := t.rel(path)
		if d.IsDir() {
			dirs = append(dirs, name)
			return nil
		}
		fi, err := d.Info()
		if err != nil || name == lockName {
			return err
		}
		files[name] = t.number(fi)
		return nil
	})
	t.fail(err)
	return files, dirs
}

func (t *tape) number(fi fs.FileInfo) int {
	for f, known := range t.files {
		if os.SameFile(known.info, fi) {
			return f
		}
	}
	t.last++
	t.files[t.last] = &taped{info: fi}
	return t.last
}

func (t *tape) rel(path string) string {
	return strings.TrimPrefix(path, t.root+string(filepath.Separator))
}

// fail keeps the first error for check.
func (t *tape) fail(err error) {
	if err != nil && t.err == nil {
		t.err = err
	}
}

// compare records what was written to a file since it was seen last, in the order
// in which bbolt writes.
func (t *tape) compare(name string, f int) {
	now, err := os.ReadFile(filepath.Join(t.root, name))
	if err != nil {
		t.fail(err)
		return
	}
	was := t.files[f]
	if len(was.data) != len(now) && len(was.data) > 0 {
		t.add(simStep{kind: stepTruncate, file: f, off: int64(len(now))}, simStep{kind: stepSync, file: f})
	}
	grown := make([]byte, len(now))
	copy(grown, was.data)
	changed := !bytes.Equal(grown, now)
	begin := len(t.steps)
	var header []simStep
	for off := 0; off < len(now); off += simPage {
		end := min(off+simPage, len(now))
		if bytes.Equal(grown[off:end], now[off:end]) && (!slices.Contains(was.again, off) || !changed) {
			continue
		}
		s := simStep{kind: stepWrite, file: f, off: int64(off), data: bytes.Clone(now[off:end])}
		if off < 2*simPage && len(was.data) > 0 {
			header = append(header, s)
			continue
		}
		t.add(s)
	}
	if changed {
		was.again = nil
	}
	if len(t.steps) > begin {
		if t.dataSync == stepFailedSync {
			for _, s := range t.steps[begin:] {
				was.again = append(was.again, int(s.off))
			}
		}
		t.add(simStep{kind: t.dataSync, file: f})
	}
	if len(header) > 1 {
		t.fail(fmt.Errorf("%s: both header pages changed between two looks", name))
	}
	for _, s := range header {
		t.add(s, simStep{kind: t.headerSync, file: f})
	}
	was.data, was.seen = now, true
}

// check says whether the tape has missed anything.
func (t *tape) check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return fmt.Errorf("recording: %w", t.err)
	}
	t.look("")
	for name, f := range t.names {
		now, err := os.ReadFile(filepath.Join(t.root, name))
		if err != nil {
			return err
		}
		if !bytes.Equal(now, t.files[f].data) {
			return fmt.Errorf("recording: a write to %s went by unseen", name)
		}
	}
	return nil
}

// simLies are what a disk only pretends to do.
type simLies struct {
	segments bool // syncs of segments
	state    bool // syncs of state.db
	head     bool // syncs of head files
	dirs     bool // syncs of directories
}

func (l simLies) about(name string) bool {
	switch {
	case strings.HasSuffix(name, ".seg"), strings.HasSuffix(name, ".seg.tmp"):
		return l.segments
	case strings.HasPrefix(name, stateFile):
		return l.state
	case strings.HasPrefix(name, "head-"):
		return l.head
	}
	return false
}

// simMedium is what a disk holds after some steps of a tape.
type simMedium struct {
	rnd     *rand.Rand
	simLies simLies
	played  int
	durable map[int][]byte
	pending map[int][]simStep
	kind    map[int]string // a name of the file
	entries map[string]int // durable ones; 0 is a directory
	moves   []simStep      // of entries, not durable yet
	note    *simNote
}

func newSimMedium(rnd *rand.Rand, l simLies) *simMedium {
	return &simMedium{
		rnd: rnd, simLies: l, durable: map[int][]byte{}, pending: map[int][]simStep{}, kind: map[int]string{},
		entries: map[string]int{}, note: &simNote{chains: map[simChain]simProgress{}},
	}
}

// play goes on to step n.
func (m *simMedium) play(steps []simStep, n int) {
	for ; m.played < n; m.played++ {
		m.do(steps[m.played])
	}
}

func (m *simMedium) do(s simStep) {
	switch s.kind {
	case stepMkdir, stepCreate, stepRename, stepRemove:
		m.moves = append(m.moves, s)
		if s.kind == stepCreate {
			m.kind[s.file] = s.name
		}
	case stepSyncDir:
		if m.simLies.dirs {
			return
		}
		m.moves = slices.DeleteFunc(m.moves, func(mv simStep) bool {
			done := filepath.Dir(mv.name) == s.name
			if done {
				moveEntry(m.entries, mv)
			}
			return done
		})
	case stepWrite, stepTruncate:
		m.pending[s.file] = append(m.pending[s.file], s)
	case stepSync:
		if m.simLies.about(m.kind[s.file]) {
			return
		}
		for _, p := range m.pending[s.file] {
			m.durable[s.file] = p.apply(m.durable[s.file])
		}
		delete(m.pending, s.file)
	case stepFailedSync: // the kernel calls such pages clean and never writes them
		for _, p := range m.pending[s.file] {
			m.durable[s.file] = m.scatter(m.durable[s.file], p, simPage)
		}
		delete(m.pending, s.file)
	case stepNote:
		m.note = s.note
	}
}

func moveEntry(entries map[string]int, s simStep) {
	switch s.kind {
	case stepMkdir:
		entries[s.name] = 0
	case stepCreate:
		entries[s.name] = s.file
	case stepRename, stepRemove:
		if entries[s.name] == s.file {
			delete(entries, s.name)
		}
		if s.kind == stepRename {
			entries[s.to] = s.file
		}
	}
}

func (s simStep) apply(data []byte) []byte {
	if s.kind == stepTruncate {
		return resized(data, s.off)
	}
	return overwritten(data, s.data, s.off)
}

func overwritten(data, p []byte, off int64) []byte {
	if end := off + int64(len(p)); end > int64(len(data)) {
		data = resized(data, end)
	}
	copy(data[off:], p)
	return data
}

func resized(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		return data[:size]
	}
	return append(data, make([]byte, size-int64(len(data)))...)
}

// cutModes are what a power cut leaves of that which was not synced.
var cutModes = []string{"none", "all", "a beginning", "any pages", "any sectors"}

// scatter applies each piece of a write, or not.
func (m *simMedium) scatter(data []byte, s simStep, piece int64) []byte {
	if s.kind == stepTruncate {
		if m.rnd.IntN(2) == 0 {
			return data
		}
		return s.apply(data)
	}
	for i := int64(0); i < int64(len(s.data)); {
		end := min(int64(len(s.data)), i+piece-(s.off+i)%piece)
		if m.rnd.IntN(2) == 0 {
			data = overwritten(data, s.data[i:end], s.off+i)
		}
		i = end
	}
	return data
}

// cut returns the files that a power cut would leave now, by name; a nil one is a
// directory.
func (m *simMedium) cut(mode string) map[string][]byte {
	entries := maps.Clone(m.entries)
	upTo := m.rnd.IntN(len(m.moves) + 1)
	for i, mv := range m.moves {
		if mode == "all" || mode == "a beginning" && i < upTo || strings.HasPrefix(mode, "any") && m.rnd.IntN(2) == 0 {
			moveEntry(entries, mv)
		}
	}
	out := map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if d := filepath.Dir(name); d != "." {
			if _, ok := out[d]; !ok {
				continue // the directory is gone
			}
		}
		out[name] = nil
		if f := entries[name]; f != 0 {
			out[name] = m.content(f, mode)
		}
	}
	return out
}

func (m *simMedium) content(f int, mode string) []byte {
	data := append([]byte{}, m.durable[f]...)
	pending := m.pending[f]
	upTo := m.rnd.IntN(len(pending) + 1)
	for i, p := range pending {
		switch {
		case mode == "all", mode == "a beginning" && i < upTo:
			data = p.apply(data)
		case mode == "any pages":
			data = m.scatter(data, p, simPage)
		case mode == "any sectors":
			data = m.scatter(data, p, 512)
		}
	}
	return data
}

// putDown writes files into a new directory, without what is zero.
func putDown(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := memDir(t)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if files[name] == nil {
			if err := os.Mkdir(path, 0o750); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := putFile(path, files[name]); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func putFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	var zeros [simPage]byte
	for off := 0; off < len(data) && err == nil; off += simPage {
		end := min(off+simPage, len(data))
		if !bytes.Equal(data[off:end], zeros[:end-off]) {
			_, err = f.WriteAt(data[off:end], int64(off))
		}
	}
	return errors.Join(err, f.Truncate(int64(len(data))), f.Close())
}

// memDir makes a directory in memory where the system has a place for that: the
// simulators sync a lot, and their power cuts are not real.
func memDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "edgeagent-buffer-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// takeUp reads all files of a directory but LOCK; see putDown.
func takeUp(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(strings.TrimPrefix(path, dir), string(filepath.Separator))
		switch {
		case err != nil || name == "" || name == lockName:
			return err
		case d.IsDir():
			files[name] = nil
			return nil
		}
		data, err := os.ReadFile(path)
		files[name] = append([]byte{}, data...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
