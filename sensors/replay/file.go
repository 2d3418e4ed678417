package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxLine bounds a line; a longer one is skipped.
const maxLine = 64 << 10

// file is a recording, read line by line.
type file struct {
	path string
	f    *os.File
	gz   *gzip.Reader // nil for a plain file
	r    *bufio.Reader
	form form
	line int // number of the line read last, from 1
}

// openFile opens a recording and reads its header.
func openFile(path string) (*file, error) {
	// To open a pipe waits for a writer, and a device may have no end.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &file{path: path, f: f}
	if err := r.rewind(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

// rewind goes to the first line after the header.
func (f *file) rewind() error {
	if _, err := f.f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("rewind %s: %w", f.path, err)
	}
	in, err := f.unzipped()
	if err != nil {
		return fmt.Errorf("read %s: %w", f.path, err)
	}
	if f.r == nil {
		f.r = bufio.NewReaderSize(in, maxLine)
	} else {
		f.r.Reset(in)
	}
	f.line = 0
	header, err := f.next()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s is empty", f.path)
	}
	if err != nil {
		return err
	}
	if f.form, err = parseHeader(header); err != nil {
		return f.at(err)
	}
	return nil
}

func (f *file) unzipped() (io.Reader, error) {
	if !strings.HasSuffix(f.path, ".gz") {
		return f.f, nil
	}
	if f.gz != nil {
		return f.gz, f.gz.Reset(f.f)
	}
	var err error
	f.gz, err = gzip.NewReader(f.f)
	return f.gz, err
}

// lineError is a line that cannot be used; the next one may well be good.
type lineError struct {
	file string
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.file, e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

func (f *file) at(err error) error { return &lineError{filepath.Base(f.path), f.line, err} }

// next returns the next line that is not empty, without its end, valid until the
// next call. At the end it returns io.EOF. A last line that breaks off inside a
// damaged archive is not returned: its number may be cut.
func (f *file) next() ([]byte, error) {
	for {
		line, err := f.r.ReadSlice('\n')
		whole := err == nil || errors.Is(err, io.EOF) && len(line) > 0
		switch {
		case whole:
			f.line++
		case errors.Is(err, bufio.ErrBufferFull):
			f.line++
			return nil, errors.Join(f.at(errors.New("line is longer than 64 KiB")), f.skipLine())
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		default:
			return nil, fmt.Errorf("read %s after line %d: %w", f.path, f.line, err)
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}

// skipLine skips the rest of a line that is too long.
func (f *file) skipLine() error {
	for {
		_, err := f.r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil // the next call says so
		default:
			return err
		}
	}
}

// record returns the next record. Any error other than io.EOF and a lineError
// means that the file cannot be read further.
func (f *file) record() (record, error) {
	line, err := f.next()
	if err != nil {
		return record{}, err
	}
	r, err := parseLine(line, f.form)
	if err != nil {
		return record{}, f.at(err)
	}
	return r, nil
}

func (f *file) close() error { return f.f.Close() }
