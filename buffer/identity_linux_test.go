package buffer

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMounted: the life of a file system is told by what is not given again. A card
// that was pulled out and put back has the same mount id, and has lost what was not
// synced.
func TestMounted(t *testing.T) {
	sys := t.TempDir()
	node := filepath.Join(sys, "fs", "ext4", "sda1")
	for _, dir := range []string{node, filepath.Join(sys, "dev", "block"), filepath.Join(sys, "block", "sda", "sda1")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../block/sda/sda1", filepath.Join(sys, "dev", "block", "8:1")); err != nil {
		t.Fatal(err)
	}
	st := unix.Statx_t{Dev_major: 8, Dev_minor: 1, Mnt_id: 42, Mask: unix.STATX_MNT_ID}
	first := mounted(&st, sys)
	st.Mnt_id = 43 // a service in a namespace of its own, started again
	if again := mounted(&st, sys); again != first {
		t.Errorf("the same file system in another namespace: %q, then %q", first, again)
	}
	st.Mnt_id = 42
	// As a mount does: another directory of the same name.
	if err := os.Rename(node, node+"-gone"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(node, 0o755); err != nil {
		t.Fatal(err)
	}
	if again := mounted(&st, sys); again == first {
		t.Errorf("mounted again under the same mount id: %q both times", again)
	}
	if err := os.Remove(node); err != nil {
		t.Fatal(err)
	}
	if got := mounted(&st, sys); got != "42" {
		t.Errorf("file system without a directory in sysfs: %q, want the mount id", got)
	}
	st.Mask = 0
	if got := mounted(&st, sys); got != "" {
		t.Errorf("a kernel that tells nothing: %q", got)
	}
}
