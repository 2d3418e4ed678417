package coap

// block is the value of a Block1 or Block2 option (RFC 7959 section 2.2).
type block struct {
	num  uint32 // at most 2^20-1
	more bool
	szx  uint8 // the size is 16 << szx; 7 is BERT (RFC 8323 section 6): several of 1,024
}

const (
	largestSZX  = 6 // 1,024 bytes
	bert        = 7
	maxBlockNum = 1<<20 - 1
)

func (b block) size() int {
	if b.szx == bert {
		return 1024
	}
	return 16 << b.szx
}

func (b block) offset() int { return int(b.num) * b.size() }

func (b block) value() uint32 {
	v := b.num<<4 | uint32(b.szx)
	if b.more {
		v |= 8
	}
	return v
}

// blockOption reads a block option. bad means that there is one and that it makes no
// sense.
func (m *message) blockOption(id optionID) (b block, ok, bad bool) {
	raw, ok := m.get(id)
	if !ok {
		return block{}, false, false
	}
	if len(raw) > 3 {
		return block{}, true, true
	}
	v := valueUint(raw)
	return block{num: v >> 4, more: v&8 != 0, szx: uint8(v & 7)}, true, false
}

func (m *message) setBlock(id optionID, b block) { m.addUint(id, b.value()) }
