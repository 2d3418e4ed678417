package wire

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"github.com/edgeagent/edgeagent"
)

// Labels of SenML in CBOR (RFC 8428 section 6, table 4).
const (
	labelBaseName = -2
	labelBaseTime = -3
	labelName     = 0
	labelUnit     = 1
	labelValue    = 2
	labelString   = 3
	labelTime     = 6
)

// Major types of CBOR (RFC 8949 section 3.1).
const (
	cborUint  = 0 << 5
	cborNeg   = 1 << 5
	cborText  = 3 << 5
	cborArray = 4 << 5
	cborMap   = 5 << 5
)

// cborPack writes application/senml+cbor in CBOR's preferred serialization.
type cborPack struct{ keys []string }

func (*cborPack) open(dst []byte, records int) []byte {
	return cborHead(dst, cborArray, uint64(records))
}

func (*cborPack) close(dst []byte) []byte { return dst }

func (p *cborPack) record(dst []byte, r *record) []byte {
	dst = cborHead(dst, cborMap, fields(r))
	if r.first {
		dst = cborString(cborInt(dst, labelBaseName), r.baseName)
		if r.baseTime != 0 {
			dst = cborInt(cborInt(dst, labelBaseTime), r.baseTime)
		}
	}
	dst = cborString(cborInt(dst, labelName), r.name)
	if r.unit != "" {
		dst = cborString(cborInt(dst, labelUnit), r.unit)
	}
	if r.after != 0 {
		dst = cborNumber(cborInt(dst, labelTime), float64(r.after)/1e9)
	}
	if r.hasValue {
		dst = cborNumber(cborInt(dst, labelValue), r.value)
	}
	if r.text != nil {
		dst = cborString(cborInt(dst, labelString), *r.text)
	}
	return p.extensions(dst, r)
}

// fields counts the entries of a record's map.
func fields(r *record) uint64 {
	n := uint64(1)
	for _, there := range []bool{
		r.first, r.first && r.baseTime != 0, r.unit != "", r.after != 0, r.hasValue, r.text != nil,
		r.quality != "", r.bucket != 0, r.tags.Len() > 0,
	} {
		if there {
			n++
		}
	}
	if r.event != nil {
		n += 5
	}
	return n
}

func (p *cborPack) extensions(dst []byte, r *record) []byte {
	if r.quality != "" {
		dst = cborString(cborString(dst, "quality"), r.quality)
	}
	if r.bucket != 0 {
		dst = cborInt(cborString(dst, "bucket_s"), r.bucket)
	}
	if r.tags.Len() > 0 {
		dst = cborHead(cborString(dst, "tags"), cborMap, uint64(r.tags.Len()))
		for k, v := range r.tags.All {
			dst = cborString(cborString(dst, k), v)
		}
	}
	if r.event != nil {
		dst = p.event(dst, r.event)
	}
	return dst
}

func (p *cborPack) event(dst []byte, e *edgeagent.Event) []byte {
	dst = cborString(cborString(dst, "kind"), e.Kind)
	dst = cborString(cborString(dst, "sev"), e.Severity.String())
	dst = cborString(cborString(dst, "id"), e.ID)
	dst = cborInt(cborString(dst, "transition"), int64(e.N))
	dst = cborHead(cborString(dst, "attrs"), cborMap, uint64(len(e.Attrs)))
	p.keys = p.keys[:0]
	for k := range e.Attrs {
		p.keys = append(p.keys, k)
	}
	slices.Sort(p.keys)
	for _, k := range p.keys {
		dst = cborString(cborString(dst, k), e.Attrs[k])
	}
	return dst
}

// cborHead appends a major type with its argument, as short as it can be.
func cborHead(dst []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n <= math.MaxUint8:
		return append(dst, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), n)
}

func cborInt(dst []byte, v int64) []byte {
	if v < 0 {
		return cborHead(dst, cborNeg, uint64(-(v + 1)))
	}
	return cborHead(dst, cborUint, uint64(v))
}

// cborString appends a text string; bytes that are not UTF-8 become U+FFFD, for
// decoders refuse them.
func cborString(dst []byte, s string) []byte {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return append(cborHead(dst, cborText, uint64(len(s))), s...)
}

// cborNumber appends a finite number as the integer that it is, or in the shortest
// float that keeps it.
func cborNumber(dst []byte, v float64) []byte {
	if i := int64(v); float64(i) == v && i > -1<<53 && i < 1<<53 && (i != 0 || !math.Signbit(v)) {
		return cborInt(dst, i)
	}
	if half, ok := float16(v); ok {
		return binary.BigEndian.AppendUint16(append(dst, 0xf9), half)
	}
	if f := float32(v); float64(f) == v {
		return binary.BigEndian.AppendUint32(append(dst, 0xfa), math.Float32bits(f))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xfb), math.Float64bits(v))
}

// float16 returns the IEEE 754 half with the value of v, if there is one; halves
// below 2^-14 are not used.
func float16(v float64) (uint16, bool) {
	bits := math.Float64bits(v)
	sign := uint16(bits >> 48 & 0x8000)
	if v == 0 {
		return sign, true
	}
	exp, mantissa := int(bits>>52&0x7ff)-1023, bits&(1<<52-1)
	if exp < -14 || exp > 15 || mantissa&(1<<42-1) != 0 {
		return 0, false
	}
	return sign | uint16(exp+15)<<10 | uint16(mantissa>>42), true
}
