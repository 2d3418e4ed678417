package buffer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// elsewhere changes parts of the identity of tests.
func elsewhere(change func(*Identity)) func(string) (Identity, error) {
	return func(dir string) (Identity, error) {
		id, err := here(dir)
		change(&id)
		return id, err
	}
}

func TestPowerCutLeavesNumbersOut(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	mustAppend(t, b, 0, 100)
	b.crash()

	o := options()
	o.Identify = elsewhere(func(id *Identity) { id.Boot = "b2" })
	b, report := openReport(t, dir, o)
	if report.Clean || report.NewEpoch != "" {
		t.Errorf("report %+v", report)
	}
	if len(report.Gaps) != 4 { // one a stream
		t.Fatalf("gaps %+v", report.Gaps)
	}
	limit := edgeagent.Seq(1 + reserveNumbers)
	g := b.Gaps()[2]
	want := Gap{
		Epoch: b.Epoch(), Stream: edgeagent.StreamTelemetry, Range: edgeagent.Range{From: 101, To: limit - 1},
		Reason: PowerCut, AtMost: maxTail/rowBytes - 100, TFrom: 99e9, TTo: g.TTo,
	}
	if diff := cmp.Diff(want, g); diff != "" {
		t.Error(diff)
	}
	if last := mustAppend(t, b, 100, 1); last != limit {
		t.Errorf("went on at %d, want %d", last, limit)
	}

	// The second time the new reservation counts, and the gaps do not merge into
	// what lies between them.
	b.crash()
	o.Identify = elsewhere(func(id *Identity) { id.Boot = "b3" })
	b = open(t, dir, o)
	if last := mustAppend(t, b, 101, 1); last != limit+reserveNumbers {
		t.Errorf("went on at %d, want %d", last, limit+reserveNumbers)
	}
	got := readAll(t, b, b.Epoch())
	if len(got) != 102 || got[limit] != 100 || got[limit+reserveNumbers] != 101 {
		t.Errorf("%d records, at the limits %v and %v", len(got), got[limit], got[limit+reserveNumbers])
	}
}

func TestCleanEndSurvivesPowerCut(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	mustAppend(t, b, 0, 10)
	closeBuffer(t, b)
	o := options()
	o.Identify = elsewhere(func(id *Identity) { id.Boot, id.Mount = "b2", "9" })
	b, report := openReport(t, dir, o)
	if !report.Clean || len(report.Gaps) > 0 {
		t.Errorf("report %+v", report)
	}
	if last := mustAppend(t, b, 10, 1); last != 11 {
		t.Errorf("went on at %d, want 11", last)
	}
}

// TestEpochEndsWithItsLoss: an epoch that a crash and a lost file end may have lost its
// last records. Nobody gives numbers in it any more, and still what it held is not
// complete.
func TestEpochEndsWithItsLoss(t *testing.T) {
	tests := []struct {
		name   string
		remove []string
		reboot bool
		reason Reason
	}{
		{"state and head log", []string{stateFile, headFiles[0], headFiles[1]}, false, Missing},
		{"state, power cut", []string{stateFile}, true, PowerCut},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir, options())
			old := b.Epoch()
			mustAppend(t, b, 0, 20)
			flush(t, b)
			mustAppend(t, b, 20, 10)
			b.crash()
			for _, name := range tt.remove {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			o := options()
			if tt.reboot {
				o.Identify = elsewhere(func(id *Identity) { id.Boot = "b2" })
			}
			b, report := openReport(t, dir, o)
			var found []Gap
			for _, g := range b.Gaps() {
				if g.Epoch == old && g.Stream == edgeagent.StreamTelemetry {
					found = append(found, g)
				}
				if g.Epoch != old {
					t.Errorf("gap in the new epoch: %+v", g)
				}
			}
			after := edgeagent.Seq(len(readAll(t, b, old)) + 1)
			if len(found) != 1 || found[0].From != after || found[0].To < 30 || found[0].Reason != tt.reason ||
				found[0].AtMost != found[0].Len() || found[0].AtMost > maxTail/rowBytes {
				t.Fatalf("%+v, want one gap %s from %d; report %+v", found, tt.reason, after, report)
			}
			closeBuffer(t, b)
			_, report = openReport(t, dir, o)
			if report.NewEpoch != "" || len(report.Gaps) > 0 {
				t.Errorf("opened again: %+v", report)
			}
		})
	}
}

