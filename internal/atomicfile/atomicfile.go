package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Temporary files are named prefix + name of the target + "-" + random + suffix.
const (
	prefix = "."
	suffix = ".tmp"
)

// WriteFile makes data the content of the file at path, which gets exactly the
// permissions perm whatever the umask is. A symbolic link at path is replaced, not
// followed.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return write(path, data, perm, createTemp)
}

// file is what write needs of an *os.File; tests replace it to fail on purpose.
type file interface {
	io.WriteCloser
	Name() string
	Chmod(fs.FileMode) error
	Sync() error
}

func createTemp(dir, pattern string) (file, error) { return os.CreateTemp(dir, pattern) }

func write(path string, data []byte, perm fs.FileMode, create func(dir, pattern string) (file, error)) (err error) {
	dir, name := filepath.Split(filepath.Clean(path))
	if dir == "" {
		dir = "."
	}
	f, err := create(dir, prefix+name+"-*"+suffix)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := fill(f, data, perm); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("write %s: sync directory: %w", path, err)
	}
	return nil
}

// fill writes f, makes it durable and closes it, also when it fails.
func fill(f file, data []byte, perm fs.FileMode) error {
	err := f.Chmod(perm)
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Sweep removes the temporary files that interrupted writers left in dir. Owners
// of a directory call it once at start, before they write; a missing directory is
// no error.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep %s: %w", dir, err)
	}
	var errs []error
	for _, e := range entries {
		if e.Type().IsRegular() && isTemporary(e.Name()) {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

func isTemporary(name string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return false
	}
	rest, ok = strings.CutSuffix(rest, suffix)
	dash := strings.LastIndexByte(rest, '-')
	if !ok || dash < 1 || dash == len(rest)-1 {
		return false
	}
	return strings.Trim(rest[dash+1:], "0123456789") == ""
}
