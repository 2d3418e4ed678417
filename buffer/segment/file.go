package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
)

// pageSize is fixed, whatever the machine's: files move between machines, and
// the kernel writes 4 KiB pages in any case.
const pageSize = 4096

// ErrDamaged is wrapped by the errors of files that are not what was written.
var ErrDamaged = errors.New("file is damaged")

// ErrFormat is wrapped by the errors of files that another version wrote.
var ErrFormat = errors.New("file has another format")

// ErrBroken is wrapped by appends to a segment after one that failed.
var ErrBroken = errors.New("an earlier write to this file failed")

// Op names a step that changes the disk, for tests that let it fail.
type Op string

// The steps, in the order in which a new file meets them.
const (
	OpCreate    Op = "create"
	OpCommit    Op = "commit"    // before anything of a commit is written
	OpCommitted Op = "committed" // after all of it is written: the sync failed
	OpRename    Op = "rename"
	OpRemove    Op = "remove"
	OpSyncDir   Op = "sync dir"
)

// Faults lets a test fail the disk. The zero value (nil) never fails.
type Faults func(op Op, path string) error

func (f Faults) at(op Op, path string) error {
	if f == nil {
		return nil
	}
	return f(op, path)
}

// openBolt opens a file that the caller has verified, or a new one.
func openBolt(path string, readOnly bool, mapped int) (*bbolt.DB, error) {
	o := bbolt.Options{
		Timeout:      time.Second,
		FreelistType: bbolt.FreelistArrayType,
		PageSize:     pageSize,
		ReadOnly:     readOnly,
		NoStatistics: true,
	}
	if runtime.GOOS != "windows" { // there the file would grow to the mapping at once
		o.InitialMmapSize = mapped
	}
	db, err := bbolt.Open(path, 0o600, &o)
	if err != nil {
		return nil, err
	}
	db.AllocSize = 1 << 20
	return db, nil
}

// guarded runs f, which touches a mapped file, and turns the ways in which bbolt
// and the memory management unit report damage into errors.
func guarded(path string, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %w: %v", filepath.Base(path), ErrDamaged, p)
		}
	}()
	return f()
}

// Remove unlinks a file and makes that durable. A file that is gone already is
// no error.
func Remove(path string, faults Faults) error {
	if err := faults.at(OpRemove, path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return SyncDir(filepath.Dir(path), faults)
}

// Rename moves a file within one file system and makes that durable.
func Rename(from, to string, faults Faults) error {
	if err := faults.at(OpRename, to); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if err := SyncDir(filepath.Dir(to), faults); err != nil {
		return err
	}
	if filepath.Dir(from) == filepath.Dir(to) {
		return nil
	}
	return SyncDir(filepath.Dir(from), faults)
}

// SyncDir makes the entries of a directory durable. Windows cannot, and orders
// its metadata by itself.
func SyncDir(dir string, faults Faults) error {
	if err := faults.at(OpSyncDir, dir); err != nil {
		return err
	}
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
