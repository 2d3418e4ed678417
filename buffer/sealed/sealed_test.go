package sealed

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
)

func secretOf(first byte) []byte {
	b := make([]byte, KeySize)
	for i := range b {
		b[i] = first + byte(i)*7
	}
	return b
}

func key(tb testing.TB, first byte) *Key {
	tb.Helper()
	k, err := NewKey(secretOf(first))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func TestRoundTrip(t *testing.T) {
	k := key(t, 1)
	rapid.Check(t, func(t *rapid.T) {
		plain, aad := rapid.SliceOf(rapid.Byte()).Draw(t, "plain"), rapid.SliceOf(rapid.Byte()).Draw(t, "aad")
		box := k.Seal([]byte("before"), plain, aad)
		if string(box[:6]) != "before" || len(box) != 6+len(plain)+Overhead {
			t.Fatalf("%d bytes", len(box))
		}
		got, err := k.Open([]byte("before"), box[6:], aad)
		if err != nil || string(got) != "before"+string(plain) {
			t.Fatalf("%q, %v", got, err)
		}
	})
}

// TestLayout: what is on disk must be readable by another program.
func TestLayout(t *testing.T) {
	secret := secretOf(1)
	k := key(t, 1)
	box := k.Seal(nil, []byte("plain"), nil)
	if string(box[:8]) != "EX\x01\x00\x05\x00\x00\x00" || !bytes.Equal(box[8:16], k.id[:]) {
		t.Errorf("header %x", box[:16])
	}
	if n, ok := BoxSize(append(slices.Clip(box), "what follows"...)); n != len(box) || !ok {
		t.Errorf("size %d, %t", n, ok)
	}
	if bytes.Contains(box, []byte("plain")) || bytes.Contains(box, secret[:4]) {
		t.Error("the box shows what is in it")
	}
	if id, err := BoxID(box); err != nil || id != k.ID() {
		t.Errorf("id %s, %v", id, err)
	}
	if got, want := k.ID().String(), "8c731c199b130cb0"; got != want { // sha256sum of the key's bytes
		t.Errorf("id %s, want %s", got, want)
	}
}

func TestBoxSize(t *testing.T) {
	head := func(length string) string { return "EX\x01\x00" + length + "12345678" }
	tests := []struct {
		name, b string
		want    int // 0: none
	}{
		{"empty box", head("\x00\x00\x00\x00"), Overhead},
		{"longer than what is there", head("\x00\x01\x00\x00"), 256 + Overhead},
		{"the longest", head("\xd3\xff\xff\x7f"), 1<<31 - 1},
		{"beyond 31 bits", head("\xd4\xff\xff\x7f"), 0},
		{"beyond 31 bits by far", head("\xff\xff\xff\xff"), 0},
		{"cut short", head("\x00\x00\x00\x00")[:headerSize-1], 0},
		{"another version", "EX\x02\x00" + head("\x00\x00\x00\x00")[4:], 0},
		{"a block", "EB\x01\x00" + head("\x00\x00\x00\x00")[4:], 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if n, ok := BoxSize([]byte(test.b)); n != test.want || ok != (test.want > 0) {
				t.Errorf("%d, %t", n, ok)
			}
		})
	}
}

// TestNonces: no two boxes are the same, whatever is in them.
func TestNonces(t *testing.T) {
	k := key(t, 1)
	seen := map[string]bool{}
	for range 5000 {
		n := string(k.Seal(nil, []byte("same"), []byte("place"))[headerSize:][:nonceSize])
		if seen[n] {
			t.Fatal("a nonce came twice")
		}
		seen[n] = true
	}
}

