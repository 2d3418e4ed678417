//go:build unix

package buffer

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestReadOnlyOfReadOnlyFiles: nothing asks for more than reading.
func TestReadOnlyOfReadOnlyFiles(t *testing.T) {
	needsPlain(t)
	if os.Geteuid() == 0 {
		asNobody(t) // permissions do not bind root
		return
	}
	dir := t.TempDir()
	filled(t, dir)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			mode := fs.FileMode(0o400)
			if e.IsDir() {
				mode = 0o500
			}
			t.Cleanup(func() { os.Chmod(path, 0o700) })
			err = os.Chmod(path, mode)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := readOnly(t, dir).Verify(t.Context())
	noProblems(t, "read-only files", v, err)
}

// asNobody runs the test again in a process that is not root's.
func asNobody(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "test"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "test"), "-test.run=^"+t.Name()+"$")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("not as root: %v\n%s", err, out)
	}
}
