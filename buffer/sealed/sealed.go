package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/edgeagent/edgeagent"
)

// Sizes in bytes.
const (
	KeySize  = 32
	IDSize   = 8
	Overhead = headerSize + nonceSize + tagSize

	idAt       = 8
	headerSize = idAt + IDSize
	nonceSize  = 12
	tagSize    = 16
)

const version = 1

// Errors that callers tell apart.
var (
	// ErrNotBox: the bytes do not begin as a box of a known version does.
	ErrNotBox = errors.New("not a sealed box")
	// ErrKey: the box was sealed with another key. With a few bits flipped in the
	// right places, a damaged box looks the same.
	ErrKey = errors.New("sealed with another key")
	// ErrDamaged: the box was changed, cut, or belongs to another place.
	ErrDamaged = errors.New("sealed box is damaged")
)

// ID names a key without telling it.
type ID [IDSize]byte

// String returns 16 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Key seals and opens boxes. Make one with [NewKey] or [LoadKey].
type Key struct {
	id   ID
	aead cipher.AEAD
}

// NewKey returns the key of [KeySize] secret bytes, which it does not keep.
func NewKey(secret []byte) (*Key, error) {
	if len(secret) != KeySize {
		return nil, fmt.Errorf("encryption key has %d bytes, want %d", len(secret), KeySize)
	}
	if constant(secret) {
		return nil, errors.New("encryption key is one byte repeated")
	}
	c, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("encryption key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(c)
	if err != nil {
		return nil, fmt.Errorf("encryption key: %w", err)
	}
	sum := sha256.Sum256(secret)
	return &Key{ID(sum[:IDSize]), aead}, nil
}

// constant reports whether b was never filled with random bytes.
func constant(b []byte) bool {
	for _, x := range b {
		if x != b[0] {
			return false
		}
	}
	return true
}

// ID returns what boxes of this key bear.
func (k *Key) ID() ID { return k.id }

// String returns the id.
func (k *Key) String() string { return "key " + k.id.String() }

// GoString returns the id.
func (k *Key) GoString() string { return "sealed." + k.String() }

// LogValue returns the id.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.id.String()) }

// Seal appends a box of plain to dst: [Overhead] bytes more than plain. The room
// behind dst must not overlap plain. It allocates nothing if there is enough. Plain
// is shorter than 2 GiB.
func (k *Key) Seal(dst, plain, aad []byte) []byte {
	dst = append(dst, 'E', 'X', version, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(plain)))
	dst = append(dst, k.id[:]...)
	return k.aead.Seal(dst, nil, plain, aad)
}

// Open appends to dst what is in box. The room behind dst must not overlap box.
// The error is [ErrNotBox], [ErrKey] or [ErrDamaged], and dst is as it was then;
// what lies behind it may be overwritten.
func (k *Key) Open(dst, box, aad []byte) ([]byte, error) {
	id, err := BoxID(box)
	if err != nil {
		return dst, err
	}
	if n, _ := BoxSize(box); n != len(box) {
		return dst, ErrDamaged
	}
	out, err := k.aead.Open(dst, nil, box[headerSize:], aad)
	switch {
	case err == nil:
		return out, nil
	case id != k.id:
		return dst, ErrKey
	}
	return dst, ErrDamaged
}

// IsBox reports whether b begins as a box does, of whatever version.
func IsBox(b []byte) bool { return len(b) >= 2 && b[0] == 'E' && b[1] == 'X' }

// BoxID returns the id of the key that box was sealed with. The error is
// [ErrNotBox], with a hint if a later version made it, or [ErrDamaged] if box is
// too short.
func BoxID(box []byte) (ID, error) {
	switch {
	case !IsBox(box):
		return ID{}, ErrNotBox
	case len(box) < Overhead:
		return ID{}, ErrDamaged
	case box[2] != version || box[3] != 0:
		return ID{}, edgeagent.WithHint(
			fmt.Errorf("%w: version %d", ErrNotBox, box[2]), "a newer version of edgeagent wrote it, or it is damaged")
	}
	return ID(box[idAt:headerSize]), nil
}

// BoxSize returns how long the box is that b begins with, which may be longer than
// b. ok is false if b does not begin with the head of a box.
func BoxSize(b []byte) (n int, ok bool) {
	if !IsBox(b) || len(b) < headerSize || b[2] != version || b[3] != 0 {
		return 0, false
	}
	length := binary.LittleEndian.Uint32(b[4:])
	if length > math.MaxInt32-Overhead { // an int has 32 bits on small boards
		return 0, false
	}
	return int(length) + Overhead, true
}
