package buffer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

// encrypted are options with a key of its own for each number.
func encrypted(t testing.TB, key byte) Options {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(hex.EncodeToString(bytes.Repeat([]byte{key, 0x5A}, 16))), 0o600); err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Encryption = Encryption{KeyFile: path}
	return o
}

// marker stands in the names and texts that must not be found on the disk.
const marker = "VERYSECRET"

// fillWithMarkers makes a buffer that has something in every kind of file: sealed
// segments of all streams, records that only the head log has, dead letters,
// cursors, quarantine.
func fillWithMarkers(t *testing.T, dir string, o Options) {
	t.Helper()
	ctx := t.Context()
	b := open(t, dir, o)
	register(t, b, "cloud")
	readings := func(n int) []edgeagent.Reading {
		rs := make([]edgeagent.Reading, n)
		for i := range rs {
			key := edgeagent.SeriesKey{
				Sensor: fmt.Sprintf("%s-sensor-%d", marker, i%3), Metric: "temperature",
				Tags: edgeagent.MakePairs(map[string]string{"room": marker}),
			}
			rs[i] = edgeagent.Reading{Series: edgeagent.NewSeries(key), Value: float64(i), Recorded: true, At: edgeagent.Instant{Wall: int64(i) * 1e9}}
		}
		return rs
	}
	events := []edgeagent.Event{{Kind: marker, Text: marker + " text", Attrs: map[string]string{"secret": marker}}}
	for range 2 { // the second half stays in the head log
		last, err := b.Append(ctx, readings(500))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []edgeagent.Stream{edgeagent.StreamAlarm, edgeagent.StreamEvent} {
			if _, err := b.AppendEvents(ctx, s, events); err != nil {
				t.Fatal(err)
			}
		}
		if last == 500 {
			flush(t, b)
			letter := edgeagent.Range{From: 5, To: 20}
			if err := b.DeadLetter(ctx, "cloud", b.Epoch(), edgeagent.StreamTelemetry, letter, marker+" is refused"); err != nil {
				t.Fatal(err)
			}
			if err := b.Ack(ctx, "cloud", b.Epoch(), edgeagent.StreamTelemetry, []edgeagent.Range{{From: 30, To: 40}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := b.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	b.crash()
}

// filesWith returns the files below dir that hold text.
func filesWith(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			found = append(found, filepath.Base(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestNothingPlainOnTheDisk: no name of a series and no text of an event stands in
// any file, and they do without a key.
func TestNothingPlainOnTheDisk(t *testing.T) {
	dir := t.TempDir()
	fillWithMarkers(t, dir, encrypted(t, 1))
	if found := filesWith(t, dir, marker); len(found) > 0 {
		t.Errorf("plain text in %v", found)
	}
	// A payload of readings begins with numbers; the magic of blocks is plain text
	// enough. A chance hit takes 2^32 bytes.
	if found := filesWith(t, dir, "EB\x02\x01"); len(found) > 0 {
		t.Errorf("plain blocks in %v", found)
	}
	open := t.TempDir()
	fillWithMarkers(t, open, plain())
	want := []string{"head-0", "state.db"}
	found := filesWith(t, open, marker)
	for _, w := range want {
		if !strings.Contains(strings.Join(found, " "), w) {
			t.Errorf("the search finds nothing in %s of a plain buffer: the test is no good", w)
		}
	}
	if !strings.Contains(strings.Join(found, " "), ".seg") || !strings.Contains(strings.Join(found, " "), deadSuffix) {
		t.Errorf("the search finds only %v in a plain buffer: the test is no good", found)
	}
}

// TestEncryptedLooksTheSame: what comes out does not depend on the key.
func TestEncryptedLooksTheSame(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash %t", crash), func(t *testing.T) {
			dir, o := t.TempDir(), encrypted(t, 1)
			b := open(t, dir, o)
			register(t, b, "cloud")
			mustAppend(t, b, 0, 3000)
			flush(t, b)
			mustAppend(t, b, 3000, 700)
			if crash {
				b.crash()
			} else {
				closeBuffer(t, b)
			}
			r, err := OpenReadOnly(t.Context(), dir, o.Encryption)
			if err != nil {
				t.Fatal(err)
			}
			if v, err := r.Verify(t.Context()); err != nil || len(v.Problems) > 0 || v.Records != 3700 {
				t.Errorf("verify: %+v, %v", v, err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			b, report := openReport(t, dir, o)
			if diff := cmp.Diff(counted(3700), readAll(t, b, b.Epoch())); diff != "" {
				t.Error(diff)
			}
			if len(report.Gaps) != 0 || report.NewEpoch != "" || len(report.Quarantined) != 0 {
				t.Errorf("report %+v", report)
			}
			mustAppend(t, b, 3700, 10)
		})
	}
}

// digest returns what is in the files of a buffer, but for the lock.
func digest(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == lockName {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestWrongKey: without the key nothing starts, and nothing changes, whatever else
// is wrong with the buffer.
func TestWrongKey(t *testing.T) {
	right := encrypted(t, 1)
	damage := []struct {
		name string
		do   func(t *testing.T, dir string)
	}{
		{"nothing else", func(*testing.T, string) {}},
		{"state lost", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, stateFile)) }},
		{"state damaged", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, stateFile), make([]byte, 8192), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"state and head lost", func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, stateFile))
			for _, f := range headFiles {
				remove(t, filepath.Join(dir, f))
			}
		}},
		{"state and segments lost", func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, stateFile))
			remove(t, filepath.Join(dir, edgeagent.StreamTelemetry.String()))
			remove(t, filepath.Join(dir, edgeagent.StreamAlarm.String()))
			remove(t, filepath.Join(dir, edgeagent.StreamEvent.String()))
		}},
	}
	for _, d := range damage {
		for name, o := range map[string]Options{"no key": plain(), "another key": encrypted(t, 2)} {
			t.Run(d.name+"/"+name, func(t *testing.T) {
				dir := t.TempDir()
				fillWithMarkers(t, dir, right)
				d.do(t, dir)
				before := digest(t, dir)
				check := func(what string, err error) {
					t.Helper()
					if !errors.Is(err, ErrKey) || !strings.Contains(hintOf(err), "--key-file") {
						t.Errorf("%s: %v (hint %q)", what, err, hintOf(err))
					}
				}
				_, err := OpenReadOnly(t.Context(), dir, o.Encryption)
				check("read", err)
				if diff := cmp.Diff(before, digest(t, dir)); diff != "" {
					t.Errorf("reading changed files:\n%s", diff)
				}
				b, _, err := Open(t.Context(), dir, o)
				check("open", err)
				if err == nil {
					b.crash()
				}
				if diff := cmp.Diff(before, digest(t, dir)); diff != "" {
					t.Errorf("opening changed files:\n%s", diff)
				}
				b, report := openReport(t, dir, right) // all that is left is there with the right key
				if lost := d.name != "nothing else"; lost != (report.NewEpoch != "") {
					t.Errorf("new epoch: %q", report.NewEpoch)
				}
				got := readAll(t, b, b.Epochs()[0])
				if d.name == "nothing else" && len(got) != 1000 || len(got) < 500 {
					t.Errorf("%d readings with the right key", len(got))
				}
			})
		}
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func hintOf(err error) string {
	if h, ok := errors.AsType[edgeagent.Hinter](err); ok {
		return h.Hint()
	}
	return ""
}

// TestEncryptionOfAFilledBuffer: what was written before the key stays readable,
// what comes is sealed, and from then on nothing starts without the key.
func TestEncryptionOfAFilledBuffer(t *testing.T) {
	dir, o := t.TempDir(), encrypted(t, 1)
	b := open(t, dir, plain())
	mustAppend(t, b, 0, 2000)
	flush(t, b)
	mustAppend(t, b, 2000, 300)
	b.crash()

	b = open(t, dir, o)
	mustAppend(t, b, 2300, 2000)
	flush(t, b)
	mustAppend(t, b, 4300, 300)
	if diff := cmp.Diff(counted(4600), readAll(t, b, b.Epoch())); diff != "" {
		t.Error(diff)
	}
	b.crash()
	if _, _, err := Open(t.Context(), dir, plain()); !errors.Is(err, ErrKey) {
		t.Errorf("without the key: %v", err)
	}
	b, report := openReport(t, dir, o)
	if diff := cmp.Diff(counted(4600), readAll(t, b, b.Epoch())); diff != "" || len(report.Gaps) > 0 {
		t.Error(diff, report.Gaps)
	}
}

// TestBoxesBelongToTheirPlace: a box of one kind, stream or epoch does not open as
// another.
func TestBoxesBelongToTheirPlace(t *testing.T) {
	v, err := encrypted(t, 1).Encryption.vault()
	if err != nil {
		t.Fatal(err)
	}
	boxes := [][]byte{
		boxOf(boxBlock, 1, 3), boxOf(boxBlock, 2, 3), boxOf(boxBlock, 1, 2), boxOf(boxSeries, 1, 0), boxOf(boxLetter, 0, 0),
	}
	for i, at := range boxes {
		for j, as := range boxes {
			_, err := v.open(nil, v.seal(nil, []byte("plain"), at), as)
			if (err == nil) != (i == j) {
				t.Errorf("%x as %x: %v", at, as, err)
			}
		}
	}
}

func TestEncryptionConfig(t *testing.T) {
	if err := (Encryption{KeyFile: "a", Credential: "b"}).validate(); err == nil {
		t.Error("two keys are accepted")
	}
	o := options()
	o.Encryption.KeyFile = filepath.Join(t.TempDir(), "missing")
	dir := filepath.Join(t.TempDir(), "buffer")
	if _, _, err := Open(context.Background(), dir, o); !errors.Is(err, fs.ErrNotExist) || hintOf(err) == "" {
		t.Errorf("missing key file: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, stateFile)); err == nil {
		t.Error("a buffer was made without the key that was asked for")
	}
}

// TestEncryptedAppendAllocates: sealing frames costs time and no memory.
func TestEncryptedAppendAllocatesNothing(t *testing.T) {
	b := open(t, t.TempDir(), encrypted(t, 1))
	rs := readings(0, 20)
	if _, err := b.Append(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
	control := open(t, t.TempDir(), plain())
	if _, err := control.Append(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
	count := func(b *Buffer) float64 {
		return testing.AllocsPerRun(100, func() {
			if _, err := b.Append(t.Context(), rs); err != nil {
				t.Fatal(err)
			}
		})
	}
	if sealed, open := count(b), count(control); sealed > open {
		t.Errorf("%v allocations a call, %v without a key", sealed, open)
	}
}
