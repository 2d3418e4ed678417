package headlog

import (
	"errors"
	"io"

	"github.com/edgeagent/edgeagent"
)

// The errors that callers tell apart.
var (
	// ErrFull: the frame does not fit into the current file. Nothing was
	// written; [Log.Rotate] makes room.
	ErrFull = errors.New("head log is full")
	// ErrUnreleased: there is no file to rotate into before [Log.Release].
	ErrUnreleased = errors.New("the other head file is not released yet")
	// ErrSuspect: a write or sync failed, and the file concerned is not trusted
	// any more. Call [Log.Rotate] with all that is not sealed, then
	// [Log.Release]. What was synced before is still on the disk.
	ErrSuspect = errors.New("head file is suspect after a failed write")
	// ErrBroken: the disk failed for the second time. Nothing more is written;
	// what was synced is found by [Recover].
	ErrBroken = errors.New("head log is broken")
	// ErrLimit: a number lies at or above the durable limit of its stream; see
	// [Log.Raise].
	ErrLimit = errors.New("sequence number is not reserved")
	// ErrFormat: another version of this program wrote these files.
	ErrFormat = errors.New("head files have another format")
	// ErrClosed: the log, or the recovery, has been closed or handed on.
	ErrClosed = errors.New("head log is closed")
)

// createError is what a user reads when the files cannot be made.
func createError(err error, size int64) error {
	return edgeagent.WithHint(err, "the head log takes twice "+edgeagent.Bytes(size).String()+
		": free that much on the file system of buffer.dir, or point buffer.dir elsewhere")
}

// wrote makes an error of a write that stopped short without saying why.
func wrote(n, want int, err error) error {
	if err == nil && n < want {
		return io.ErrShortWrite
	}
	return err
}
