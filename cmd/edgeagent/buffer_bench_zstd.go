//go:build !(linux && arm)

package main

import "github.com/klauspost/compress/zstd"

// zstdCompressor is Zstandard at its default level, on one core.
func zstdCompressor() []compressor {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err) // the options are constants
	}
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return []compressor{{
		"zstd",
		func(dst, src []byte) ([]byte, error) { return w.EncodeAll(src, dst), nil },
		func(dst, src []byte) ([]byte, error) { return r.DecodeAll(src, dst) },
	}}
}
