package headlog

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
)

// simFS is a disk in memory that remembers every write and sync, so that it can
// tell what a power cut at any moment would have left. It also watches that no
// page is written again once it is durable.
type simFS struct {
	mu    sync.Mutex
	names map[string]*simInode
	inos  int
	calls int
	ops   []simOp

	// fail is asked before every operation; short is how much of a failing write
	// is written nevertheless.
	fail func(n int, op, name string) error
	// ignoreSyncs makes the disk lie: nothing but what it writes by itself stays.
	ignoreSyncs bool
	rewritten   []string
}

type simInode struct {
	fs    *simFS
	name  string
	ino   int
	data  []byte
	dirty map[int64]bool // pages written since the generation began
	fixed map[int64]bool // those of them that were synced
}

// simOp is one step. Failed syncs lose what they should have written: the kernel
// marks such pages clean, and no later sync writes them.
type simOp struct {
	kind byte // c reate, w rite, t runcate, s ync, x failed sync, r emove, d irectory sync, m ark
	ino  int
	name string
	off  int64
	data []byte
	mark mark
}

var (
	_ FS   = (*simFS)(nil)
	_ File = (*simInode)(nil)
)

// newSimFS makes a disk with these files on it.
func newSimFS(files map[string][]byte) *simFS {
	d := &simFS{names: map[string]*simInode{}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := d.inode(name)
		f.data = slices.Clone(files[name])
		d.ops = append(d.ops, simOp{kind: 'w', ino: f.ino, data: files[name]}, simOp{kind: 's', ino: f.ino})
	}
	d.ops = append(d.ops, simOp{kind: 'd'})
	return d
}

func (d *simFS) inode(name string) *simInode {
	d.inos++
	f := &simInode{fs: d, name: name, ino: d.inos, dirty: map[int64]bool{}, fixed: map[int64]bool{}}
	d.names[name] = f
	d.ops = append(d.ops, simOp{kind: 'c', ino: f.ino, name: name})
	return f
}

// step counts an operation and asks whether it fails; mu is held.
func (d *simFS) step(op, name string) error {
	d.calls++
	if d.fail == nil {
		return nil
	}
	return d.fail(d.calls, op, name)
}

func (d *simFS) mark(m mark) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops = append(d.ops, simOp{kind: 'm', mark: m})
}

func (d *simFS) OpenFile(path string, create bool) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := filepath.Base(path)
	if err := d.step("open", name); err != nil {
		return nil, err
	}
	if f := d.names[name]; f != nil {
		return f, nil
	}
	if !create {
		return nil, fs.ErrNotExist
	}
	return d.inode(name), nil
}

func (d *simFS) Remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := filepath.Base(path)
	if err := d.step("remove", name); err != nil {
		return err
	}
	if f := d.names[name]; f != nil {
		delete(d.names, name)
		d.ops = append(d.ops, simOp{kind: 'r', ino: f.ino, name: name})
	}
	return nil
}

func (d *simFS) SyncDir(string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("syncdir", ""); err != nil {
		return err
	}
	d.ops = append(d.ops, simOp{kind: 'd'})
	return nil
}

func (f *simInode) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.fs.step("write", f.name)
	if err != nil {
		p = p[:len(p)/2]
	}
	if off == 0 {
		clear(f.dirty)
		clear(f.fixed)
	}
	for page := off / pageSize; page <= (off+int64(len(p))-1)/pageSize && len(p) > 0; page++ {
		f.dirty[page] = true
		if f.fixed[page] {
			f.fs.rewritten = append(f.fs.rewritten, fmt.Sprintf("%s page %d", f.name, page))
		}
	}
	f.data = overwrite(f.data, p, off)
	f.fs.ops = append(f.fs.ops, simOp{kind: 'w', ino: f.ino, off: off, data: slices.Clone(p)})
	return len(p), err
}

func (f *simInode) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.step("read", f.name); err != nil {
		return 0, err
	}
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *simInode) Datasync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.step("sync", f.name); err != nil {
		f.fs.ops = append(f.fs.ops, simOp{kind: 'x', ino: f.ino})
		return err
	}
	maps.Copy(f.fixed, f.dirty)
	if !f.fs.ignoreSyncs {
		f.fs.ops = append(f.fs.ops, simOp{kind: 's', ino: f.ino})
	}
	return nil
}

