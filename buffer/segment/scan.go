package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// Scan reads a file of any condition from end to end and calls block wherever
// magic stands, with all bytes from there to at most maxLen further. block
// returns the length of the whole block it recognised, or 0; the search goes on
// behind it. Scan finds stale copies, too: choosing is up to the caller.
//
// An unreadable part of the file is passed over in steps of a page.
func Scan(path string, magic []byte, maxLen int, block func(b []byte) int) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	defer f.Close()
	scan(f, magic, maxLen, block)
	return nil
}

func scan(r io.ReaderAt, magic []byte, maxLen int, block func(b []byte) int) {
	const window = 1 << 20
	buf := make([]byte, window+maxLen)
	for off := int64(0); ; {
		n, err := r.ReadAt(buf, off)
		if n == 0 {
			if err == nil || errors.Is(err, io.EOF) || off > maxFile {
				return
			}
			off += pageSize
			continue
		}
		// Only the last window is searched to its end: in the others a block
		// may begin before, and end behind, the seam.
		end := min(n, window)
		if n < len(buf) {
			end = n
		}
		i := scanWindow(buf[:n], end, magic, maxLen, block)
		if n < len(buf) && errors.Is(err, io.EOF) {
			return
		}
		off += int64(max(i, 1))
	}
}

// scanWindow searches for blocks that begin before end and returns how far it
// came.
func scanWindow(b []byte, end int, magic []byte, maxLen int, block func(b []byte) int) int {
	i := 0
	for i < end {
		j := bytes.Index(b[i:], magic)
		if j < 0 || i+j >= end {
			return end
		}
		i += j
		i += max(block(b[i:min(len(b), i+maxLen)]), 1)
	}
	return i
}
