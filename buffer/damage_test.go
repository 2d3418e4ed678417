package buffer

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/edgeagent/edgeagent"
)

func pageOf(rnd *rand.Rand, b []byte) []byte {
	i := rnd.IntN(len(b) / 4096)
	return b[i*4096 : (i+1)*4096]
}

func scramble(rnd *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
}

// used cuts the sparse end of a file off, where damage would hit nothing.
func used(b []byte) int {
	n := len(b)
	for n > 4096 && b[n-1] == 0 {
		n--
	}
	return (n + 4095) / 4096 * 4096
}

// Damage that comes while the buffer is open must not stop it.
func TestDamageWhileOpen(t *testing.T) {
	t.Run("plain", func(t *testing.T) { testDamageWhileOpen(t, plain(), "EB\x02\x01") })
	t.Run("encrypted", func(t *testing.T) { testDamageWhileOpen(t, encrypted(t, 1), "EX\x01\x00") })
}

func testDamageWhileOpen(t *testing.T, o Options, magic string) {
	dir := t.TempDir()
	b := open(t, dir, o)
	register(t, b, "cloud")
	for i := range 10 {
		mustAppend(t, b, i*300, 300)
		flush(t, b)
	}
	ch := b.newest().streams[edgeagent.StreamTelemetry]
	sg := ch.open
	b.disk.Lock()
	b.seal(ch)
	b.disk.Unlock()
	sg.io.Lock()
	if err := b.closeHandle(sg); err != nil {
		t.Fatal(err)
	}
	sg.io.Unlock()
	data, err := os.ReadFile(sg.path)
	if err != nil {
		t.Fatal(err)
	}
	// The first block, wherever a copy of it stands.
	at := bytes.Index(data, []byte(magic))
	head := bytes.Clone(data[at : at+60])
	for at >= 0 {
		data[at+80] ^= 1
		next := bytes.Index(data[at+1:], head)
		if at += next + 1; next < 0 {
			at = -1
		}
	}
	if err := os.WriteFile(sg.path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := b.Cursor("cloud", edgeagent.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := drain(t, c.Live(1), edgeagent.Limit{})
	gaps := b.Gaps()
	if len(got) < 2000 || len(got) == 3000 || len(gaps) != 1 || gaps[0].Reason != Damaged || gaps[0].AtMost != uint64(3000-len(got)) {
		t.Errorf("%d readings, gaps %+v", len(got), gaps)
	}
	if n := c.Unconfirmed(); n != uint64(len(got)) {
		t.Errorf("%d unconfirmed, %d readable", n, len(got))
	}
	if h := b.Health(); h.Code != "buffer-damaged" {
		t.Errorf("health %+v", h)
	}
	if list, err := os.ReadDir(filepath.Join(dir, quarantineDir)); err != nil || len(list) != 1 {
		t.Errorf("quarantine holds %v, %v", list, err)
	}
	mustAppend(t, b, 3000, 1)
}
