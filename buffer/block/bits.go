package block

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// A column's numbers are coded in groups of 256. A group is one byte, its
// descriptor, and bits, filled from the least significant bit of each byte up
// and padded with zeros to a whole byte.
//
//	descriptor 0…64    packed: each number in that many bits
//	descriptor 65…105  Rice code with k = descriptor-65: n>>k zeros, a one, the
//	                   low k bits of n; where n>>k is 16 or more, 16 zeros and
//	                   then n in 64 bits
const (
	groupLen  = 256
	maxWidth  = 64
	riceBase  = maxWidth + 1
	maxRice   = 40 // so that a code without escape is at most 56 bits: one load
	riceLimit = 16
)

// padding is the bytes that must follow a payload so that it can be read eight
// bytes at a time.
const padding = 16

// appendNumbers codes all of u.
func appendNumbers(dst []byte, u []uint64) []byte {
	for len(u) > groupLen {
		dst, u = appendGroup(dst, u[:groupLen]), u[groupLen:]
	}
	if len(u) > 0 {
		dst = appendGroup(dst, u)
	}
	return dst
}

// appendGroup codes one group in the shorter way.
func appendGroup(dst []byte, u []uint64) []byte {
	var or, sum uint64
	for _, x := range u {
		or |= x
		sum += x
	}
	width := bits.Len64(or)
	packed := width * len(u)
	if width > maxRice || packed <= len(u) { // the sum may have wrapped, or nothing to win
		return appendPacked(append(dst, byte(width)), u, uint(width))
	}
	k, rice := bestRice(u, sum)
	if packed <= rice {
		return appendPacked(append(dst, byte(width)), u, uint(width))
	}
	return appendRice(append(dst, byte(riceBase+k)), u, k)
}

// bestRice returns the parameter that codes u, of the given sum, in the fewest
// bits. For a geometric distribution it lies where 2^k is next to the mean times
// ln 2, so two candidates are enough.
func bestRice(u []uint64, sum uint64) (k uint, size int) {
	guess := bits.Len64(sum / uint64(len(u)))
	size = math.MaxInt
	for c := max(guess-2, 0); c <= max(guess-1, 0); c++ {
		if s := riceSize(u, uint(c)); s < size {
			k, size = uint(c), s
		}
	}
	return k, size
}

func riceSize(u []uint64, k uint) int {
	size := len(u) * int(k+1)
	for _, x := range u {
		q := x >> k
		if q >= riceLimit {
			q = riceLimit + maxWidth - uint64(k) - 1
		}
		size += int(q)
	}
	return size
}

// bitWriter fills bytes from the least significant bit up. Its room is made
// beforehand.
type bitWriter struct {
	b   []byte
	at  int
	acc uint64
	n   uint // bits in acc, below 64
}

// newBitWriter writes after dst, at most size bits.
func newBitWriter(dst []byte, size int) bitWriter {
	at := len(dst)
	dst = slices.Grow(dst, size/8+2*8)
	return bitWriter{b: dst[:cap(dst)], at: at}
}

// put writes the low width bits of x, which has no others; width is 0 to 64.
func (w *bitWriter) put(x uint64, width uint) {
	w.acc |= x << w.n
	if w.n+width < 64 {
		w.n += width
		return
	}
	binary.LittleEndian.PutUint64(w.b[w.at:], w.acc)
	w.at += 8
	w.acc = x >> (64 - w.n) // 0 for a shift of 64
	w.n += width - 64
}

// flush writes what is left, padded to a whole byte, and returns dst and all
// that was written.
func (w *bitWriter) flush() []byte {
	binary.LittleEndian.PutUint64(w.b[w.at:], w.acc)
	return w.b[:w.at+int(w.n+7)/8]
}

func appendPacked(dst []byte, u []uint64, width uint) []byte {
	if width == 0 {
		return dst
	}
	w := newBitWriter(dst, len(u)*int(width))
	for _, x := range u {
		w.put(x, width)
	}
	return w.flush()
}

