package buffer

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/edgeagent/edgeagent"
)

// lockName is the file that is locked. It is made with the buffer and never
// replaced, so it also tells a buffer from a copy that was put back in its place.
const lockName = "LOCK"

// lockDir takes the directory for this process. The kernel lets go of the lock
// when the process ends, however it ends; the file stays.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock buffer: %w", err)
	}
	held, err := lockFile(f)
	if err == nil {
		// The number is for people; a file that cannot take it still locks.
		_ = f.Truncate(0)
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		return f, nil
	}
	defer f.Close()
	if !held {
		return nil, fmt.Errorf("lock buffer %s: %w", dir, err)
	}
	owner := ""
	if b, err := io.ReadAll(io.LimitReader(f, 32)); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			owner = fmt.Sprintf(" (process %d)", pid)
		}
	}
	return nil, edgeagent.WithHint(
		fmt.Errorf("open buffer %s: %w%s", dir, ErrLocked, owner),
		`stop the other one ("edgeagent service stop"), or give this one its own buffer.dir`)
}
