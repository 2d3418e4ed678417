package buffer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

func failCommits(fail *bool) segment.Faults {
	return func(op segment.Op, _ string) error {
		if *fail && op == segment.OpCommit {
			return syscall.EIO
		}
		return nil
	}
}

// TestEveryDiskOperationFailsOnce lets the n-th operation fail, for every n, in a
// life of appends, acks, rolls and evictions. What was accepted must be there,
// before and after a reopen, and numbers must never come twice.
func TestEveryDiskOperationFailsOnce(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for n := 1; ; n++ {
			if !failNth(t, errno, n) {
				t.Logf("%v: %d operations", errno, n-1)
				break
			}
		}
	}
}

func failNth(t *testing.T, errno syscall.Errno, n int) (reached bool) {
	t.Helper()
	dir := t.TempDir()
	count := 0
	var where string
	o := options()
	o.BlockSize = 16
	o.faults = func(op segment.Op, path string) error {
		if count++; count == n {
			where = fmt.Sprintf("%s %s", op, filepath.Base(path))
			return errno
		}
		return nil
	}
	b, _, err := Open(t.Context(), dir, o)
	if err != nil {
		if count < n {
			t.Fatalf("open: %v", err)
		}
		b = open(t, dir, o)
	}
	want := map[edgeagent.Seq]float64{}
	fails := 0
	for i := range 8 {
		last := mustAppend(t, b, i*10, 10)
		if err := tryFlush(b); err != nil {
			fails++
			if full := errors.Is(err, ErrFull); full != (errno == syscall.ENOSPC) {
				t.Errorf("operation %d (%s): checkpoint: %v", n, where, err)
			}
			if h := b.Health(); h.Level != edgeagent.Failed {
				t.Errorf("operation %d (%s): health %v", n, where, h)
			}
			if err := tryFlush(b); err != nil {
				t.Fatalf("operation %d (%s): checkpoint fails twice: %v", n, where, err)
			}
		}
		for k := range 10 {
			s := last - 9 + edgeagent.Seq(k)
			if _, twice := want[s]; twice {
				t.Fatalf("operation %d (%s): number %d given twice", n, where, s)
			}
			want[s] = float64(i*10 + k)
		}
		switch i {
		case 3:
			b.disk.Lock()
			if ch := b.newest().streams[edgeagent.StreamTelemetry]; ch.open != nil {
				b.seal(ch)
			}
			b.disk.Unlock()
		case 6:
			if err := b.Register(Destination{Name: "cloud"}); err != nil {
				register(t, b, "cloud")
			}
		}
	}
	if fails > 1 {
		t.Errorf("operation %d (%s): one failure made %d checkpoints fail", n, where, fails)
	}
	if b.Health().Level != edgeagent.OK {
		t.Errorf("operation %d (%s): health %v after it works again", n, where, b.Health())
	}
	check := func(when string, b *Buffer) {
		t.Helper()
		if diff := cmp.Diff(want, readAll(t, b, b.Epoch())); diff != "" {
			t.Fatalf("operation %d (%s), %s: %s", n, where, when, diff)
		}
		if len(want) != 80 || len(b.Gaps()) > 0 {
			t.Fatalf("operation %d (%s), %s: %d records, gaps %v", n, where, when, len(want), b.Gaps())
		}
	}
	check("before", b)
	if n%2 == 0 {
		if err := b.Close(t.Context()); err != nil && count < n {
			t.Errorf("close: %v", err)
		}
	}
	b.crash()
	o.faults = nil
	check("reopened", open(t, dir, o))
	return count >= n
}

