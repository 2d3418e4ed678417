package coap

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// FuzzDatagram: what is read is written as it was, unless it was not in its shortest
// form; nothing is read beyond the datagram.
func FuzzDatagram(f *testing.F) {
	m := &message{kind: confirmable, code: methodPost, id: 7, token: []byte("tk"), payload: []byte("x")}
	m.addString(optURIPath, "ea")
	m.addUint(optContentFormat, formatBlock)
	m.setBlock(optBlock1, block{num: 3, more: true, szx: 6})
	f.Add(appendUDP(m))
	f.Add([]byte{0x40, 0, 0, 1})
	f.Add([]byte{0x4f, 1, 0, 1, 0xff})
	f.Add([]byte{0x40, 1, 0, 1, 0xee, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m, again message
		if parseUDP(&m, b) != nil {
			return
		}
		out := appendUDP(&m)
		if len(out) > len(b) {
			t.Errorf("%x became longer: %x", b, out)
		}
		if err := parseUDP(&again, out); err != nil || !bytes.Equal(appendUDP(&again), out) {
			t.Errorf("%x: %v", out, err)
		}
	})
}

// FuzzStream: a stream of messages is read to its end or to the first that makes no
// sense, within its bounds.
func FuzzStream(f *testing.F) {
	f.Add(appendTCP(appendTCP(nil, csm()), &message{code: methodGet, token: []byte("t"), payload: make([]byte, 300)}))
	f.Add([]byte{0xf0, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			var m message
			if readTCP(r, &m, 1<<16) != nil {
				return
			}
			if len(m.payload) > len(b) {
				t.Errorf("%d bytes out of %d", len(m.payload), len(b))
			}
		}
	})
}

// FuzzPeer: a server that is sent anything at all stays within its bounds, and answers
// the next good request.
func FuzzPeer(f *testing.F) {
	good := &message{kind: confirmable, code: methodPost, id: 1, token: []byte("t"), payload: make([]byte, 16)}
	good.setBlock(optBlock1, block{num: 0, more: true})
	f.Add(appendUDP(good), appendUDP(&message{kind: reset, id: 1}))
	f.Add([]byte{0x40, 0, 0, 1}, []byte{0x60, 0x44, 0, 1})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		far := newFarEnd()
		var answers [][]byte
		p := newPeer(far.srv, "fuzz", newReliable(rand.New(rand.NewPCG(1, 1))), nil, func(b []byte) error {
			answers = append(answers, b)
			return nil
		})
		defer p.close()
		for _, d := range [][]byte{a, b, a} {
			p.datagram(d)
		}
		p.mu.Lock()
		answers = nil
		if n := len(p.blocks.partials); n > maxPartials {
			t.Errorf("%d bodies", n)
		}
		p.mu.Unlock()
		p.datagram(appendUDP(&message{kind: confirmable, code: methodPost, id: 0x7777, token: []byte("\xfe\xedfuzz")}))
		p.mu.Lock()
		defer p.mu.Unlock()
		var m message
		if len(answers) != 1 || parseUDP(&m, answers[0]) != nil || m.code != codeChanged {
			t.Errorf("answers %x", answers)
		}
	})
}

// FuzzCaller: whatever a server answers, a client stays within its bounds and does not
// take a body for another's.
func FuzzCaller(f *testing.F) {
	r := &message{code: codeContinue}
	r.setBlock(optBlock1, block{num: 0, more: true, szx: 6})
	f.Add(appendUDP(r), appendUDP(&message{code: codeChanged}))
	d := &message{code: codeContent, payload: make([]byte, 16)}
	d.setBlock(optBlock2, block{num: 0, more: true})
	f.Add(appendUDP(d), appendUDP(d))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		l := &countingLower{}
		c := newCaller(rand.New(rand.NewPCG(1, 1)), l)
		done := 0
		now := time.Unix(0, 0)
		c.start(now, &request{Method: methodPost, Path: []string{"x"}, ContentFormat: -1, Accept: -1, Body: make([]byte, 5000)}, func(response, error) { done++ })
		for i := range 40 {
			var m message
			if parseUDP(&m, [][]byte{a, b}[i%2]) != nil || len(c.transfers) == 0 {
				break
			}
			m.token = c.transfers[0].token
			c.answer(now, &m)
		}
		for _, f := range c.takeLater() {
			f()
		}
		if done > 1 || done == 1 && len(c.transfers) > 0 || done == 0 && len(c.transfers) != 1 {
			t.Errorf("%d ends of one request, %d transfers left", done, len(c.transfers))
		}
	})
}

// countingLower takes everything.
type countingLower struct{ sent int }

func (l *countingLower) ready() bool { return true }
func (l *countingLower) send(time.Time, *message) *outgoing {
	l.sent++
	return &outgoing{}
}
func (l *countingLower) cancel(time.Time, *outgoing) {}
