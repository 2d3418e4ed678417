package buffer

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/edgeagent/edgeagent/buffer/headlog"
)

// tapedFS records what the head log does to its files, and lets it fail.
type tapedFS struct{ t *tape }

var _ headlog.FS = tapedFS{}

func isHead(name string) bool { return strings.HasPrefix(name, "head-") }

// ask asks whether an operation on a path fails.
func (d tapedFS) ask(what, path string) error {
	d.t.mu.Lock()
	defer d.t.mu.Unlock()
	_, err := d.t.operation(what, filepath.Base(path))
	return err
}

func (d tapedFS) OpenFile(path string, create bool) (headlog.File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
		if err := d.ask("create", path); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	d.t.mu.Lock()
	defer d.t.mu.Unlock()
	d.t.look("")
	return &tapedFile{f, d.t, filepath.Base(path), d.t.number(fi)}, nil
}

func (d tapedFS) Remove(path string) error {
	if err := d.ask("remove", path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d.t.mu.Lock()
	defer d.t.mu.Unlock()
	d.t.look("")
	return nil
}

func (d tapedFS) SyncDir(dir string) error {
	if err := d.ask("sync dir", dir); err != nil {
		return err
	}
	d.t.mu.Lock()
	defer d.t.mu.Unlock()
	d.t.look("")
	name, err := filepath.Rel(d.t.root, dir)
	d.t.add(simStep{kind: stepSyncDir, name: name})
	return err
}

type tapedFile struct {
	*os.File
	t    *tape
	name string
	n    int
}

// do records a step. A file that was unlinked is of no interest.
func (f *tapedFile) do(s simStep) {
	s.file = f.n
	f.t.add(s)
	if known := f.t.files[f.n]; known != nil && (s.kind == stepWrite || s.kind == stepTruncate) {
		known.data = s.apply(known.data)
	}
}

func (f *tapedFile) WriteAt(p []byte, off int64) (int, error) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	short, fault := f.t.operation("write", f.name)
	switch {
	case fault != nil && short:
		p = p[:len(p)/2]
	case fault != nil:
		p = nil
	}
	n, err := f.File.WriteAt(p, off)
	if n > 0 {
		f.do(simStep{kind: stepWrite, off: off, data: bytes.Clone(p[:n])})
	}
	return n, errors.Join(fault, err)
}

func (f *tapedFile) Truncate(size int64) error {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	_, err := f.t.operation("truncate", f.name)
	if err == nil {
		err = f.File.Truncate(size)
	}
	if err == nil {
		f.do(simStep{kind: stepTruncate, off: size})
	}
	return err
}

func (f *tapedFile) Datasync() error {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	_, err := f.t.operation("sync", f.name)
	if err != nil {
		f.do(simStep{kind: stepFailedSync})
		return err
	}
	f.do(simStep{kind: stepSync})
	return nil
}

func (f *tapedFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}