// TestFlippedBits: no bit can change unnoticed, but for those of the key's id,
// which the box does not need.
func TestFlippedBits(t *testing.T) {
	k := key(t, 1)
	plain, aad := []byte("the quick brown fox"), []byte("place")
	box := k.Seal(nil, plain, aad)
	for bit := range 8 * len(box) {
		box[bit/8] ^= 1 << (bit % 8)
		got, err := k.Open([]byte("x"), box, aad)
		switch at := bit / 8; {
		case at < 4:
			if !errors.Is(err, ErrNotBox) || string(got) != "x" {
				t.Errorf("bit %d of magic or version: %q, %v", bit, got, err)
			}
		case at >= idAt && at < headerSize:
			if err != nil || string(got) != "x"+string(plain) {
				t.Errorf("bit %d of the id: %q, %v", bit, got, err)
			}
		default:
			if !errors.Is(err, ErrDamaged) || string(got) != "x" {
				t.Errorf("bit %d: %q, %v", bit, got, err)
			}
		}
		box[bit/8] ^= 1 << (bit % 8)
	}
	for n := range box {
		if _, err := k.Open(nil, box[:n], aad); err == nil {
			t.Errorf("opened %d of %d bytes", n, len(box))
		}
	}
	if _, err := k.Open(nil, append(box, 0), aad); !errors.Is(err, ErrDamaged) {
		t.Errorf("a byte more: %v", err)
	}
}

func TestWrongKeyAndPlace(t *testing.T) {
	k := key(t, 1)
	box := k.Seal(nil, []byte("plain"), []byte("place"))
	if _, err := key(t, 2).Open(nil, box, []byte("place")); !errors.Is(err, ErrKey) {
		t.Errorf("another key: %v", err)
	}
	for _, aad := range []string{"", "plac", "place ", "elsewhere"} {
		if _, err := k.Open(nil, box, []byte(aad)); !errors.Is(err, ErrDamaged) {
			t.Errorf("place %q: %v", aad, err)
		}
	}
	for _, b := range []string{"", "E", "EB", "EB\x01\x01 a block that is not sealed, and long enough"} {
		if _, err := k.Open(nil, []byte(b), nil); !errors.Is(err, ErrNotBox) {
			t.Errorf("%q: %v", b, err)
		}
	}
}

func TestKeyDoesNotPrint(t *testing.T) {
	secret := secretOf(1)
	k := key(t, 1)
	holder := struct{ Key *Key }{k}
	for _, s := range []string{
		fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s %q %x", k, k, k, k, k, k), fmt.Sprintf("%+v %#v", holder, holder),
		k.LogValue().String(),
	} {
		for _, form := range []string{string(secret[:4]), hex.EncodeToString(secret[:4]), "1 8 15 22"} {
			if strings.Contains(s, form) {
				t.Errorf("%q shows the key", s)
			}
		}
	}
}

func TestLoadKey(t *testing.T) {
	secret := secretOf(1)
	std, url := base64.StdEncoding, base64.URLEncoding
	odd := secretOf(251) // its base64 has characters of one alphabet only
	tests := []struct {
		name, content string
		want          []byte // nil: refused
	}{
		{"raw", string(secret), secret},
		{"raw, white space at the ends", "\n" + string(secret[:30]) + " ", append(append([]byte{'\n'}, secret[:30]...), ' ')},
		{"hex", hex.EncodeToString(secret), secret},
		{"upper case hex and a line end", strings.ToUpper(hex.EncodeToString(secret)) + "\r\n", secret},
		{"base64", std.EncodeToString(secret) + "\n", secret},
		{"base64 without padding", strings.TrimRight(std.EncodeToString(secret), "="), secret},
		{"base64, standard alphabet", std.EncodeToString(odd), odd},
		{"base64, the other alphabet", url.EncodeToString(odd), odd},
		{"empty", "", nil},
		{"31 bytes", string(secret[:31]), nil},
		{"32 bytes and a line end", string(secret) + "\n", nil},
		{"32 hex digits", hex.EncodeToString(secret[:16]), nil},
		{"62 hex digits", hex.EncodeToString(secret[:31]), nil},
		{"base64 of 31 bytes", std.EncodeToString(secret[:31]), nil},
		{"a passphrase", "correct horse battery staple", nil},
		{"zeros", string(make([]byte, 32)), nil},
		{"zeros in hex", strings.Repeat("0", 64), nil},
		{"a large file", strings.Repeat("ab", 5000), nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			k, err := LoadKey(path)
			if test.want == nil {
				if err == nil || hint(err) == "" || !strings.Contains(err.Error(), path) {
					t.Fatalf("%v (hint %q)", err, hint(err))
				}
				if len(test.content) > 8 && strings.Contains(err.Error(), test.content[:8]) {
					t.Errorf("the error shows the file: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want, err := NewKey(test.want); err != nil || want.ID() != k.ID() {
				t.Errorf("another key than the file's: %v", err)
			}
		})
	}
}

func hint(err error) string {
	if h, ok := errors.AsType[edgeagent.Hinter](err); ok {
		return h.Hint()
	}
	return ""
}

func TestKeyFileOfOthers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such permissions")
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, secretOf(1), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o700: true, 0o640: false, 0o604: false, 0o620: false, 0o602: false, 0o610: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKey(path)
		if (err == nil) != ok {
			t.Errorf("mode %04o: %v", mode, err)
		}
		if !ok && hint(err) != "chmod 600 "+path {
			t.Errorf("mode %04o: hint %q", mode, hint(err))
		}
	}
}

