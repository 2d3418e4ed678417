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

// tapedFS records what the head log does to its files.
type tapedFS struct{ t *tape }

var _ headlog.FS = tapedFS{}

func isHead(name string) bool { return strings.HasPrefix(name, "head-") }

func (d tapedFS) OpenFile(path string, create bool) (headlog.File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
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
	return &tapedFile{f, d.t, d.t.number(fi)}, nil
}

func (d tapedFS) Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d.t.mu.Lock()
	defer d.t.mu.Unlock()
	d.t.look("")
	return nil
}

func (d tapedFS) SyncDir(dir string) error {
	d.t.mu.Lock()
	defer d.t.mu.Unlock()
	d.t.look("")
	name, err := filepath.Rel(d.t.root, dir)
	d.t.add(simStep{kind: stepSyncDir, name: name})
	return err
}

type tapedFile struct {
	*os.File
	t *tape
	n int
}

// do records a step that went well. A file that was unlinked is of no interest.
func (f *tapedFile) do(s simStep, err error) {
	if err != nil {
		return
	}
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	s.file = f.n
	f.t.add(s)
	if known := f.t.files[f.n]; known != nil && s.kind != stepSync {
		known.data = s.apply(known.data)
	}
}

func (f *tapedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.do(simStep{kind: stepWrite, off: off, data: bytes.Clone(p[:n])}, err)
	return n, err
}

func (f *tapedFile) Truncate(size int64) error {
	err := f.File.Truncate(size)
	f.do(simStep{kind: stepTruncate, off: size}, err)
	return err
}

func (f *tapedFile) Datasync() error {
	f.do(simStep{kind: stepSync}, nil)
	return nil
}

func (f *tapedFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}
