package buffer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// lettersOf lists the dead letters and what is in them: the values by number.
func lettersOf(t testing.TB, b *Buffer, dest string) ([]DeadLetter, map[edgeagent.Seq]float64) {
	t.Helper()
	list, err := b.DeadLetters(dest)
	if err != nil {
		t.Fatal(err)
	}
	values := map[edgeagent.Seq]float64{}
	var dec block.Decoder
	for _, x := range list {
		named := map[uint32]bool{}
		err := b.ReadDeadLetter(x, func(blk []byte) error {
			h, err := block.Check(blk)
			if err != nil {
				return err
			}
			if h.Kind == block.KindSeries {
				_, _, list, _, err := dec.Series(blk)
				for _, e := range list {
					named[e.ID] = true
				}
				return err
			}
			rows, _, err := dec.Readings(nil, blk)
			for i, row := range rows {
				if !named[row.Series] {
					t.Errorf("series %d is not defined in %s", row.Series, x.File)
				}
				values[h.First+edgeagent.Seq(i)] = row.Value
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return list, values
}

func TestDeadLetterIsCopiedAndNamed(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	const odd = "../cloud one"
	register(t, b, odd)
	register(t, b, "other")
	mustAppend(t, b, 0, 100)
	if err := b.Ack(t.Context(), odd, b.Epoch(), telemetry, []edgeagent.Range{{From: 1, To: 10}}); err != nil {
		t.Fatal(err)
	}
	version, others := b.MarksVersion(odd), b.MarksVersion("other")
	if err := b.DeadLetter(t.Context(), odd, b.Epoch(), telemetry, edgeagent.Range{From: 5, To: 20}, "payload format invalid"); err != nil {
		t.Fatal(err)
	}
	if b.MarksVersion(odd) == version || b.MarksVersion("other") != others {
		t.Error("marks change for one destination and not for the other")
	}
	want := map[edgeagent.Seq]float64{}
	for n := 11; n <= 20; n++ {
		want[edgeagent.Seq(n)] = float64(n - 1)
	}
	for _, when := range []string{"at once", "after a reopen"} {
		ms := marksOf(t, b, odd, b.Epoch()).Streams[telemetry]
		gap := block.Gap{From: 11, To: 20, Reason: "dead_letter", AtMost: 10, TFrom: 10e9, TTo: 19e9}
		if diff := cmp.Diff([]block.Gap{gap}, ms.Gaps); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
		if gaps := marksOf(t, b, "other", b.Epoch()).Streams[telemetry].Gaps; len(gaps) != 0 {
			t.Errorf("%s: another destination is told of %+v", when, gaps)
		}
		if n, m := cursorOf(t, b, odd).Unconfirmed(), cursorOf(t, b, "other").Unconfirmed(); n != 80 || m != 100 {
			t.Errorf("%s: %d and %d unconfirmed", when, n, m)
		}
		list, values := lettersOf(t, b, odd)
		if diff := cmp.Diff(want, values); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
		if len(list) != 1 || list[0].Cause != "payload format invalid" || list[0].Records != 10 || list[0].From != 11 || list[0].To != 20 {
			t.Errorf("%s: letters %+v", when, list)
		}
		if list, _ := lettersOf(t, b, "other"); len(list) != 0 {
			t.Errorf("%s: letters of another: %+v", when, list)
		}
		closeBuffer(t, b)
		b = open(t, dir, options())
		register(t, b, odd)
		register(t, b, "other")
	}
	if entries, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(entries) != 1 {
		t.Errorf("files outside the directory: %v, %v", entries, err)
	}
	// Once more is no error and nothing new.
	version = b.MarksVersion(odd)
	if err := b.DeadLetter(t.Context(), odd, b.Epoch(), telemetry, edgeagent.Range{From: 5, To: 20}, "again"); err != nil {
		t.Fatal(err)
	}
	if list, _ := lettersOf(t, b, ""); len(list) != 1 || b.MarksVersion(odd) != version {
		t.Errorf("given up twice: %+v", list)
	}
	closeBuffer(t, b)
	r := readOnly(t, dir)
	if list, err := r.DeadLetters(""); err != nil || len(list) != 1 {
		t.Errorf("read only: %v, %v", list, err)
	}
}

func TestDeadLetterRefusesWhatWasNotGiven(t *testing.T) {
	b := open(t, t.TempDir(), options())
	register(t, b, "cloud")
	mustAppend(t, b, 0, 10)
	for name, call := range map[string]func() error{
		"next": func() error {
			return b.DeadLetter(t.Context(), "cloud", b.Epoch(), telemetry, edgeagent.Range{From: 5, To: 11}, "")
		},
		"nobody": func() error {
			return b.DeadLetter(t.Context(), "x", b.Epoch(), telemetry, edgeagent.Range{From: 5, To: 6}, "")
		},
		"epoch": func() error {
			return b.DeadLetter(t.Context(), "cloud", 7, telemetry, edgeagent.Range{From: 5, To: 6}, "")
		},
		"reverse": func() error {
			return b.DeadLetter(t.Context(), "cloud", b.Epoch(), telemetry, edgeagent.Range{From: 6, To: 5}, "")
		},
	} {
		if call() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDeadLettersStayWithinTheirBound(t *testing.T) {
	o := options()
	o.MaxBytes = 8 << 20
	b := open(t, t.TempDir(), o)
	register(t, b, "cloud")
	if _, err := b.Append(t.Context(), noise(0, 200_000)); err != nil {
		t.Fatal(err)
	}
	// One call takes more than all letters may have.
	if err := b.DeadLetter(t.Context(), "cloud", b.Epoch(), telemetry, edgeagent.Range{From: 1, To: 200_000}, "too many"); err != nil {
		t.Fatal(err)
	}
	if n := deadBytes(b.dir); n == 0 || n > b.maxDeadBytes() {
		t.Errorf("dead letters take %d bytes, at most %d", n, b.maxDeadBytes())
	}
	list, values := lettersOf(t, b, "cloud")
	if len(list) < 2 || list[len(list)-1].To != 200_000 {
		t.Fatalf("%d letters", len(list))
	}
	if len(values) == 0 || values[200_000] == 0 {
		t.Error("the newest are not there")
	}
	if n := cursorOf(t, b, "cloud").Unconfirmed(); n != 0 {
		t.Errorf("%d unconfirmed", n)
	}
	if used := b.Stats().Used; used > int64(o.MaxBytes) || used < deadBytes(b.dir) {
		t.Errorf("%d bytes used", used)
	}
}

func TestDeadLetterWithoutRoomIsGivenUpAllTheSame(t *testing.T) {
	o := options()
	full := false
	o.space = func(string) (uint64, uint64, bool) {
		if full {
			return 0, 1 << 40, true
		}
		return 1 << 40, 1 << 40, true
	}
	b := open(t, t.TempDir(), o)
	register(t, b, "cloud")
	mustAppend(t, b, 0, 10)
	full = true
	if err := b.DeadLetter(t.Context(), "cloud", b.Epoch(), telemetry, edgeagent.Range{From: 1, To: 4}, "no"); err != nil {
		t.Fatal(err)
	}
	list, _ := lettersOf(t, b, "")
	if n := cursorOf(t, b, "cloud").Unconfirmed(); n != 6 || len(list) != 0 {
		t.Errorf("%d unconfirmed, letters %v", n, list)
	}
}

func TestDeadLetterThatIsNotStoredChangesNothing(t *testing.T) {
	fail := false
	o := options()
	o.faults = failCommits(&fail)
	b := open(t, t.TempDir(), o)
	register(t, b, "cloud")
	mustAppend(t, b, 0, 10)
	fail = true
	if err := b.DeadLetter(t.Context(), "cloud", b.Epoch(), telemetry, edgeagent.Range{From: 1, To: 4}, "no"); err == nil {
		t.Fatal("no error")
	}
	if n := cursorOf(t, b, "cloud").Unconfirmed(); n != 10 || len(b.Gaps()) != 0 {
		t.Errorf("%d unconfirmed, gaps %v", n, b.Gaps())
	}
	fail = false
	if err := b.DeadLetter(t.Context(), "cloud", b.Epoch(), telemetry, edgeagent.Range{From: 1, To: 4}, "no"); err != nil {
		t.Fatal(err)
	}
	if list, values := lettersOf(t, b, "cloud"); len(list) != 1 || len(values) != 4 {
		t.Errorf("letters %v", list)
	}
}

func TestDamagedDeadLetter(t *testing.T) {
	b := open(t, t.TempDir(), options())
	register(t, b, "cloud")
	mustAppend(t, b, 0, 10)
	if err := b.DeadLetter(t.Context(), "cloud", b.Epoch(), telemetry, edgeagent.Range{From: 1, To: 4}, "no"); err != nil {
		t.Fatal(err)
	}
	list, _ := lettersOf(t, b, "")
	path := filepath.Join(b.dir, filepath.FromSlash(list[0].File))
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-1] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.ReadDeadLetter(list[0], func([]byte) error { return nil }); err == nil {
		t.Error("a damaged letter was read")
	}
	if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".tmp", []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	after, err := b.DeadLetters("cloud")
	if err != nil || len(after) != 1 || !strings.Contains(after[0].Cause, "no first line") {
		t.Errorf("letters %+v, %v", after, err)
	}
	if err := b.ReadDeadLetter(DeadLetter{File: "../../etc/passwd"}, nil); err == nil {
		t.Error("a file outside the directory was read")
	}
	if err := b.DeadLetter(t.Context(), "cloud", b.Epoch(), telemetry, edgeagent.Range{From: 5, To: 5}, "no"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path + ".tmp"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a crash left is still there: %v", err)
	}
}

func FuzzParseDead(f *testing.F) {
	f.Add([]byte("{\"destination\":\"a\",\"stream\":\"alarm\"}\nEB"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		_, body, err := parseDead(content)
		if err != nil && !errors.Is(err, segment.ErrDamaged) {
			t.Errorf("error %v", err)
		}
		if err == nil && len(body) >= len(content) {
			t.Error("the body is not behind the first line")
		}
	})
}
