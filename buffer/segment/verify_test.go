package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

// TestVerifyPassesWhatBoltWrites: random lives of a file, deletes and overwrites
// included, must never be called damaged, and every value must be visited.
func TestVerifyPassesWhatBoltWrites(t *testing.T) {
	for seed := range uint64(10) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		path := filepath.Join(t.TempDir(), "x")
		db, err := openBolt(path, false, 0)
		if err != nil {
			t.Fatal(err)
		}
		db.NoSync = true
		want := map[string]string{}
		for range 1 + rnd.IntN(60) {
			err := db.Update(func(tx *bbolt.Tx) error { return randomChanges(tx, rnd, want) })
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		err = Verify(path, func(bucket string, k, v []byte) error {
			got[bucket+string(k)] = string(v)
			return nil
		})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if len(got) != len(want) {
			t.Errorf("seed %d: %d values, want %d", seed, len(got), len(want))
		}
		for k, v := range want {
			if got[k] != v {
				t.Fatalf("seed %d: %x holds %x, want %x", seed, k, got[k], v)
			}
		}
	}
}

func randomChanges(tx *bbolt.Tx, rnd *rand.Rand, want map[string]string) error {
	name := []byte{'a' + byte(rnd.IntN(3))}
	b, err := tx.CreateBucketIfNotExists(name)
	if err != nil {
		return err
	}
	for range rnd.IntN(200) {
		k := binary.BigEndian.AppendUint32(nil, rnd.Uint32N(2000))
		if rnd.IntN(3) == 0 {
			delete(want, string(name)+string(k))
			if err := b.Delete(k); err != nil {
				return err
			}
			continue
		}
		v := bytes.Repeat([]byte{byte(rnd.Uint32())}, rnd.IntN([]int{10, 300, 9000}[rnd.IntN(3)]))
		want[string(name)+string(k)] = string(v)
		if err := b.Put(k, v); err != nil {
			return err
		}
	}
	return nil
}

// image returns the bytes of a segment with a few pages of everything.
func image(t testing.TB) []byte {
	t.Helper()
	s := create(t, t.TempDir())
	for i := range 40 {
		if err := s.Append([]Block{block(i*10+1, 50+i*i*7)}, [][]byte{bytes.Repeat([]byte("s"), i*3)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	return b[:s.Used()]
}

// TestDamageIsNeverFatal: whatever happens to a file, Verify says so or bbolt can
// read it to the end.
func TestDamageIsNeverFatal(t *testing.T) {
	good := image(t)
	if err := verify(bytes.NewReader(good), int64(len(good)), nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x")
	found := 0
	for i := range 1200 {
		rnd := rand.New(rand.NewPCG(uint64(i), 3))
		b := bytes.Clone(good)
		for range 1 + rnd.IntN(3) {
			// Heads of pages and elements are where it hurts.
			at := rnd.IntN(len(b)/pageSize)*pageSize + rnd.IntN([]int{16, 100, pageSize}[rnd.IntN(3)])
			b[at] ^= byte(1 + rnd.IntN(255))
		}
		if rnd.IntN(10) == 0 {
			b = b[:rnd.IntN(len(b))]
		}
		err := verify(bytes.NewReader(b), int64(len(b)), nil)
		if errors.Is(err, ErrDamaged) {
			found++
			continue
		}
		if err != nil {
			t.Fatalf("damage %d: %v", i, err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := useAll(path); err != nil {
			t.Fatalf("damage %d was not noticed: %v", i, err)
		}
	}
	if found < 300 {
		t.Errorf("%d of 1200 damaged files were noticed", found)
	}
}

// useAll reads a file with bbolt and appends to it.
func useAll(path string) error {
	s, err := Open(path, false, 1<<20, nil)
	if err != nil {
		return err
	}
	s.db.NoSync = true
	err = s.Each(1, func(Block) bool { return true })
	if err == nil || errors.Is(err, ErrDamaged) && s.readable() {
		err = s.Append([]Block{block(100_000, 3000)}, [][]byte{{1}})
	}
	return errors.Join(err, s.Close())
}

// readable tells a key that is not ours, which is the caller's business, from a
// file that bbolt cannot read.
func (s *Segment) readable() bool {
	return guarded(s.path, func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
				return b.ForEach(func(_, _ []byte) error { return nil })
			})
		})
	}) == nil
}

func TestScanFindsBlocksAtSeams(t *testing.T) {
	const maxLen = 100
	for _, at := range []int{0, 1, 4096, 1<<20 - 100, 1<<20 - 99, 1<<20 - 1, 1 << 20, 1<<20 + 1, 2<<20 - 50} {
		data := make([]byte, 2<<20+at%7+200)
		copy(data[at:], "EB")
		data[at+2] = 90
		for i := 3; i < 90; i++ {
			data[at+i] = byte(i)
		}
		var got [][]byte
		scan(bytes.NewReader(data), []byte("EB"), maxLen, func(b []byte) int {
			if len(b) < 3 || len(b) < int(b[2]) {
				return 0
			}
			got = append(got, bytes.Clone(b[:b[2]]))
			return int(b[2])
		})
		if len(got) != 1 || !bytes.Equal(got[0], data[at:at+90]) {
			t.Errorf("at %d: found %d blocks", at, len(got))
		}
	}
}

func FuzzVerify(f *testing.F) {
	good := image(f)
	f.Add(good)
	f.Add(good[:4*pageSize])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			t.Skip("too long")
		}
		err := verify(bytes.NewReader(b), int64(len(b)), func(_ string, k, v []byte) error {
			if len(k) == 0 || len(k) > maxKey || len(v) > len(b) {
				return fmt.Errorf("key of %d bytes, value of %d", len(k), len(v))
			}
			return nil
		})
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Error(err)
			}
			return
		}
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := useAll(path); err != nil {
			t.Errorf("verified, and then: %v", err)
		}
	})
}

func FuzzScan(f *testing.F) {
	f.Add(image(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		end := 0
		scan(bytes.NewReader(b), []byte("EB"), 64, func(x []byte) int {
			if !bytes.HasPrefix(x, []byte("EB")) || len(x) > 64 {
				t.Errorf("called with %d bytes that begin with %x", len(x), x[:2])
			}
			end++
			return len(x) / 2
		})
		if n := bytes.Count(b, []byte("EB")); end > n {
			t.Errorf("%d calls for %d places", end, n)
		}
	})
}
