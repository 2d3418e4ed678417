//go:build !lz4bench

package main

// moreCompressors lists those that a build with the tag lz4bench adds: the library
// is linked for the codec of blocks and for nothing else.
func moreCompressors() []compressor { return nil }
