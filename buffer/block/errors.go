package block

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart. An error of type *[UnsupportedError] means a
// later version, one of type *[CorruptError] means damage.
var (
	// ErrNotBlock: the bytes do not begin with the magic "EB".
	ErrNotBlock = errors.New("block: not a block")
	// ErrTooLarge: the records do not fit one block; encode fewer at a time.
	ErrTooLarge = errors.New("block: records do not fit one block")
	// ErrEmpty: there is nothing to encode.
	ErrEmpty = errors.New("block: no records")
	// ErrInvalid: a record or an identity is outside what the format can say.
	ErrInvalid = errors.New("block: invalid")
	// ErrKind: the block is well formed and of another kind than asked for.
	ErrKind = errors.New("block: wrong kind of block")
)

// UnsupportedError says that a block uses something that this version does not
// know. The block may be perfectly good.
type UnsupportedError struct {
	Field string // "version", "kind" or "flags"
	Value uint64
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("block: unsupported %s %d", e.Field, e.Value)
}

// Hint tells what to do about it.
func (e *UnsupportedError) Hint() string {
	return "a newer version wrote it: update this program"
}

// CorruptError says that a block is damaged or was never right.
type CorruptError struct{ Reason string }

func (e *CorruptError) Error() string { return "block: corrupt: " + e.Reason }

// corrupt keeps refusals free of formatting: they are made in hot loops of
// fuzzing and salvage.
func corrupt(reason string) error { return &CorruptError{reason} }
