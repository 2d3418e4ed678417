package uplink

import "testing"

func TestBuffers(t *testing.T) {
	var x buffers
	same := func(a, b []byte) bool { return &a[:1][0] == &b[:1][0] }
	full := func(n int) []byte { b := x.take(n); return b[:n] }
	lendAll := func(ids ...uint64) (out [][]byte) {
		for _, id := range ids {
			b := full(20 << 10)
			x.lend(id, b)
			out = append(out, b)
		}
		return out
	}
	x.lend(1, full(20<<10)) // no session yet
	x.result(1, 1)
	if len(x.free) != 0 {
		t.Fatal("lent without a session")
	}
	x.begin(true)
	a := lendAll(1, 2, 3)
	x.result(2, 3)
	b := lendAll(4)
	if !same(a[1], b[0]) {
		t.Error("what came back is not used again")
	}
	if c := full(20 << 10); same(c, a[0]) || same(c, a[2]) || same(c, b[0]) {
		t.Error("what is lent is used")
	}
	x.result(2, 4) // again
	x.result(77, 77)
	if len(x.free) != 0 {
		t.Error("a result that comes twice gives twice")
	}
	x.result(3, 2) // Send has not returned
	if len(x.free) != 0 {
		t.Error("a payload that may be on its way is used again")
	}
	x.result(1, 4)
	if d := full(30 << 10); same(d, a[0]) || len(x.free) != 0 {
		t.Error("one that is too small is kept")
	}
	x.lend(5, full(100))
	if _, ok := x.lent[5]; ok {
		t.Error("small ones are kept")
	}
	lendAll(6)
	x.rest()
	x.result(6, 6)
	if len(x.free) != 0 {
		t.Error("memory is kept without a backlog")
	}
	lendAll(7)
	x.begin(true)
	x.result(7, 7)
	if len(x.free) != 0 {
		t.Error("what another session has is used")
	}
	for id := range uint64(200) {
		lendAll(id)
	}
	for id := range uint64(200) {
		x.result(id, 200)
	}
	if len(x.free) != maxInFlight {
		t.Errorf("%d buffers kept", len(x.free))
	}
}