func TestNewEpochWhenMoved(t *testing.T) {
	moves := map[string]func(*Identity){
		"machine":  func(id *Identity) { id.Machine = "m2" },
		"board":    func(id *Identity) { id.Hardware = "h2" },
		"copied":   func(id *Identity) { id.Inode = "2" },
		"disk":     func(id *Identity) { id.FS = "f2" },
		"put back": func(id *Identity) { id.Lock = "l2" },
	}
	for name, move := range moves {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir, options())
			old := b.Epoch()
			mustAppend(t, b, 0, 20)
			closeBuffer(t, b)
			clone := filepath.Join(t.TempDir(), "clone")
			copyDir(t, dir, clone)
			o := options()
			o.Identify = elsewhere(move)
			b, report := openReport(t, clone, o)
			if b.Epoch() == old || report.NewEpoch == "" {
				t.Fatalf("no new epoch; report %+v", report)
			}
			if last := mustAppend(t, b, 0, 5); last != 5 {
				t.Errorf("new epoch begins at %d", last)
			}
			if diff := cmp.Diff(counted(20), readAll(t, b, old)); diff != "" {
				t.Error(diff)
			}
			register(t, b, "cloud")
			c, err := b.Cursor("cloud", edgeagent.StreamTelemetry)
			if err != nil {
				t.Fatal(err)
			}
			_, next := c.Head()
			_, batches := drain(t, &Reader{b: b, stream: c.stream, dest: c.dest, parts: c.Backlog(next, nil).parts[:1]}, edgeagent.Limit{})
			if len(batches) != 1 || batches[0].Epoch != old {
				t.Errorf("backlog begins with %v", batches)
			}
		})
	}
}

// TestPutBackInPlace: files that are put back from a copy, into the very directory
// they were copied from, begin a new epoch: numbers given since the copy was made
// must not be given again.
func TestPutBackInPlace(t *testing.T) {
	dir, saved := t.TempDir(), filepath.Join(t.TempDir(), "saved")
	o := options()
	o.Identify = systemIdentity
	b := open(t, dir, o)
	old := b.Epoch()
	mustAppend(t, b, 0, 20)
	closeBuffer(t, b)
	if id, err := systemIdentity(dir); err != nil || id.Lock == "" {
		if runtime.GOOS == "linux" {
			t.Fatalf("files have no identity: %v", err)
		}
		t.Skip("files have an identity on Linux only")
	}
	copyDir(t, dir, saved)
	b = open(t, dir, o)
	if b.Epoch() != old {
		t.Fatal("a new epoch without a reason")
	}
	mustAppend(t, b, 20, 30)
	closeBuffer(t, b)
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	copyDir(t, saved, dir)
	b, report := openReport(t, dir, o)
	if b.Epoch() == old || report.NewEpoch == "" {
		t.Errorf("the restored buffer goes on as if nothing had happened; report %+v", report)
	}
	if diff := cmp.Diff(counted(20), readAll(t, b, old)); diff != "" {
		t.Error(diff)
	}
}

func TestUnreadableIdentityIsNotCompared(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	epoch := b.Epoch()
	closeBuffer(t, b)
	o := options()
	o.Identify = elsewhere(func(id *Identity) { id.Machine, id.Hardware, id.FS = "", "", "" })
	if b := open(t, dir, o); b.Epoch() != epoch {
		t.Error("a part that cannot be read made a new epoch")
	}
}

func TestSystemIdentityIsStable(t *testing.T) {
	dir := t.TempDir()
	a, err := systemIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := systemIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}
	if _, err := systemIdentity(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there has an identity")
	}
}

func TestStateLostMakesNewEpoch(t *testing.T) {
	damages := map[string]func(string) error{
		"missing":   os.Remove,
		"truncated": func(p string) error { return os.Truncate(p, 5000) },
		"empty":     func(p string) error { return os.Truncate(p, 0) },
		"zeroed": func(p string) error {
			return os.WriteFile(p, make([]byte, 65536), 0o600)
		},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir, options())
			old := b.Epoch()
			mustAppend(t, b, 0, 300)
			closeBuffer(t, b)
			if err := damage(filepath.Join(dir, stateFile)); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second open finds the series in the new state
				b, _ = openReport(t, dir, options())
				if b.Epoch() == old {
					t.Fatal("the old epoch goes on")
				}
				if diff := cmp.Diff(counted(300), readAll(t, b, old)); diff != "" {
					t.Fatal(diff)
				}
				blocks, err := b.SeriesBlocks(old, 0, 100, 0)
				if err != nil || len(blocks) != 1 || blocks[0].MaxID != 7 {
					t.Errorf("series of the old epoch: %d blocks, %v", len(blocks), err)
				}
				closeBuffer(t, b)
			}
		})
	}
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	// A store is a file like a segment; only what it says of itself differs.
	write := func(path, format string) error {
		st, _, err := segment.OpenStore(path, nil)
		if err != nil {
			return err
		}
		return errors.Join(st.Commit([]segment.Change{
			{Bucket: "meta", Key: []byte("format"), Value: []byte(format)},
			{Bucket: "format", Key: []byte("format"), Value: []byte(format)},
		}), st.Close())
	}
	tests := map[string]func(dir string) error{
		"older state": func(dir string) error {
			return write(filepath.Join(dir, stateFile), "edgeagent state 0")
		},
		"older segment": func(dir string) error {
			path := filepath.Join(dir, "telemetry", "00000000000000aa-0000000000000001.seg")
			return errors.Join(os.Mkdir(filepath.Dir(path), 0o700), write(path, "edgeagent segment 0"))
		},
		"other files": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "head.log"), []byte("x"), 0o600)
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := prepare(dir); err != nil {
				t.Fatal(err)
			}
			before := listing(t, dir)
			_, _, err := Open(t.Context(), dir, options())
			if !errors.Is(err, ErrForeign) {
				t.Fatalf("open: %v", err)
			}
			var h edgeagent.Hinter
			if !errors.As(err, &h) || !strings.Contains(h.Hint(), "buffer.dir") || !strings.Contains(h.Hint(), dir) {
				t.Errorf("hint of %v does not name the directory and the option", err)
			}
			for _, f := range before {
				if _, err := os.Stat(f); err != nil {
					t.Errorf("%s was touched: %v", f, err)
				}
			}
		})
	}
}

