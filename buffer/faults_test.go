package buffer

import (
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
	for i := range 12 {
		last, err := b.Append(t.Context(), readings(i*10, 10))
		if err != nil {
			fails++
			if full := errors.Is(err, ErrFull); full != (errno == syscall.ENOSPC) {
				t.Errorf("operation %d (%s): append: %v", n, where, err)
			}
			if h := b.Health(); h.Level != edgeagent.Failed {
				t.Errorf("operation %d (%s): health %v", n, where, h)
			}
			if last, err = b.Append(t.Context(), readings(i*10, 10)); err != nil {
				t.Fatalf("operation %d (%s): append fails twice: %v", n, where, err)
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
			b.seal(b.newest().streams[edgeagent.StreamTelemetry])
			b.disk.Unlock()
		case 6:
			if err := b.Register(Destination{Name: "cloud"}); err != nil {
				register(t, b, "cloud")
			}
		}
	}
	if fails > 1 {
		t.Errorf("operation %d (%s): one failure made %d appends fail", n, where, fails)
	}
	if b.Health().Level != edgeagent.OK {
		t.Errorf("operation %d (%s): health %v after it works again", n, where, b.Health())
	}
	check := func(when string, b *Buffer) {
		t.Helper()
		if diff := cmp.Diff(want, readAll(t, b, b.Epoch())); diff != "" {
			t.Fatalf("operation %d (%s), %s: %s", n, where, when, diff)
		}
		if len(want) != 120 || len(b.Gaps()) > 0 {
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

// TestAmbiguousCommit: the sync fails after everything was written. The records
// are on the disk, the append failed, and other records get their numbers.
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
	fail = true
	if _, err := b.Append(t.Context(), readings(500, 10)); err == nil {
		t.Fatal("append succeeded")
	}
	fail = false
	if last := mustAppend(t, b, 10, 5); last != 15 {
		t.Errorf("last = %d, want 15: nobody saw the numbers that failed", last)
	}
	for _, end := range []func(testing.TB, *Buffer){func(_ testing.TB, b *Buffer) { b.crash() }, closeBuffer} {
		if diff := cmp.Diff(counted(15), readAll(t, b, b.Epoch())); diff != "" {
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
	if diff := cmp.Diff(counted(15), readAll(t, open(t, dir, o), epoch)); diff != "" {
		t.Error(diff)
	}
}

// TestFullDisk: appends fail while there is no space, what is stored can be read,
// and appends work when space returns.
func TestFullDisk(t *testing.T) {
	full := false
	o := options()
	o.faults = func(op segment.Op, _ string) error {
		if full && (op == segment.OpCommit || op == segment.OpCreate) {
			return syscall.ENOSPC
		}
		return nil
	}
	b := open(t, t.TempDir(), o)
	mustAppend(t, b, 0, 10)
	full = true
	for range 5 {
		_, err := b.Append(t.Context(), readings(10, 10))
		var h edgeagent.Hinter
		if !errors.Is(err, ErrFull) || !errors.As(err, &h) || !strings.Contains(h.Hint(), "buffer.max_bytes") {
			t.Fatalf("append: %v", err)
		}
	}
	if b.Pressure() != 1 || b.Health().Code != "buffer-full" {
		t.Errorf("pressure %v, health %v", b.Pressure(), b.Health())
	}
	full = false
	mustAppend(t, b, 10, 10)
	if diff := cmp.Diff(counted(20), readAll(t, b, b.Epoch())); diff != "" {
		t.Error(diff)
	}
	if b.Health().Level != edgeagent.OK {
		t.Errorf("health %v", b.Health())
	}
}

// TestFreeSpaceFloor: a file system that is nearly full, whoever filled it, takes no
// more readings and costs none of those buffered.
func TestFreeSpaceFloor(t *testing.T) {
	free := uint64(1 << 30)
	o := options()
	o.space = func(string) (uint64, uint64, bool) { return free, 10 << 30, true }
	b := open(t, t.TempDir(), o)
	mustAppend(t, b, 0, 10)
	free = maxFloor
	if _, err := b.Append(t.Context(), readings(10, 1)); !errors.Is(err, ErrFull) {
		t.Errorf("append below the floor: %v", err)
	}
	free = 1 << 30
	mustAppend(t, b, 10, 1)
	if gaps := b.Gaps(); len(gaps) != 0 {
		t.Errorf("gaps %+v", gaps)
	}
	if diff := cmp.Diff(counted(11), readAll(t, b, b.Epoch())); diff != "" {
		t.Error(diff)
	}
}

// TestFreeSpaceFloorGivesUpConfirmed: what is confirmed does go for the floor.
func TestFreeSpaceFloorGivesUpConfirmed(t *testing.T) {
	free := uint64(1 << 30)
	o := options()
	o.space = func(string) (uint64, uint64, bool) { return free, 10 << 30, true }
	b := open(t, t.TempDir(), o)
	if err := b.Register(Destination{Name: "cloud"}); err != nil {
		t.Fatal(err)
	}
	last := mustAppend(t, b, 0, 10)
	if err := b.Ack(t.Context(), "cloud", b.Epoch(), edgeagent.StreamTelemetry, []edgeagent.Range{{From: 1, To: last}}); err != nil {
		t.Fatal(err)
	}
	free = maxFloor
	_, err := b.Append(t.Context(), readings(10, 1))
	if !errors.Is(err, ErrFull) {
		t.Errorf("append below the floor: %v", err)
	}
	if n := b.Stats().Streams[edgeagent.StreamTelemetry].Stored; n != 0 {
		t.Errorf("%d confirmed records still take space", n)
	}
}
