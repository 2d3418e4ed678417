package uplink

// buffers are the memory of messages of text while a backlog drains. Those that have
// their result are used again, so that a backlog of millions leaves no garbage behind,
// which would take as much memory again as everything else. At most what is in flight
// is lent, and as much is kept; nothing is once the backlog is empty. Blocks are made by
// the log and are not concerned. The zero value lends nothing twice.
type buffers struct {
	lets bool              // the transport lets payloads go
	busy bool              // there is a backlog
	lent map[uint64][]byte // by message
	free [][]byte
}

// pooled is the least size that is worth keeping.
const pooled = 8 << 10

// take returns an empty buffer for n bytes.
func (x *buffers) take(n int) []byte {
	if n < pooled {
		return make([]byte, 0, n)
	}
	x.busy = true
	for len(x.free) > 0 {
		last := len(x.free) - 1
		b := x.free[last]
		x.free[last] = nil
		if x.free = x.free[:last]; cap(b) >= n {
			return b
		}
	}
	return make([]byte, 0, n)
}

// begin starts or ends a session; lets says whether its transport lets payloads go.
// What is lent is not seen again: somebody may still hold it.
func (x *buffers) begin(lets bool) {
	x.lets, x.busy, x.lent, x.free = lets, false, map[uint64][]byte{}, nil
}

// rest forgets what is free, and will be, until there is a backlog again.
func (x *buffers) rest() { x.busy, x.free = false, nil }

// lend notes that a message has a payload of take.
func (x *buffers) lend(id uint64, payload []byte) {
	if x.lets && cap(payload) >= pooled && len(x.lent) < maxInFlight {
		x.lent[id] = payload
	}
}

// result takes back the payload of a message that has its result. If Send has not
// returned for it, which handed says, the transport may still look at it: it goes to the
// garbage.
func (x *buffers) result(id, handed uint64) {
	b, ok := x.lent[id]
	delete(x.lent, id)
	if ok && x.busy && id <= handed && len(x.free) < maxInFlight {
		x.free = append(x.free, b[:0])
	}
}