// One flipped bit in what a file says of its format is damage, not another version.
func TestFlippedBitInTheFormat(t *testing.T) {
	for _, what := range []string{"edgeagent state", "edgeagent segment"} {
		dir := t.TempDir()
		b := open(t, dir, options())
		mustAppend(t, b, 0, 10)
		b.crash()
		for _, path := range listing(t, dir) {
			data, err := os.ReadFile(path)
			if err != nil {
				continue // a directory
			}
			for from := 0; ; {
				i := bytes.Index(data[from:], []byte(what))
				if i < 0 {
					break
				}
				from += i + 1
				flipped := bytes.Clone(data)
				flipped[from+2] ^= 2
				if err := os.WriteFile(path, flipped, 0o600); err != nil {
					t.Fatal(err)
				}
				b, _, err := Open(t.Context(), dir, options())
				if err != nil {
					t.Fatalf("%s at %d: %v", path, from, err)
				}
				b.crash()
			}
		}
	}
}

func listing(t testing.TB, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return append(list, more...)
}

func TestTwoBuffersInOneProcess(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	_, _, err := Open(t.Context(), dir, options())
	var h edgeagent.Hinter
	if !errors.Is(err, ErrLocked) || !errors.As(err, &h) || !strings.Contains(err.Error(), "process") {
		t.Errorf("second open: %v", err)
	}
	closeBuffer(t, b)
	open(t, dir, options())
}

func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, options())
	out, err := childCommand(t.Context(), "open", dir).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(string(out), ErrLocked.Error()) {
		t.Errorf("second process: %v, %s", err, out)
	}
}

func TestContextBoundsOpen(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	mustAppend(t, b, 0, 10)
	b.crash()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Open(ctx, dir, options()); !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
}

func TestOldEpochsAreBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range maxEpochs + 3 {
		o := options()
		o.Identify = elsewhere(func(id *Identity) { id.Inode = string(rune('a' + i)) })
		b := open(t, dir, o)
		mustAppend(t, b, 0, 3)
		flush(t, b)
		want := min(i+1, maxEpochs+1)
		if n := b.Stats().Epochs; n != want {
			t.Errorf("open %d: %d epochs, want %d", i, n, want)
		}
		files, err := filepath.Glob(filepath.Join(dir, "telemetry", "*.seg"))
		if err != nil || len(files) != want {
			t.Errorf("open %d: %d segments, want %d", i, len(files), want)
		}
		closeBuffer(t, b)
	}
}

// A segment file whose directory entry the disk lost must not make numbers come
// twice.
func TestLostSegmentFile(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	mustAppend(t, b, 0, 50)
	flush(t, b)
	b.crash()
	files, err := filepath.Glob(filepath.Join(dir, "telemetry", "*.seg"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	b, report := openReport(t, dir, options())
	if last := mustAppend(t, b, 0, 1); last != 1+reserveNumbers {
		t.Errorf("went on at %d, want %d", last, edgeagent.Seq(1+reserveNumbers))
	}
	if len(report.Gaps) != 1 || report.Gaps[0].Reason != Missing || report.Gaps[0].From != 1 || report.Gaps[0].AtMost == 0 {
		t.Errorf("gaps %+v", report.Gaps)
	}
}

// TestStateMadeAndNeverUsed: an open that ended between making a new state.db and
// writing to it has not found out what the lost one said.
func TestStateMadeAndNeverUsed(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	mustAppend(t, b, 0, 100)
	flush(t, b)
	old := b.Epoch()
	b.crash()
	path := filepath.Join(dir, stateFile)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	store, _, err := segment.OpenStore(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	b, report := openReport(t, dir, options())
	if report.NewEpoch == "" || b.Epoch() == old {
		t.Errorf("epoch %s goes on: %+v", b.Epoch(), report)
	}
	if got := readAll(t, b, old); len(got) != 100 {
		t.Errorf("%d readings of the old epoch", len(got))
	}
}