func (f *simInode) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.step("truncate", f.name); err != nil {
		return err
	}
	f.data = resize(f.data, size)
	f.fs.ops = append(f.fs.ops, simOp{kind: 't', ino: f.ino, off: size})
	return nil
}

func (f *simInode) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.data)), f.fs.step("size", f.name)
}

func (f *simInode) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.fs.step("close", f.name)
}

func overwrite(data, p []byte, off int64) []byte {
	if end := off + int64(len(p)); end > int64(len(data)) {
		data = resize(data, end)
	}
	copy(data[off:], p)
	return data
}

func resize(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		return data[:size]
	}
	return append(data, make([]byte, size-int64(len(data)))...)
}

// files returns what the running system sees, as after kill -9.
func (d *simFS) files() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string][]byte{}
	for name, f := range d.names {
		out[name] = slices.Clone(f.data)
	}
	return out
}

// medium is what the disk holds after some of the steps.
type medium struct {
	rnd     *rand.Rand
	durable map[int][]byte
	pending map[int][]simOp
	entries map[string]int // durable ones
	moves   []simOp        // of entries, not durable yet
	steps   int
	mark    mark
}

func newMedium(rnd *rand.Rand) *medium {
	return &medium{rnd: rnd, durable: map[int][]byte{}, pending: map[int][]simOp{}, entries: map[string]int{}}
}

// do takes in the next step.
func (m *medium) do(op simOp) {
	m.steps++
	switch op.kind {
	case 'c', 'r':
		m.moves = append(m.moves, op)
	case 'd':
		for _, mv := range m.moves {
			move(m.entries, mv)
		}
		m.moves = nil
	case 'w', 't':
		op.off += 0
		m.pending[op.ino] = append(m.pending[op.ino], op)
	case 's':
		for _, p := range m.pending[op.ino] {
			m.durable[op.ino] = apply(m.durable[op.ino], p)
		}
		delete(m.pending, op.ino)
	case 'x':
		for _, p := range m.pending[op.ino] {
			m.durable[op.ino] = m.scatter(m.durable[op.ino], p, pageSize)
		}
		delete(m.pending, op.ino)
	case 'm':
		m.mark = op.mark
	}
}

func move(entries map[string]int, op simOp) {
	if op.kind == 'c' {
		entries[op.name] = op.ino
	} else if entries[op.name] == op.ino {
		delete(entries, op.name)
	}
}

func apply(data []byte, op simOp) []byte {
	if op.kind == 't' {
		return resize(data, op.off)
	}
	return overwrite(data, op.data, op.off)
}

// scatter applies each piece of a write or not.
func (m *medium) scatter(data []byte, op simOp, piece int64) []byte {
	if op.kind == 't' {
		if m.rnd.IntN(2) == 0 {
			return data
		}
		return apply(data, op)
	}
	for i := int64(0); i < int64(len(op.data)); {
		end := min(int64(len(op.data)), i+piece-(op.off+i)%piece)
		if m.rnd.IntN(2) == 0 {
			data = overwrite(data, op.data[i:end], op.off+i)
		}
		i = end
	}
	return data
}

// The ways in which a cut can leave what was not synced.
var cutModes = []string{"none", "prefix", "pages", "sectors"}

// cut returns the files that a power cut would leave now.
func (m *medium) cut(mode string) map[string][]byte {
	entries := maps.Clone(m.entries)
	for _, mv := range m.moves {
		if mode != "none" && m.rnd.IntN(2) == 0 {
			move(entries, mv)
		}
	}
	out := map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		ino := entries[name]
		data := slices.Clone(m.durable[ino])
		pending := m.pending[ino]
		upTo := m.rnd.IntN(len(pending) + 1)
		for i, p := range pending {
			switch {
			case mode == "prefix" && i < upTo:
				data = apply(data, p)
			case mode == "pages":
				data = m.scatter(data, p, pageSize)
			case mode == "sectors":
				data = m.scatter(data, p, 512)
			}
		}
		out[name] = data
	}
	return out
}