func TestKeyFileThatIsNone(t *testing.T) {
	dir := t.TempDir()
	if _, err := LoadKey(dir); err == nil {
		t.Error("a directory is taken for a key")
	}
	_, err := LoadKey(filepath.Join(dir, "missing"))
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(hint(err), "restore") {
		t.Errorf("%v (hint %q)", err, hint(err))
	}
}

func TestLoadCredential(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := LoadCredential("buffer-key"); err == nil || !strings.Contains(hint(err), "LoadCredential=buffer-key:") {
		t.Errorf("%v (hint %q)", err, hint(err))
	}
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	// systemd shows the mask of an access list as the group's permissions.
	if err := os.WriteFile(filepath.Join(dir, "buffer-key"), secretOf(1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "buffer-key"), 0o440); err != nil {
		t.Fatal(err)
	}
	k, err := LoadCredential("buffer-key")
	if err != nil || k.ID() != key(t, 1).ID() {
		t.Errorf("%v, %v", k, err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "../key", "/etc/passwd"} {
		if _, err := LoadCredential(name); err == nil {
			t.Errorf("credential %q was read", name)
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	k := key(t, 1)
	plain, aad := make([]byte, 4096), []byte("place")
	var box, got []byte
	allocs := testing.AllocsPerRun(50, func() {
		var err error
		box = k.Seal(box[:0], plain, aad)
		if got, err = k.Open(got[:0], box, aad); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

// FuzzOpen: no bytes are a box but those that were sealed.
func FuzzOpen(f *testing.F) {
	k := key(f, 1)
	f.Add([]byte{}, []byte{})
	f.Add(k.Seal(nil, nil, nil)[:Overhead-1], []byte{})
	f.Add(key(f, 2).Seal(nil, []byte("plain"), nil), []byte("place"))
	f.Add([]byte("EX\x01\x00\x05\x00\x00\x00 key id nonce nonce a tag of sixteen by"), []byte{})
	f.Fuzz(func(t *testing.T, box, aad []byte) {
		got, err := k.Open([]byte("x"), box, aad)
		if err == nil {
			t.Errorf("opened %x to %q", box, got[1:])
		}
		if string(got) != "x" {
			t.Errorf("a refusal left %q", got)
		}
		if n, ok := BoxSize(box); ok && n < Overhead {
			t.Errorf("a box of %d bytes", n)
		}
	})
}

// The size of a block of 4,096 readings of the gateway set.
const (
	blockSize     = 3900
	blockReadings = 4096
)

func BenchmarkSeal(b *testing.B) {
	k := key(b, 1)
	plain, aad := make([]byte, blockSize), []byte("12345678")
	var box []byte
	b.ReportAllocs()
	b.SetBytes(blockSize)
	for b.Loop() {
		box = k.Seal(box[:0], plain, aad)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*blockReadings), "ns/reading")
}

func BenchmarkOpen(b *testing.B) {
	k := key(b, 1)
	aad := []byte("12345678")
	box := k.Seal(nil, make([]byte, blockSize), aad)
	var plain []byte
	b.ReportAllocs()
	b.SetBytes(blockSize)
	for b.Loop() {
		var err error
		if plain, err = k.Open(plain[:0], box, aad); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*blockReadings), "ns/reading")
}
