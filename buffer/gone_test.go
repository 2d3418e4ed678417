package buffer

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// handClock is a clock whose run time a test moves.
type handClock struct{ run time.Duration }

func (c *handClock) Wall() time.Time    { return time.Unix(1_800_000_000, 0).Add(c.run) }
func (c *handClock) Run() time.Duration { return c.run }
func (c *handClock) Synced() bool       { return true }

// TestDirectoryRemoved: files that are unlinked under the buffer take every write
// and keep nothing; health says so.
func TestDirectoryRemoved(t *testing.T) {
	dir := t.TempDir()
	o := options()
	c := &handClock{run: time.Second}
	o.Clock = c
	b := open(t, dir, o)
	mustAppend(t, b, 0, 10)
	if h := b.Health(); h.Level != edgeagent.OK {
		t.Fatalf("health %+v", h)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	c.run += lookEvery
	mustAppend(t, b, 10, 10)
	if h := b.Health(); h.Level != edgeagent.Failed || h.Code != "buffer-gone" {
		t.Errorf("health %+v", h)
	}
}

// TestFailuresAreLoggedOnce: a full disk refuses every checkpoint and must not flood the
// log, which is often on the same disk.
func TestFailuresAreLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	full := false
	o := options()
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	o.faults = func(op segment.Op, _ string) error {
		if full && (op == segment.OpCommit || op == segment.OpCreate) {
			return syscall.ENOSPC
		}
		return nil
	}
	b := open(t, t.TempDir(), o)
	mustAppend(t, b, 0, 10)
	full = true
	for range 50 {
		if err := tryFlush(b); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
	}
	full = false
	flush(t, b)
	if n := strings.Count(log.String(), "the buffer cannot write to its disk"); n != 1 {
		t.Errorf("%d lines about one full disk", n)
	}
	if !strings.Contains(log.String(), "failed_commits=50") {
		t.Errorf("no word of the end:\n%s", log.String())
	}
}
