package buffer

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// TestStreamDirectoryRemoved: a stream's directory that somebody has removed is made
// again; the buffer's own is not, because nothing would find what is in it.
func TestStreamDirectoryRemoved(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, options())
	mustAppend(t, b, 0, 10)
	if err := os.RemoveAll(filepath.Join(dir, edgeagent.StreamTelemetry.String())); err != nil {
		t.Fatal(err)
	}
	flush(t, b)
	mustAppend(t, b, 10, 10)
	closeBuffer(t, b)
	b, report := openReport(t, dir, options())
	if diff := cmp.Diff(counted(20), readAll(t, b, b.Epoch())); diff != "" || len(report.Gaps) > 0 {
		t.Errorf("%s\nreport %+v", diff, report)
	}

	dir = filepath.Join(t.TempDir(), "buffer")
	b = open(t, dir, options())
	mustAppend(t, b, 0, 10)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := tryFlush(b); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a segment in a directory that is gone: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the buffer's directory was made again: %v", err)
	}
}

// TestFilesRemoved: the state and the head log are made anew when somebody removes
// them under the buffer; a power cut after that takes nothing.
func TestFilesRemoved(t *testing.T) {
	for name, files := range map[string][]string{
		"state":         {stateFile},
		"one head file": {"head-0"},
		"other":         {"head-1"},
		"head log":      {"head-0", "head-1"},
		"all":           {stateFile, "head-0", "head-1"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := options()
			c := &handClock{run: time.Second}
			o.Clock = c
			b := open(t, dir, o)
			register(t, b, "cloud")
			mustAppend(t, b, 0, 10)
			b.upkeep(t.Context())
			for _, f := range files {
				if err := os.Remove(filepath.Join(dir, f)); err != nil {
					t.Fatal(err)
				}
			}
			c.run += lookEvery
			b.upkeep(t.Context())
			if h := b.Health(); h.Level != edgeagent.OK || b.Stats().Memory {
				t.Errorf("health %+v", h)
			}
			mustAppend(t, b, 10, 10)
			if err := b.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			epoch := b.Epoch()
			b.crash()
			b, report := openReport(t, dir, o)
			if diff := cmp.Diff(counted(20), readAll(t, b, epoch)); diff != "" || report.NewEpoch != "" || len(b.Gaps()) > 0 {
				t.Errorf("%s\nreport %+v, gaps %+v", diff, report, b.Gaps())
			}
			b.crash()
		})
	}
}
