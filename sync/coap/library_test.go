package coap

import (
	"bytes"
	"testing"

	library "github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/tcp/coder"
	udpcoder "github.com/plgd-dev/go-coap/v3/udp/coder"
)

// TestCodecAgainstLibrary: another implementation reads what ours writes, and writes
// the same.
func TestCodecAgainstLibrary(t *testing.T) {
	m := &message{kind: confirmable, code: methodPost, id: 0x1234, token: []byte("token123"), payload: pattern(1000)}
	for _, p := range []string{"ea", "v1", "default", "a-name-that-needs-an-extended-length", "d", "live"} {
		m.addString(optURIPath, p)
	}
	m.addUint(optContentFormat, formatBlock)
	m.setBlock(optBlock1, block{num: 1000, more: true, szx: 6})
	m.add(optRequestTag, []byte("tag"))
	m.addUint(optSize1, 1<<20)
	m.addString(optURIQuery, string(pattern(255)))

	var got library.Message
	got.Options = make(library.Options, 0, 16)
	b := appendUDP(m)
	if _, err := udpcoder.DefaultCoder.Decode(b, &got); err != nil {
		t.Fatal(err)
	}
	path, err := got.Options.Path()
	if err != nil || path != "/ea/v1/default/a-name-that-needs-an-extended-length/d/live" {
		t.Errorf("path %q, %v", path, err)
	}
	if got.Code != codes.POST || got.MessageID != 0x1234 || string(got.Token) != "token123" || !bytes.Equal(got.Payload, m.payload) {
		t.Errorf("the library reads %v", got)
	}
	back := make([]byte, 4096)
	n, err := udpcoder.DefaultCoder.Encode(got, back)
	if err != nil || !bytes.Equal(back[:n], b) {
		t.Errorf("the library writes %d other bytes, %v", n, err)
	}
	n, err = coder.DefaultCoder.Encode(got, back)
	if err != nil || !bytes.Equal(back[:n], appendTCP(nil, m)) {
		t.Errorf("the library writes %d other bytes over TCP, %v", n, err)
	}
}