func appendRice(dst []byte, u []uint64, k uint) []byte {
	w := newBitWriter(dst, len(u)*(riceLimit+maxWidth))
	mask := uint64(1)<<k - 1
	for _, x := range u {
		q := uint(min(x>>k, riceLimit))
		if q == riceLimit {
			w.put(0, riceLimit)
			w.put(x, maxWidth)
			continue
		}
		w.put(1<<q|(x&mask)<<(q+1), q+1+k)
	}
	return w.flush()
}

// reader walks over a payload. The slice extends padding bytes beyond end.
type reader struct {
	b   []byte
	pos int
	end int
}

func (r *reader) left() int { return r.end - r.pos }

func (r *reader) byte() (byte, bool) {
	if r.pos >= r.end {
		return 0, false
	}
	x := r.b[r.pos]
	r.pos++
	return x, true
}

func (r *reader) uvarint() (uint64, bool) {
	x, n := binary.Uvarint(r.b[r.pos:r.end])
	if n <= 0 {
		return 0, false
	}
	r.pos += n
	return x, true
}

// varint reads a zigzag number.
func (r *reader) varint() (int64, bool) {
	u, ok := r.uvarint()
	return unzigzag(u), ok
}

// numbers reads len(dst) numbers.
func (r *reader) numbers(dst []uint64) bool {
	for len(dst) > groupLen {
		if !r.group(dst[:groupLen]) {
			return false
		}
		dst = dst[groupLen:]
	}
	return len(dst) == 0 || r.group(dst)
}

func (r *reader) group(dst []uint64) bool {
	d, ok := r.byte()
	switch {
	case !ok:
		return false
	case d == 0:
		clear(dst)
		return true
	case d <= maxWidth:
		return r.packed(dst, uint(d))
	case d <= riceBase+maxRice:
		return r.rice(dst, uint(d-riceBase))
	}
	return false
}

// packed reads numbers of width bits, 1 to 64.
func (r *reader) packed(dst []uint64, width uint) bool {
	size := (len(dst)*int(width) + 7) / 8
	if size > r.left() {
		return false
	}
	b := r.b[r.pos:]
	mask := ^uint64(0) >> (64 - width)
	if width <= 56 { // one load holds a number, wherever it begins
		bit := uint(0)
		for i := range dst {
			dst[i] = binary.LittleEndian.Uint64(b[bit>>3:]) >> (bit & 7) & mask
			bit += width
		}
	} else {
		bit := uint(0)
		for i := range dst {
			dst[i] = load64(b, bit) & mask
			bit += width
		}
	}
	r.pos += size
	return true
}

// rice reads Rice codes with parameter k, at most maxRice.
func (r *reader) rice(dst []uint64, k uint) bool {
	b, limit := r.b[r.pos:], uint(r.left())
	mask := uint64(1)<<k - 1
	bit := uint(0)
	for i := range dst {
		if bit>>3 >= limit {
			return false
		}
		x := binary.LittleEndian.Uint64(b[bit>>3:]) >> (bit & 7)
		q := uint(bits.TrailingZeros64(x))
		if q >= riceLimit {
			if (bit+riceLimit)>>3 >= limit {
				return false
			}
			dst[i] = load64(b, bit+riceLimit)
			bit += riceLimit + maxWidth
			continue
		}
		dst[i] = uint64(q)<<k | x>>(q+1)&mask
		bit += q + 1 + k
	}
	size := (bit + 7) / 8
	if size > limit {
		return false
	}
	r.pos += int(size)
	return true
}

// load64 reads 64 bits that begin at any bit.
func load64(b []byte, bit uint) uint64 {
	i, s := bit>>3, bit&7
	return binary.LittleEndian.Uint64(b[i:])>>s | uint64(b[i+8])<<(64-s)
}

// zigzag folds the sign into the lowest bit: 0, -1, 1, -2 … become 0, 1, 2, 3 …
func zigzag(x int64) uint64 { return uint64(x)<<1 ^ uint64(x>>63) }

func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// grow returns s with n elements; what they hold is unspecified.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/2)
	}
	return s[:n]
}
