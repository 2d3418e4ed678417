package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
)

// attribute is a file that is read again and again from its start. It is opened
// at the first read, and anew after an error: the device behind it may have gone
// and come back. The zero fd means closed.
type attribute struct {
	path string
	file rawFile
}

var (
	errEmpty    = errors.New("the file is empty")
	errTooLong  = errors.New("the file is longer than expected")
	errNoNumber = errors.New("not a number")
)

// read reads the file into buf and returns its content without the space around
// it. Nothing at all is an error, as is more than buf holds.
func (a *attribute) read(buf []byte) ([]byte, error) {
	if !a.file.isOpen() {
		if err := a.file.open(a.path); err != nil {
			return nil, &fs.PathError{Op: "open", Path: a.path, Err: err}
		}
	}
	n, err := readAll(&a.file, buf)
	if err == nil && n == len(buf) {
		err = errTooLong
	}
	content := bytes.TrimSpace(buf[:n])
	if err == nil && len(content) == 0 {
		err = errEmpty
	}
	if err != nil {
		a.close()
		return nil, &fs.PathError{Op: "read", Path: a.path, Err: err}
	}
	return content, nil
}

// readAll reads from the start of the file until its end or that of buf.
func readAll(f *rawFile, buf []byte) (n int, err error) {
	for n < len(buf) {
		m, err := f.readAt(buf[n:], int64(n))
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

func (a *attribute) close() {
	if a.file.isOpen() {
		a.file.close()
	}
}

// decimal reads a number and moves its decimal point by exp10 places, in text, so
// that no rounding happens but the last one.
func decimal(b []byte, exp10 int) (float64, error) {
	var buf [64]byte
	text := append(buf[:0], b...)
	if exp10 != 0 {
		if bytes.ContainsAny(b, "eEnN") { // not what the kernel writes
			return 0, fmt.Errorf("%w: %q", errNoNumber, b)
		}
		text = append(text, 'e')
		text = strconv.AppendInt(text, int64(exp10), 10)
	}
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%w: %q", errNoNumber, b)
	}
	return v, nil
}

// shorten rounds to nine significant digits: more than any converter has, and few
// enough that the products of scales come out as short decimals.
func shorten(v float64) float64 {
	var buf [32]byte
	short, err := strconv.ParseFloat(string(strconv.AppendFloat(buf[:0], v, 'g', 9, 64)), 64)
	if err != nil {
		return v
	}
	return short
}
