package buffer

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/edgeagent/edgeagent"
)

// damages are what cards do to files.
var damages = map[string]func(rnd *rand.Rand, b []byte) []byte{
	"flipped bit": func(rnd *rand.Rand, b []byte) []byte {
		b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
		return b
	},
	"zeroed page":   func(rnd *rand.Rand, b []byte) []byte { clear(pageOf(rnd, b)); return b },
	"random page":   func(rnd *rand.Rand, b []byte) []byte { scramble(rnd, pageOf(rnd, b)); return b },
	"swapped pages": func(rnd *rand.Rand, b []byte) []byte { copy(pageOf(rnd, b), pageOf(rnd, b)); return b },
	"truncated":     func(rnd *rand.Rand, b []byte) []byte { return b[:rnd.IntN(len(b))] },
	"random sector": func(rnd *rand.Rand, b []byte) []byte { scramble(rnd, pageOf(rnd, b)[512:1024]); return b },
}

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

// TestDamagedFiles damages a file of a buffer, 240 times in six ways, after an
// orderly end and after kill -9. The buffer must open, must never give a wrong
// value or a number twice, must explain every number, and must work.
func TestDamagedFiles(t *testing.T) {
	master := filepath.Join(t.TempDir(), "master")
	b := open(t, master, options())
	register(t, b, "cloud")
	total := 0
	for i := range 30 {
		n := 20 + 37*i%200
		mustAppend(t, b, total, n)
		total += n
		flush(t, b)
		if i == 10 || i == 20 {
			b.disk.Lock()
			b.seal(b.newest().streams[edgeagent.StreamTelemetry])
			b.disk.Unlock()
		}
	}
	epoch := b.Epoch()
	killed := filepath.Join(t.TempDir(), "killed")
	copyDir(t, master, killed)
	closeBuffer(t, b)

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var lost, hits atomic.Int64
	const shards, rounds = 8, 5
	t.Run("all", func(t *testing.T) {
		for shard := range shards {
			t.Run(strconv.Itoa(shard), func(t *testing.T) {
				t.Parallel()
				for i := range rounds {
					for k, name := range slices.Sorted(maps.Keys(damages)) {
						rnd := rand.New(rand.NewPCG(seed, uint64(shard*1000+i*10+k)))
						dir := filepath.Join(t.TempDir(), "d")
						copyDir(t, []string{master, killed}[rnd.IntN(2)], dir)
						hit := damageOne(t, dir, rnd, damages[name])
						if n := checkDamaged(t, dir, epoch, total, fmt.Sprintf("shard %d, round %d, %s of %s", shard, i, name, hit)); n > 0 {
							hits.Add(1)
							lost.Add(int64(n))
						}
						if err := os.RemoveAll(dir); err != nil {
							t.Fatal(err)
						}
					}
				}
			})
		}
	})
	n := int64(shards * rounds * len(damages))
	t.Logf("of %d damaged buffers of %d readings %d lost some, %d readings each", n, total, hits.Load(), lost.Load()/max(hits.Load(), 1))
	if lost.Load() > n*int64(total)/3 {
		t.Errorf("%d of %d readings lost: salvage does not work", lost.Load(), n*int64(total))
	}
}

func damageOne(t *testing.T, dir string, rnd *rand.Rand, damage func(*rand.Rand, []byte) []byte) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "telemetry", "*.seg"))
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	files = append(files, filepath.Join(dir, stateFile))
	path := files[rnd.IntN(len(files))]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := used(b)
	if err := os.WriteFile(path, append(damage(rnd, b[:n]), b[n:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(path)
}

// checkDamaged opens a damaged buffer and returns how many readings are lost.
func checkDamaged(t *testing.T, dir string, epoch edgeagent.Epoch, total int, what string) (lost int) {
	t.Helper()
	b, _, err := Open(t.Context(), dir, options())
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	register(t, b, "cloud")
	got := readAll(t, b, epoch)
	for s, v := range got {
		if v != float64(s-1) {
			t.Fatalf("%s: number %d holds %v", what, s, v)
		}
	}
	b.mu.Lock()
	ch := b.epoch(epoch).streams[edgeagent.StreamTelemetry]
	known := ch.lostRanges()
	var promised uint64
	for _, g := range ch.gaps {
		promised += g.AtMost
	}
	b.mu.Unlock()
	for s := edgeagent.Seq(1); s <= edgeagent.Seq(total); s++ {
		if _, ok := got[s]; ok == known.Contains(s) && s < ch.next {
			t.Fatalf("%s: number %d is stored: %v, and in the ledger: %v", what, s, ok, known.Contains(s))
		}
	}
	if b.Epoch() == epoch && ch.next <= edgeagent.Seq(total) {
		t.Fatalf("%s: numbers up to %d were given, and they go on at %d", what, total, ch.next)
	}
	lost = total - len(got)
	if b.Epoch() == epoch && promised < uint64(lost) {
		t.Fatalf("%s: %d lost, the ledger says at most %d", what, lost, promised)
	}
	mustAppend(t, b, total, 10)
	closeBuffer(t, b)
	b, report, err := Open(t.Context(), dir, options())
	if err != nil {
		t.Fatalf("%s: second open: %v", what, err)
	}
	if len(report.Quarantined) > 0 || report.NewEpoch != "" || len(report.Gaps) > 0 {
		t.Fatalf("%s: the second open found %+v", what, report)
	}
	if n := len(readAll(t, b, epoch)); n < total-lost {
		t.Fatalf("%s: %d readings at first, %d after another open", what, total-lost, n)
	}
	b.crash()
	return lost
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
