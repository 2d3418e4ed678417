package segment

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func change(k, v string) Change { return Change{"b", []byte(k), []byte(v)} }

func all2(t testing.TB, s *Store) map[string]string {
	t.Helper()
	out := map[string]string{}
	if err := s.Each("b", nil, func(k, v []byte) error { out[string(k)] = string(v); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func openStore(t testing.TB, path string, f Faults) *Store {
	t.Helper()
	s, _, err := OpenStore(path, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestStoreKeepsChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openStore(t, path, nil)
	if err := s.Commit([]Change{change("x", "1"), change("y", "2"), change("xx", "3")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit([]Change{{Bucket: "b", Key: []byte("y")}, change("x", "4")}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"x": "4", "xx": "3"}
	if diff := cmp.Diff(want, all2(t, s)); diff != "" {
		t.Error(diff)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, path, nil)
	if diff := cmp.Diff(want, all2(t, s)); diff != "" {
		t.Error(diff)
	}
	var keys []string
	if err := s.Each("b", []byte("xx"), func(k, _ []byte) error { keys = append(keys, string(k)); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"xx"}, keys); diff != "" {
		t.Error(diff)
	}
}

// TestStoreFailures fails every operation in turn: a commit that failed changes
// nothing in memory, the next one works, and a reopen finds that.
func TestStoreFailures(t *testing.T) {
	for n := 1; ; n++ {
		path := filepath.Join(t.TempDir(), "state.db")
		count := 0
		s, _, err := OpenStore(path, func(Op, string) error {
			if count++; count == n {
				return syscall.EIO
			}
			return nil
		})
		if err != nil {
			s = openStore(t, path, nil)
		}
		want := map[string]string{}
		for _, k := range []string{"a", "b", "c", "d"} {
			err := s.Commit([]Change{change(k, k), change("last", k)})
			if err != nil {
				if diff := cmp.Diff(want, all2(t, s)); diff != "" {
					t.Fatalf("operation %d: a failed commit changed memory: %s", n, diff)
				}
				if count >= n {
					err = s.Commit([]Change{change(k, k), change("last", k)})
				}
			}
			if err != nil {
				t.Fatalf("operation %d: %v", n, err)
			}
			want[k], want["last"] = k, k
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, all2(t, openStore(t, path, nil))); diff != "" {
			t.Fatalf("operation %d: reopened: %s", n, diff)
		}
		if count < n {
			t.Logf("%d operations", n-1)
			return
		}
	}
}

// TestStoreThatBreaksForAWhile: each attempt to write anew may fail as well.
func TestStoreThatBreaksForAWhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	var fail Op
	s := openStore(t, path, func(op Op, _ string) error {
		if op == fail {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := s.Commit([]Change{change("a", "1")}); err != nil {
		t.Fatal(err)
	}
	for _, fail = range []Op{OpCommitted, OpCreate, OpCommit, OpRename, OpSyncDir} {
		if err := s.Commit([]Change{change("a", "2")}); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", fail, err)
		}
		if diff := cmp.Diff(map[string]string{"a": "1"}, all2(t, s)); diff != "" {
			t.Errorf("%s: %s", fail, diff)
		}
	}
	fail = ""
	if err := s.Commit([]Change{change("b", "3")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "3"}, all2(t, openStore(t, path, nil))); diff != "" {
		t.Error(diff)
	}
}

func TestDamagedStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openStore(t, path, nil)
	if err := s.Commit([]Change{change("a", "1")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 9000); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenStore(path, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("open: %v", err)
	}
}
