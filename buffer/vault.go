package buffer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/headlog"
	"github.com/edgeagent/edgeagent/buffer/sealed"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// Encryption says where the key is that everything on the disk is sealed with.
// The zero value means that nothing is sealed.
type Encryption struct {
	KeyFile    string `yaml:"key_file"`   // 32 bytes, 64 hex digits or base64; nobody else's to read
	Credential string `yaml:"credential"` // name of a systemd credential with the same content
}

// In returns e with a relative path taken from dir, the configuration's.
func (e Encryption) In(dir string) Encryption {
	if e.KeyFile != "" && !filepath.IsAbs(e.KeyFile) {
		e.KeyFile = filepath.Join(dir, e.KeyFile)
	}
	return e
}

func (e Encryption) validate() error {
	if e.KeyFile != "" && e.Credential != "" {
		return edgeagent.Field("encryption.credential", "set beside key_file: the key has one place")
	}
	return nil
}

// vault loads the key.
func (e Encryption) vault() (v vault, err error) {
	switch {
	case e.KeyFile != "":
		v.key, err = sealed.LoadKey(e.KeyFile)
	case e.Credential != "":
		v.key, err = sealed.LoadCredential(e.Credential)
	}
	return v, err
}

// vault stands between the buffer and the disk. Without a key it hands everything
// on as it is. With one, what is written is sealed, and what is read may be sealed
// or not: each block, frame and letter says which. It is safe for concurrent use
// once proven.
type vault struct {
	key *sealed.Key // nil: nothing is sealed
	// proven: the key is this buffer's, so a box that does not open is damaged.
	proven bool
}

// room is by how much sealing makes a thing longer.
func (v *vault) room() int {
	if v.key == nil {
		return 0
	}
	return sealed.Overhead
}

// id returns the id of the key, "" without one.
func (v *vault) id() string {
	if v.key == nil {
		return ""
	}
	return v.key.ID().String()
}

// The kinds of boxes. Together with epoch and stream they are the associated data:
// a box opens in no place of another kind. Which numbers it holds is said inside,
// and checked after opening; salvage, which does not know the key that a block
// stood under, can open it, too.
const (
	boxBlock  = 'b' // in a segment
	boxSeries = 's' // in a segment or in state.db, stream 0
	boxFrame  = 'f' // of the head log
	boxLetter = 'd' // dead letter, epoch and stream 0
)

func boxOf(kind byte, e edgeagent.Epoch, s edgeagent.Stream) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind, byte(s)}, uint64(e))
}

// appendFrameBox appends the associated data of a frame: all that stands beside its
// payload, as the payload means nothing without.
func appendFrameBox(dst []byte, f headlog.Frame) []byte {
	dst = append(dst, boxFrame, byte(f.Kind), byte(f.Stream), f.Resolution)
	dst = binary.BigEndian.AppendUint32(dst, uint32(f.Flags))
	dst = binary.BigEndian.AppendUint32(dst, f.Count)
	dst = binary.BigEndian.AppendUint32(dst, uint32(f.Run))
	dst = binary.BigEndian.AppendUint64(dst, uint64(f.Epoch))
	dst = binary.BigEndian.AppendUint64(dst, uint64(f.First))
	return binary.BigEndian.AppendUint64(dst, uint64(f.Base))
}

// seal appends what is to be written for plain to dst. Without a key that is plain
// itself, and dst stays as it is.
func (v *vault) seal(dst, plain, box []byte) []byte {
	if v.key == nil {
		return plain
	}
	return v.key.Seal(dst, plain, box)
}

// open returns what is in stored: stored itself if it is not sealed, else dst with
// the content appended. The error wraps [segment.ErrDamaged], or [ErrKey] where
// another key is needed.
func (v *vault) open(dst, stored, box []byte) ([]byte, error) {
	if !sealed.IsBox(stored) {
		return stored, nil
	}
	if v.key == nil {
		return nil, needKey(stored)
	}
	plain, err := v.key.Open(dst, stored, box)
	switch {
	case err == nil:
		return plain, nil
	case v.proven || errors.Is(err, sealed.ErrDamaged):
		return nil, fmt.Errorf("%w: %w", segment.ErrDamaged, err)
	}
	return nil, wrongKey(v.id(), stored)
}

func needKey(box []byte) error {
	id, err := sealed.BoxID(box)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	return keyHint(fmt.Errorf("%w: it is encrypted with key %s", ErrKey, id))
}

func wrongKey(have string, box []byte) error {
	id, err := sealed.BoxID(box)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	return keyHint(fmt.Errorf("%w: it is encrypted with key %s, and this is key %s", ErrKey, id, have))
}

func keyHint(err error) error {
	return edgeagent.WithHint(err, "set buffer.encryption.key_file (on the command line --key-file) to the key it was written with; nothing was changed")
}

// prove holds the key against the id that state.db has, "" if it has none.
func (v *vault) prove(id string) error {
	switch {
	case id == "":
		return nil
	case v.key == nil:
		return keyHint(fmt.Errorf("%w: it is encrypted with key %s", ErrKey, id))
	case id != v.id():
		return keyHint(fmt.Errorf("%w: it is encrypted with key %s, and this is key %s", ErrKey, id, v.id()))
	}
	v.proven = true
	return nil
}

// probe holds the key against a file of any condition where state.db says nothing:
// one box that opens proves it. It returns [ErrKey] if there are boxes and none
// opens.
func (v *vault) probe(path string, boxes ...[]byte) error {
	var first error
	err := segment.Scan(path, []byte("EX"), maxBox, func(b []byte) int {
		n, ok := sealed.BoxSize(b)
		if !ok || n > len(b) || v.proven {
			return 0
		}
		if v.key == nil {
			first = needKey(b)
			return n
		}
		for _, box := range boxes {
			if _, err := v.key.Open(nil, b[:n], box); err == nil {
				v.proven = true
				return n
			}
		}
		if first == nil {
			first = wrongKey(v.id(), b)
		}
		return 0
	})
	if v.proven || err != nil {
		return err
	}
	return first
}

// maxBox is the longest box in a segment.
const maxBox = block.MaxStored + sealed.Overhead

// proveKey holds the key against what is on the disk where state.db does not name
// one: it is lost, or from before the buffer was encrypted. Nothing is changed
// before this.
func (b *Buffer) proveKey(files []segmentFile, rec *headlog.Recovery, lost bool) error {
	v := &b.vault
	if v.proven || v.key == nil && !lost {
		return nil // without a key, whoever meets a box says so
	}
	var first error
	for f, err := range rec.Frames() {
		if err != nil {
			return err
		}
		_, err = b.unwrapFrame(f)
		switch {
		case errors.Is(err, ErrKey):
			first = err
		case err == nil && sealed.IsBox(f.Payload):
			v.proven = true
		}
	}
	for _, f := range files {
		if v.proven {
			break
		}
		err := v.probe(f.path, boxOf(boxBlock, f.epoch, f.stream), boxOf(boxSeries, f.epoch, 0))
		if err != nil && !errors.Is(err, ErrKey) {
			return err
		}
		first = cmp.Or(first, err)
	}
	if first != nil && !v.proven {
		return first
	}
	v.proven = v.key != nil // there are no boxes of another one
	return nil
}
