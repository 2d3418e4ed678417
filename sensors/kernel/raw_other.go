//go:build !unix

package kernel

import (
	"errors"
	"io"
	"os"
)

// rawFile is a file of a system that has no /sys.
type rawFile struct{ f *os.File }

func (f *rawFile) isOpen() bool { return f.f != nil }

func (f *rawFile) open(path string) (err error) {
	f.f, err = os.Open(path)
	return err
}

func (f *rawFile) readAt(b []byte, offset int64) (int, error) {
	n, err := f.f.ReadAt(b, offset)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (f *rawFile) close() {
	_ = f.f.Close()
	f.f = nil
}
