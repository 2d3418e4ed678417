package headlog

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// File is an open head file.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Datasync returns when all that was written is on the medium.
	Datasync() error
	Truncate(size int64) error
	Size() (int64, error)
	Close() error
}

// FS is the disk as this package sees it: the seam of the simulators.
type FS interface {
	// OpenFile opens a file for reading and writing. Without create, a file
	// that is not there is an error that wraps [fs.ErrNotExist].
	OpenFile(path string, create bool) (File, error)
	Remove(path string) error
	// SyncDir makes the entries of a directory durable.
	SyncDir(dir string) error
}

// disk is the machine's own file system.
type disk struct{}

var _ FS = disk{}

func (disk) OpenFile(path string, create bool) (File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (disk) Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (disk) SyncDir(dir string) error {
	if runtime.GOOS == "windows" { // which orders its metadata by itself
		return nil
	}
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil // a file system that cannot has nothing to wait for
	}
	return err
}

type diskFile struct{ *os.File }

func (f diskFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}
