package serial

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgeagent/edgeagent/sensors/sensortest"
)

// pty opens a pair: what is written to the one comes out of the other.
func pty(t *testing.T) (master *os.File, name string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return master, fmt.Sprintf("/dev/pts/%d", n)
}

// TestPort: the real library on a real line, which is unplugged and comes back as
// another device behind the same name.
func TestPort(t *testing.T) {
	link := filepath.Join(t.TempDir(), "gps")
	plug := func() *os.File {
		line, name := pty(t)
		os.Remove(link)
		if err := os.Symlink(name, link); err != nil {
			t.Fatal(err)
		}
		return line
	}
	line := plug()
	c := Default()
	c.Port = link
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	s, err := c.Open(t.Context(), sensortest.Env("gps"))
	if err != nil {
		t.Fatal(err)
	}
	// The first sample opens the port; before that a line has no reader.
	if rs, err := s.Sample(t.Context(), nil); err != nil || len(rs) > 0 {
		t.Fatal(rs, err)
	}
	listen := func(want string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); {
			rs, err := s.Sample(t.Context(), nil)
			if err != nil && strings.Contains(err.Error(), want) || err == nil && len(rs) > 0 && strings.Contains(said(rs), want) {
				return
			}
		}
		t.Fatalf("waited a minute for %s", want)
	}
	if _, err := line.WriteString(rmcA + ggaA); err != nil {
		t.Fatal(err)
	}
	listen(whereA)
	line.Close()
	listen("read " + link)
	listen("open " + link) // the name points nowhere
	line = plug()
	defer line.Close()
	if rs, err := s.Sample(t.Context(), nil); err != nil || len(rs) > 0 {
		t.Fatal(rs, err)
	}
	if _, err := line.WriteString(rmcB + ggaB); err != nil {
		t.Fatal(err)
	}
	listen(whereB)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
