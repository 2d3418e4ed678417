package buffer

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/edgeagent/edgeagent"
)

// The errors that callers tell apart.
var (
	// ErrFull: there is no room, on the disk or within max_bytes, and nothing
	// that may give way. Nothing stored is lost, and appends work again when
	// space returns.
	ErrFull = errors.New("buffer is full")
	// ErrLocked: another process has the directory.
	ErrLocked = errors.New("another agent uses this buffer")
	// ErrInvalid: a record that no buffer will ever take. Nothing of the call was
	// stored; without the record it may be.
	ErrInvalid = errors.New("invalid record")
	// ErrClosed: the buffer has been closed.
	ErrClosed = errors.New("buffer is closed")
	// ErrKey: the directory is encrypted, and the key is another or there is none.
	ErrKey = errors.New("buffer cannot be read")
	// ErrForeign: the directory holds what this version cannot read.
	ErrForeign = errors.New("directory holds a buffer of another version")
)

// fullError says that the disk itself is full.
func fullError(err error) error {
	return edgeagent.WithHint(fmt.Errorf("%w: %w", ErrFull, err),
		"free space on the file system of buffer.dir, or lower buffer.max_bytes")
}

// writeError makes ErrFull of whatever means that there was no space. bbolt loses
// the error number of a file that cannot grow, so its words count, too.
func writeError(err error) error {
	if err == nil || errors.Is(err, ErrFull) {
		return err
	}
	if noSpace(err) || strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		return fullError(err)
	}
	return err
}
