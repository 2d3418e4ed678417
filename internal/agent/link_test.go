package agent

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"syscall"
	"testing"
)

func TestMeter(t *testing.T) {
	near, far := net.Pipe()
	m := &meter{dial: func(context.Context, string, string) (net.Conn, error) { return near, nil }}
	c, err := m.DialContext(t.Context(), "tcp", "x")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = far.Read(make([]byte, 4000))
		_, _ = far.Write(make([]byte, 10))
		_ = far.Close()
	}()
	if _, err := c.Write(make([]byte, 3000)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 100)); err == nil {
		t.Error("read from a closed connection")
	}
	// A handshake, three packets there and one back, each with headers and half an answer.
	if got, want := m.bytes.Load(), uint64(handshake+3000+10+4*60); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
	if _, err := c.(syscall.Conn).SyscallConn(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a pipe has no socket: %v", err)
	}
	m.dial = noNetwork
	if _, err := m.DialContext(t.Context(), "tcp", "x"); !errors.Is(err, errUnreachable) {
		t.Errorf("dial: %v", err)
	}
}

func TestMemoryIsAFile(t *testing.T) {
	m := memory{filepath.Join(t.TempDir(), "uplink", "cloud.json")}
	if data, err := m.Load(); err != nil || data != nil {
		t.Errorf("nothing was saved: %q, %v", data, err)
	}
	for _, text := range []string{"one", "two"} {
		if err := m.Save([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if data, err := m.Load(); err != nil || !bytes.Equal(data, []byte(text)) {
			t.Errorf("%q, %v, want %q", data, err, text)
		}
	}
}
