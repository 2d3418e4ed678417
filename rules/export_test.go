package rules

import (
	"encoding/binary"
	"hash/crc32"
)

// Resum makes the checksum of a snapshot right, so that what stands behind it is
// looked at.
func Resum(b []byte) []byte {
	out := append([]byte(nil), b...)
	if len(out) >= 8 {
		binary.LittleEndian.PutUint32(out[4:], crc32.Checksum(out[8:], castagnoli))
	}
	return out
}
