package agent

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/edgeagent/edgeagent/internal/atomicfile"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// meter counts what a destination's connections cost a subscriber who pays for IP: the
// bytes, and the headers of the packets that they make.
type meter struct {
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	bytes atomic.Uint64
}

// A packet carries at most segment bytes behind the headers of IP and TCP, and every
// second one is answered by an empty one. How many packets are made of what is written
// at once is the kernel's affair: this is the most.
const (
	segment = 1400
	headers = 40
	answer  = headers / 2
	// handshake is what opening and closing a connection takes.
	handshake = 7 * 60
)

func (m *meter) note(n int) {
	if n > 0 {
		packets := (n + segment - 1) / segment
		m.bytes.Add(uint64(n + packets*(headers+answer)))
	}
}

// DialContext opens a connection that is counted.
func (m *meter) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := m.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	m.bytes.Add(handshake)
	return &metered{c, m}, nil
}

// metered is a connection that is counted.
type metered struct {
	net.Conn
	meter *meter
}

func (c *metered) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.meter.note(n)
	return n, err
}

func (c *metered) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.meter.note(n)
	return n, err
}

// SyscallConn gives access to the socket, for those who set its options.
func (c *metered) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// memory is what an uplink keeps over restarts: a small file.
type memory struct{ path string }

var _ uplink.Memory = memory{}

// memoryOf returns the memory of a destination, beside the buffer.
func (a *Agent) memoryOf(name string) uplink.Memory {
	a.mu.Lock()
	dir := filepath.Join(filepath.Dir(a.dir), "uplink")
	a.mu.Unlock()
	return memory{filepath.Join(dir, name+".json")}
}

// Load implements uplink.Memory.
func (m memory) Load() ([]byte, error) {
	data, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Save implements uplink.Memory. The directory is made with the first thing that is
// worth it.
func (m memory) Save(data []byte) error {
	if err := os.MkdirAll(filepath.Dir(m.path), 0o700); err != nil {
		return err
	}
	return atomicfile.WriteFile(m.path, data, 0o600)
}