// TestAmbiguousCommit: the sync fails after everything was written. The records are
// on the disk, nobody knows, and they go into another segment as well.
func TestAmbiguousCommit(t *testing.T) {
	dir := t.TempDir()
	fail := false
	o := options()
	o.faults = func(op segment.Op, path string) error {
		if fail && op == segment.OpCommitted && strings.HasSuffix(path, ".seg") {
			return syscall.EIO
		}
		return nil
	}
	b := open(t, dir, o)
	mustAppend(t, b, 0, 10)
	flush(t, b)
	fail = true
	mustAppend(t, b, 10, 10)
	if err := tryFlush(b); err == nil {
		t.Fatal("checkpoint succeeded")
	}
	fail = false
	if last := mustAppend(t, b, 20, 5); last != 25 {
		t.Errorf("last = %d, want 25", last)
	}
	flush(t, b)
	for _, end := range []func(testing.TB, *Buffer){func(_ testing.TB, b *Buffer) { b.crash() }, closeBuffer} {
		if diff := cmp.Diff(counted(25), readAll(t, b, b.Epoch())); diff != "" {
			t.Fatal(diff)
		}
		end(t, b)
		b = open(t, dir, o)
	}
	// The same without anything but the files to go by.
	epoch := b.Epoch()
	b.crash()
	if err := os.Remove(filepath.Join(dir, stateFile)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(counted(25), readAll(t, open(t, dir, o), epoch)); diff != "" {
		t.Error(diff)
	}
}

// tryFlush is flush that may fail.
func tryFlush(b *Buffer) error {
	b.disk.Lock()
	defer b.disk.Unlock()
	return b.checkpoint(context.Background(), true)
}

// fillUp appends until the buffer refuses, and returns how many it took.
func fillUp(t *testing.T, b *Buffer, from int) int {
	t.Helper()
	for {
		_, err := b.Append(t.Context(), readings(from, 1000))
		if err != nil {
			var h edgeagent.Hinter
			if !errors.Is(err, ErrFull) || !errors.As(err, &h) || !strings.Contains(h.Hint(), "buffer.max_bytes") {
				t.Fatalf("append: %v", err)
			}
			return from
		}
		from += 1000
	}
}

// TestFullDisk: while there is no space, memory and head log take what they can;
// then appends fail. What is stored can be read, alarms still get in, and appends
// work when space returns.
func TestFullDisk(t *testing.T) {
	full := false
	o := options()
	o.faults = func(op segment.Op, _ string) error {
		if full && (op == segment.OpCommit || op == segment.OpCreate) {
			return syscall.ENOSPC
		}
		return nil
	}
	dir := t.TempDir()
	b := open(t, dir, o)
	mustAppend(t, b, 0, 10)
	flush(t, b)
	full = true
	n := fillUp(t, b, 10)
	if n < 20_000 {
		t.Errorf("only %d readings got in", n)
	}
	if b.Pressure() != 1 || b.Health().Code != "buffer-full" {
		t.Errorf("pressure %v, health %v", b.Pressure(), b.Health())
	}
	if _, err := b.AppendEvents(t.Context(), edgeagent.StreamAlarm, []edgeagent.Event{{Kind: "alarm"}}); err != nil {
		t.Errorf("alarm: %v", err)
	}
	if st := b.Stats(); st.PendingBytes > maxTail || st.HeadUsed > st.HeadSize {
		t.Errorf("%d bytes pending, %d of %d in the head log", st.PendingBytes, st.HeadUsed, st.HeadSize)
	}
	if diff := cmp.Diff(counted(n), readAll(t, b, b.Epoch())); diff != "" {
		t.Error(diff)
	}
	b.crash() // all of it is in the head log
	full = false
	b = open(t, dir, o)
	mustAppend(t, b, n, 10)
	flush(t, b)
	if diff := cmp.Diff(counted(n+10), readAll(t, b, b.Epoch())); diff != "" {
		t.Error(diff)
	}
	if b.Health().Level != edgeagent.OK {
		t.Errorf("health %v", b.Health())
	}
}

// TestFreeSpaceFloor: a file system that is nearly full, whoever filled it, takes no
// more segments and costs none of those buffered.
func TestFreeSpaceFloor(t *testing.T) {
	free := uint64(1 << 30)
	o := options()
	o.space = func(string) (uint64, uint64, bool) { return free, 10 << 30, true }
	b := open(t, t.TempDir(), o)
	mustAppend(t, b, 0, 10)
	flush(t, b)
	free = maxFloor
	n := fillUp(t, b, 10)
	free = 1 << 30
	mustAppend(t, b, n, 1)
	if gaps := b.Gaps(); len(gaps) != 0 {
		t.Errorf("gaps %+v", gaps)
	}
	if diff := cmp.Diff(counted(n+1), readAll(t, b, b.Epoch())); diff != "" {
		t.Error(diff)
	}
}

// TestFreeSpaceFloorGivesUpConfirmed: what is confirmed does go for the floor.
func TestFreeSpaceFloorGivesUpConfirmed(t *testing.T) {
	free := uint64(1 << 30)
	o := options()
	o.space = func(string) (uint64, uint64, bool) { return free, 10 << 30, true }
	b := open(t, t.TempDir(), o)
	register(t, b, "cloud")
	last := mustAppend(t, b, 0, 10)
	flush(t, b)
	if err := b.Ack(t.Context(), "cloud", b.Epoch(), edgeagent.StreamTelemetry, []edgeagent.Range{{From: 1, To: last}}); err != nil {
		t.Fatal(err)
	}
	free = maxFloor
	mustAppend(t, b, 10, 1)
	if err := tryFlush(b); !errors.Is(err, ErrFull) {
		t.Errorf("checkpoint below the floor: %v", err)
	}
	if n := b.Stats().Streams[edgeagent.StreamTelemetry].Stored; n != 1 {
		t.Errorf("%d records are stored, want the one that is not confirmed", n)
	}
}
