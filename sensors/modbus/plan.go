package modbus

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// tableOf is the table a register is in, as requests name it.
func tableOf(name string) string { return cmp.Or(name, "holding") }

// span is a run of registers of one table.
type span struct {
	table       string
	first, last int // addresses, both ends included
}

// request is one question to the device, and the values that are in its answer.
type request struct {
	span
	items []int // indices of the list
}

func (r request) count() int { return r.last - r.first + 1 }

// plan packs values into as few requests as limit (registers in one request) and gap
// (unasked registers between two values) allow. A value and its scale register may come
// from different requests; a value never does.
func plan(list []Register, limit, gap int) []request {
	type piece struct {
		span
		item int
	}
	var pieces []piece
	for i, r := range list {
		pieces = append(pieces, piece{span{tableOf(r.Table), int(r.Address), int(r.Address) + r.words() - 1}, i})
		if r.ScaleRegister != nil {
			pieces = append(pieces, piece{span{tableOf(r.Table), int(*r.ScaleRegister), int(*r.ScaleRegister)}, -1})
		}
	}
	slices.SortStableFunc(pieces, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last))
	})
	var out []request
	for _, p := range pieces {
		n := len(out) - 1
		if n < 0 || out[n].table != p.table || p.first > out[n].last+1+gap || max(p.last, out[n].last)-out[n].first >= limit {
			out = append(out, request{span: p.span})
			n++
		}
		out[n].last = max(out[n].last, p.last)
		if p.item >= 0 {
			out[n].items = append(out[n].items, p.item)
		}
	}
	return out
}

// raw puts the registers of a value together.
func (r Register) raw(words []uint16) uint64 {
	var v uint64
	for i := range words {
		w := words[i]
		if r.WordOrder == "low_first" {
			w = words[len(words)-1-i]
		}
		if r.ByteOrder == "low_first" {
			w = bits.ReverseBytes16(w)
		}
		v = v<<16 | uint64(w)
	}
	return v
}

// number reads a value of the register's type. ok is false for what is no number.
func (r Register) number(raw uint64) (v float64, ok bool) {
	switch r.Type {
	case "s16":
		v = float64(int16(raw)) //nolint:gosec // two's complement, as below
	case "s32":
		v = float64(int32(raw)) //nolint:gosec // see above
	case "s64":
		v = float64(int64(raw)) //nolint:gosec // see above
	case "f32":
		v = float64(math.Float32frombits(uint32(raw))) //nolint:gosec // its 32 bits
	case "f64":
		v = math.Float64frombits(raw)
	default:
		if r.Mask != 0 {
			raw = raw & r.Mask >> bits.TrailingZeros64(r.Mask)
		}
		v = float64(raw)
	}
	return v, !math.IsNaN(v) && !math.IsInf(v, 0)
}

// scaled turns the number into the value. Powers of ten divide where they can, so that
// 2301 × 0.1 is 230.1 and not 230.10000000000002.
func (r Register) scaled(v float64, exp int) float64 {
	switch s := r.Scale; {
	case s == 0 || s == 1:
	case math.Abs(s) < 1 && math.Round(1/s) == 1/s:
		v /= 1 / s
	default:
		v *= s
	}
	if exp < 0 {
		v /= math.Pow10(-exp)
	} else {
		v *= math.Pow10(exp)
	}
	return v + r.Offset
}

// The sunssf of SunSpec goes from -10 to 10; 0x8000 means that there is none.
const maxExponent = 10

func exponent(word uint16) (int, bool) {
	e := int(int16(word)) //nolint:gosec // two's complement
	return e, e >= -maxExponent && e <= maxExponent
}
