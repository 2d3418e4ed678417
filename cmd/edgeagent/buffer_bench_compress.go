package main

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"github.com/pierrec/lz4/v4"
)

// compressors are what other agents put behind their text formats.
func compressors() []compressor {
	return slices.Concat([]compressor{lz4Compressor()}, zstdCompressor(), []compressor{flateCompressor()})
}

// lz4Compressor is LZ4 in its block form, with the length in front.
func lz4Compressor() compressor {
	var c lz4.Compressor
	return compressor{
		"lz4",
		func(dst, src []byte) ([]byte, error) {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(len(src)))
			at := len(dst)
			dst = slices.Grow(dst, lz4.CompressBlockBound(len(src)))
			n, err := c.CompressBlock(src, dst[at:cap(dst)])
			return dst[:at+n], err
		},
		func(dst, src []byte) ([]byte, error) {
			dst = slices.Grow(dst, int(binary.LittleEndian.Uint32(src)))
			n, err := lz4.UncompressBlock(src[4:], dst[:cap(dst)])
			return dst[:n], err
		},
	}
}

// flateCompressor is what gzip does, without its header.
func flateCompressor() compressor {
	w, err := flate.NewWriter(nil, flate.DefaultCompression)
	if err != nil {
		panic(err) // the level is a constant
	}
	r := flate.NewReader(nil)
	return compressor{
		"deflate",
		func(dst, src []byte) ([]byte, error) {
			out := bytes.NewBuffer(dst)
			w.Reset(out)
			_, err := w.Write(src)
			err = errors.Join(err, w.Close())
			return out.Bytes(), err
		},
		func(dst, src []byte) ([]byte, error) {
			out := bytes.NewBuffer(dst)
			if err := r.(flate.Resetter).Reset(bytes.NewReader(src), nil); err != nil {
				return nil, err
			}
			_, err := io.Copy(out, r)
			return out.Bytes(), err
		},
	}
}
