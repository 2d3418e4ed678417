//go:build hil && linux

package hil

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

const sector = 512

// disk is a card with a write cache that forgets: what is written stays in memory until
// the guest says flush. It speaks NBD (github.com/NetworkBlockDevice/nbd,
// doc/proto.md) to QEMU, whose own caches survive its death and would hide a lost write.
type disk struct {
	file *os.File
	lies bool // says that it has flushed, and has not

	mu      sync.Mutex // guards what follows
	dirty   map[int64][]byte
	flushes int
	left    int           // writes until the power goes; 0: it stays
	gone    chan struct{} // is closed then; nothing reaches the card any more
}

// arm has the power go at the n-th write from now: in the middle of whatever the guest
// is writing.
func (d *disk) arm(n int) (gone <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.gone = n, make(chan struct{})
	return d.gone
}

// newDisk makes an empty ext4 file system.
func newDisk(t *testing.T) *disk {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	mkfs := "mke2fs"
	if _, err := exec.LookPath(mkfs); err != nil {
		mkfs = "/usr/sbin/mke2fs"
	}
	if out, err := exec.Command(mkfs, "-q", "-t", "ext4", "-F", path).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	return &disk{file: f, dirty: map[int64][]byte{}}
}

// listen serves one guest at a time and returns the socket.
func (d *disk) listen(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hil")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "nbd")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); os.RemoveAll(dir) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = d.serve(c) // a guest that is killed hangs up
			c.Close()
		}
	}()
	return socket
}

// cut is the power cut: of the sectors that were not flushed, about half reach the
// medium, whichever the seed says.
func (d *disk) cut(t *testing.T, seed uint64) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	r := rand.New(rand.NewPCG(seed, 0))
	lost := 0
	for off := int64(0); off < 64<<20; off += sector { // in order, so that a seed says the same again
		b, ok := d.dirty[off]
		if !ok {
			continue
		}
		if r.IntN(2) == 0 {
			lost++
			continue
		}
		if _, err := d.file.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("power cut, seed %d: %d flushes, %d sectors not flushed, %d of them lost", seed, d.flushes, len(d.dirty), lost)
	clear(d.dirty)
	d.flushes, d.left, d.gone = 0, 0, nil
}

// serve speaks to one guest until it hangs up.
func (d *disk) serve(c net.Conn) error {
	r := bufio.NewReaderSize(c, 1<<20)
	if err := d.negotiate(c, r); err != nil {
		return err
	}
	for {
		var h [28]byte
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return err
		}
		be := binary.BigEndian
		flags, command, off, n := be.Uint16(h[4:]), be.Uint16(h[6:]), int64(be.Uint64(h[16:])), int(be.Uint32(h[24:]))
		var in []byte
		if command == 1 {
			in = make([]byte, n)
			if _, err := io.ReadFull(r, in); err != nil {
				return err
			}
		}
		out, err := d.do(command, flags, off, n, in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		answer := binary.BigEndian.AppendUint32(nil, 0x67446698)
		code := uint32(0)
		if err != nil {
			code = 5
		}
		answer = append(be.AppendUint32(answer, code), h[8:16]...)
		if _, err := c.Write(append(answer, out...)); err != nil {
			return err
		}
	}
}

// do does one command: 0 read, 1 write, 2 disconnect, 3 flush.
func (d *disk) do(command, flags uint16, off int64, n int, in []byte) (out []byte, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	const forceUnitAccess = 1
	if d.gone != nil && d.left == 0 {
		return nil, errors.New("no power")
	}
	switch command {
	case 0:
		out = make([]byte, n)
		if _, err := d.file.ReadAt(out, off); err != nil {
			return nil, err
		}
		for i := int64(0); i < int64(n); i += sector {
			if b := d.dirty[off+i]; b != nil {
				copy(out[i:], b)
			}
		}
		return out, nil
	case 1:
		for i := 0; i < n; i += sector {
			d.dirty[off+int64(i)] = in[i : i+sector]
		}
		if d.left > 0 {
			if d.left--; d.left == 0 {
				close(d.gone)
				return nil, errors.New("no power")
			}
		}
		if flags&forceUnitAccess != 0 {
			return nil, d.flush()
		}
		return nil, nil
	case 2:
		return nil, io.EOF
	case 3:
		return nil, d.flush()
	}
	return nil, errors.ErrUnsupported
}

func (d *disk) flush() error {
	d.flushes++
	if d.lies {
		return nil
	}
	for off, b := range d.dirty {
		if _, err := d.file.WriteAt(b, off); err != nil {
			return err
		}
	}
	clear(d.dirty)
	return nil
}

// negotiate is the handshake, newstyle: an export of any name, with flush and FUA.
func (d *disk) negotiate(c net.Conn, r *bufio.Reader) error {
	be := binary.BigEndian
	if _, err := io.WriteString(c, "NBDMAGICIHAVEOPT\x00\x03"); err != nil {
		return err
	}
	var client [4]byte
	if _, err := io.ReadFull(r, client[:]); err != nil {
		return err
	}
	const features = 1 | 4 | 8
	reply := func(option, kind uint32, data []byte) error {
		b := be.AppendUint64(nil, 0x3e889045565a9)
		b = be.AppendUint32(be.AppendUint32(be.AppendUint32(b, option), kind), uint32(len(data)))
		_, err := c.Write(append(b, data...))
		return err
	}
	for {
		var h [16]byte
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return err
		}
		option := be.Uint32(h[8:])
		if _, err := io.CopyN(io.Discard, r, int64(be.Uint32(h[12:]))); err != nil {
			return err
		}
		switch option {
		case 6, 7: // info, go
			info := be.AppendUint16(be.AppendUint64([]byte{0, 0}, 64<<20), features)
			if err := errors.Join(reply(option, 3, info), reply(option, 1, nil)); err != nil {
				return err
			}
			if option == 7 {
				return nil
			}
		case 2:
			return errors.Join(reply(option, 1, nil), fmt.Errorf("the client gives up"))
		default:
			if err := reply(option, 1<<31|1, nil); err != nil {
				return err
			}
		}
	}
}
