package headlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/edgeagent/edgeagent"
)

// TestEveryOperationFails lets the n-th operation fail, for every n, in a life that
// recovers, appends, syncs, raises and rotates: that one only, another soon after,
// or all from then on. Whatever happens, what was reported as synced must survive
// a power cut, and what was accepted the death of the process.
func TestEveryOperationFails(t *testing.T) {
	for _, how := range []string{"once", "twice", "forever"} {
		t.Run(how, func(t *testing.T) {
			broken, survived := 0, 0
			for n := 1; ; n++ {
				w, reached := failingLife(t, n, how)
				if !reached {
					t.Logf("%d operations; %d lives end with a broken log, %d suffer and go on", n-1, broken, survived)
					break
				}
				switch {
				case w.log == nil:
				case w.log.Stats().Broken:
					broken++
				case w.failures > 0:
					survived++
				}
			}
			if how != "forever" && survived == 0 || how != "once" && broken == 0 {
				t.Errorf("%d lives broke, %d went on: the faults miss the log", broken, survived)
			}
		})
	}
}

func failingLife(t *testing.T, n int, how string) (w *world, reached bool) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(*seed, uint64(n)))
	w = newWorld(rnd, newSimFS(nil))
	for range 2 { // two short lives, so that both files hold something
		if err := w.start(); err != nil {
			t.Fatal(err)
		}
		if err := w.run(20); err != nil {
			t.Fatal(err)
		}
		if err := w.log.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.mark.synced = len(w.frames) // by Close
	w.promise()
	before, where, again := w.disk.calls, "", n+1+rnd.IntN(20)
	w.disk.fail = func(call int, op, name string) error {
		call -= before
		if call == n || how == "forever" && call > n || how == "twice" && call == again {
			where += op + " " + name + ", "
			return syscall.EIO
		}
		return nil
	}
	w.log = nil
	err := w.start()
	for range 2 {
		if err != nil && w.log == nil {
			err = w.start()
		}
	}
	if err == nil {
		err = w.run(80)
	}
	if err != nil && (how == "once" || how == "twice" && !errors.Is(err, ErrBroken)) {
		t.Fatalf("operation %d fails %s (%s): %v", n, how, where, err)
	}
	if w.log != nil && err != nil && !errors.Is(err, ErrBroken) {
		t.Fatalf("operation %d fails %s (%s): %v", n, how, where, err)
	}
	w.disk.fail = nil
	where = fmt.Sprintf("operation %d fails %s (%.300s): %v", n, how, where, err)

	m := newMedium(rnd)
	for _, op := range w.disk.ops {
		m.do(op)
	}
	for _, mode := range cutModes {
		if _, err := w.check(m.cut(mode), m.mark, rules{}); err != nil {
			t.Fatalf("%s: power cut, %s: %v", where, mode, err)
		}
	}
	all := m.mark
	all.synced = len(w.frames)
	if _, err := w.check(w.disk.files(), all, rules{}); err != nil {
		t.Fatalf("%s: kill -9: %v", where, err)
	}
	if len(w.disk.rewritten) > 0 {
		t.Fatalf("%s: durable pages were written again: %v", where, w.disk.rewritten)
	}
	return w, w.disk.calls-before >= n
}

// begun makes an empty log on a disk, with numbers reserved.
func begun(t *testing.T, d FS) *Log {
	t.Helper()
	r, err := Recover("/sim", Options{Size: MinSize, FS: d})
	if err != nil {
		t.Fatal(err)
	}
	l, err := r.Start(t.Context(), Head{Epoch: testEpoch}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range edgeagent.Streams() {
		if err := l.Raise(t.Context(), s, 1<<32); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// reading returns a frame of one record.
func reading(first edgeagent.Seq) Frame {
	return Frame{
		Kind: Readings, Stream: edgeagent.StreamTelemetry, Epoch: testEpoch, First: first, Count: 1,
		Payload: payload(Readings, edgeagent.StreamTelemetry, first, 100),
	}
}

// recovered returns the numbers of all readings on a disk, in order.
func recovered(t *testing.T, d FS) []edgeagent.Seq {
	t.Helper()
	r, err := Recover("/sim", Options{Size: MinSize, FS: d})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out []edgeagent.Seq
	for f, err := range r.Frames() {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f.First)
	}
	return out
}

// TestFullDisk says so, at the only moment when it can meet the log, and leaves
// nothing behind.
func TestFullDisk(t *testing.T) {
	d := newSimFS(nil)
	d.fail = func(_ int, op, _ string) error {
		if op == "write" {
			return syscall.ENOSPC
		}
		return nil
	}
	r, err := Recover("/sim", Options{Size: MinSize, FS: d})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Start(t.Context(), Head{Epoch: testEpoch}, nil)
	var h edgeagent.Hinter
	if !errors.Is(err, syscall.ENOSPC) || !errors.As(err, &h) {
		t.Errorf("start on a full disk: %v, want ENOSPC and a hint", err)
	}
	if n := len(d.files()); n > 0 {
		t.Errorf("%d files are left on the full disk", n)
	}
}

// TestSecondFailureBreaks: one failed sync moves the log to another file, the
// second ends it, and nothing that was synced in between is lost.
func TestSecondFailureBreaks(t *testing.T) {
	d := newSimFS(nil)
	l := begun(t, d)
	if err := l.Append(reading(1)); err != nil {
		t.Fatal(err)
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	fails := 0
	d.fail = func(_ int, op, _ string) error {
		if op == "sync" && fails > 0 {
			fails--
			return syscall.EIO
		}
		return nil
	}
	if err := l.Append(reading(2)); err != nil {
		t.Fatal(err)
	}
	fails = 1
	if err := l.Sync(t.Context()); !errors.Is(err, ErrSuspect) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync on a failing card: %v", err)
	}
	if err := l.Append(reading(3)); !errors.Is(err, ErrSuspect) {
		t.Fatalf("append to a file that is not trusted: %v", err)
	}
	tails := func(yield func(Frame) bool) { _ = yield(reading(1)) && yield(reading(2)) }
	if err := l.Rotate(t.Context(), tails); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := l.Stats(); st.Degraded == nil || st.Broken || st.Files != 2 {
		t.Errorf("after one failure: %+v", st)
	}
	if err := l.Append(reading(3)); err != nil {
		t.Fatal(err)
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(reading(4)); err != nil {
		t.Fatal(err)
	}
	fails = 1
	for range 2 {
		if err := l.Sync(t.Context()); !errors.Is(err, ErrBroken) {
			t.Fatalf("second failure: %v", err)
		}
	}
	if err := l.Rotate(t.Context(), nil); !errors.Is(err, ErrBroken) {
		t.Errorf("rotate a broken log: %v", err)
	}
	m := newMedium(rand.New(rand.NewPCG(1, 1)))
	for _, op := range d.ops {
		m.do(op)
	}
	got := recovered(t, newSimFS(m.cut("none")))
	for s := edgeagent.Seq(1); s <= 3; s++ {
		if len(got) < int(s) || got[s-1] != s {
			t.Fatalf("recovered %v, want 1, 2, 3 and perhaps 4", got)
		}
	}
}
