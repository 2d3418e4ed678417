package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	for _, content := range []string{"one", "", "a longer third"} {
		if err := WriteFile(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		expect(t, path, content)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o640 {
		t.Errorf("permissions %v, want -rw-r-----", info.Mode().Perm())
	}
}

func TestWriteFileInWorkingDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := WriteFile("state.json", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, "state.json", "x")
}

func TestSymlinkIsReplaced(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.WriteFile(target, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(link, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(target); err != nil || string(got) != "old" {
		t.Errorf("target holds %q, %v", got, err)
	}
	if got, err := os.ReadFile(link); err != nil || string(got) != "new" {
		t.Errorf("link holds %q, %v", got, err)
	}
}

// broken is a file whose step-th operation fails, half of a write having happened.
type broken struct {
	*os.File
	step string
}

var errBroken = errors.New("no space left")

func (b broken) Chmod(m fs.FileMode) error {
	if b.step == "chmod" {
		return errBroken
	}
	return b.File.Chmod(m)
}

func (b broken) Write(p []byte) (int, error) {
	if b.step == "write" {
		n, _ := b.File.Write(p[:len(p)/2])
		return n, errBroken
	}
	return b.File.Write(p)
}

func (b broken) Sync() error {
	if b.step == "sync" {
		return errBroken
	}
	return b.File.Sync()
}

func (b broken) Close() error {
	err := b.File.Close()
	if b.step == "close" {
		return errBroken
	}
	return err
}

func TestFailureLeavesOldContent(t *testing.T) {
	for _, step := range []string{"chmod", "write", "sync", "close"} {
		t.Run(step, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.json")
			if err := WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			err := write(path, []byte("new content"), 0o600, func(dir, pattern string) (file, error) {
				f, err := os.CreateTemp(dir, pattern)
				return broken{f, step}, err
			})
			if !errors.Is(err, errBroken) {
				t.Errorf("error %v, want %v", err, errBroken)
			}
			expect(t, path, "old")
		})
	}
}

func TestRenameFailureLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("x"), 0o600); err == nil {
		t.Fatal("a directory was replaced")
	}
	if diff := cmp.Diff([]string{"state.json"}, list(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestMissingDirectory(t *testing.T) {
	err := WriteFile(filepath.Join(t.TempDir(), "no", "state.json"), nil, 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want not exist", err)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	keep := []string{".hidden-x.tmp", ".profile", "data-12.tmp", "state.json", ".tmp", ".-12.tmp"}
	for _, name := range append(keep, ".state.json-2839182.tmp", ".a-b-1.tmp") {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".dir-1.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	want := []string{".-12.tmp", ".dir-1.tmp", ".hidden-x.tmp", ".profile", ".tmp", "data-12.tmp", "state.json"}
	if diff := cmp.Diff(want, list(t, dir)); diff != "" {
		t.Error(diff)
	}
	if err := Sweep(filepath.Join(dir, "nowhere")); err != nil {
		t.Errorf("missing directory: %v", err)
	}
}

// TestSweepKnowsItsOwn: what a killed writer leaves is what Sweep removes.
func TestSweepKnowsItsOwn(t *testing.T) {
	dir := t.TempDir()
	f, err := createTemp(dir, prefix+"a.b"+"-*"+suffix)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if left := list(t, dir); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestKilledWriter kills a process that rewrites a file over and over; whatever
// the moment, one whole version is there.
func TestKilledWriter(t *testing.T) {
	if path := os.Getenv("ATOMICFILE_VICTIM"); path != "" {
		for i := 0; ; i++ {
			if err := WriteFile(path, version(i), 0o600); err != nil {
				os.Exit(1)
			}
		}
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	for round := range 8 {
		if err := WriteFile(path, version(round), 0o600); err != nil {
			t.Fatal(err)
		}
		victim := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
		victim.Env = append(os.Environ(), "ATOMICFILE_VICTIM="+path)
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Duration(30+7*round) * time.Millisecond)
		if err := victim.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = victim.Wait()
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != versionSize || !bytes.Equal(got, bytes.Repeat(got[:8], versionSize/8)) {
			t.Fatalf("round %d: a torn file of %d bytes", round, len(got))
		}
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"state.json"}, list(t, dir)); diff != "" {
		t.Error(diff)
	}
}

const versionSize = 64 << 10

// version is 64 KiB of one number, so that a mixture shows.
func version(i int) []byte {
	return bytes.Repeat([]byte(strconv.Itoa(10_000_000+i)), versionSize/8)
}

func expect(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("content %q, %v, want %q", got, err, want)
	}
	if diff := cmp.Diff([]string{filepath.Base(path)}, list(t, filepath.Dir(path))); diff != "" {
		t.Errorf("directory: %s", diff)
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
