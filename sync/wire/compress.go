package wire

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/pierrec/lz4/v4"

	"github.com/edgeagent/edgeagent"
)

// The compressions of [Compress].
const (
	Gzip = "gzip" // RFC 1952, level 6, without a name or a time
	LZ4  = "lz4"  // LZ4 frame, independent blocks of 64 KiB, checksum of the content
)

// Compressed is a text format whose batches are compressed, each by itself. It holds
// what a batch takes twice, and for gzip about 800 kB; nothing else grows. It is not
// safe for concurrent use.
type Compressed struct {
	Format
	encoding string
	plain    []byte // scratch
	out      bytes.Buffer
	packer   packer
}

// packer is what gzip and LZ4 writers have in common.
type packer interface {
	io.WriteCloser
	Reset(w io.Writer)
}

// Compress wraps a format. The encoding is gzip or lz4.
func Compress(f Format, encoding string) (*Compressed, error) {
	c := &Compressed{Format: f, encoding: encoding}
	switch encoding {
	case Gzip:
		c.packer = gzip.NewWriter(&c.out)
	case LZ4:
		w := lz4.NewWriter(&c.out)
		if err := w.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ConcurrencyOption(1), lz4.ChecksumOption(true)); err != nil {
			return nil, fmt.Errorf("prepare LZ4: %w", err)
		}
		c.packer = w
	default:
		return nil, fmt.Errorf("unknown compression %q, want gzip or lz4", encoding)
	}
	return c, nil
}

// Encoding names the compression, as HTTP's Content-Encoding does gzip's.
func (c *Compressed) Encoding() string { return c.encoding }

// Encode appends the records of b to dst, compressed. Inside there is no line end
// after the last line, as in a message that is not compressed.
func (c *Compressed) Encode(dst []byte, b edgeagent.Batch, device string) ([]byte, error) {
	var err error
	if c.plain, err = c.Format.Encode(c.plain[:0], b, device); err != nil {
		return dst, err
	}
	c.out.Reset()
	c.packer.Reset(&c.out)
	if _, err = c.packer.Write(bytes.TrimSuffix(c.plain, []byte("\n"))); err == nil {
		err = c.packer.Close()
	}
	if err != nil {
		return dst, fmt.Errorf("compress with %s: %w", c.encoding, err)
	}
	return append(dst, c.out.Bytes()...), nil
}
