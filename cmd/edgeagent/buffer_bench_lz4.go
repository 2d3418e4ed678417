//go:build lz4bench

package main

import (
	"encoding/binary"
	"slices"

	"github.com/pierrec/lz4/v4"
)

// moreCompressors adds LZ4 in its block form, with the length in front.
func moreCompressors() []compressor {
	var c lz4.Compressor
	return []compressor{{
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
	}}
}
