package modbus

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
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
	name = fmt.Sprintf("/dev/pts/%d", n)
	hold, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0) // else the line hangs up with the driver
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hold.Close() })
	return master, name
}

// crc16 is the checksum of Modbus over serial line, section 6.2.2 of its
// specification.
func crc16(b []byte) uint16 {
	sum := uint16(0xffff)
	for _, x := range b {
		sum ^= uint16(x)
		for range 8 {
			if sum&1 != 0 {
				sum = sum>>1 ^ 0xa001
			} else {
				sum >>= 1
			}
		}
	}
	return sum
}

// slave answers on a serial line, by the wire. spoil may change an answer.
func slave(line *os.File, d *device, spoil func([]byte) []byte) {
	q := make([]byte, 8)
	for {
		if _, err := io.ReadFull(line, q); err != nil {
			return
		}
		table := map[byte]string{3: "holding", 4: "input"}[q[1]]
		words, err := d.read(q[0], table, uint16(q[2])<<8|uint16(q[3]), uint16(q[4])<<8|uint16(q[5]))
		a := []byte{q[0], q[1] | 0x80, 2}
		if err == nil {
			a = []byte{q[0], q[1], byte(2 * len(words))}
			for _, w := range words {
				a = append(a, byte(w>>8), byte(w))
			}
		}
		sum := crc16(a)
		a = append(a, byte(sum), byte(sum>>8))
		if spoil != nil {
			a = spoil(a)
		}
		if _, err := line.Write(a); err != nil {
			return
		}
	}
}

func TestRTU(t *testing.T) {
	line, name := pty(t)
	d, list, want := tenRegisters()
	list = list[:len(list)-2] // no bits
	delete(want, "on")
	delete(want, "off")
	var mu sync.Mutex
	var spoil func([]byte) []byte
	var done sync.WaitGroup
	done.Go(func() {
		slave(line, d, func(a []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			if spoil != nil {
				return spoil(a)
			}
			return a
		})
	})
	defer done.Wait()
	defer line.Close()
	c := Default()
	c.URL, c.Unit, c.Speed, c.Registers, c.RequestTimeout = "rtu://"+name, 3, 115200, list, time.Second
	s := open(t, c)
	check := func(what string) {
		t.Helper()
		rs, err := s.Sample(t.Context(), nil)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if diff := cmp.Diff(want, readings(rs)); diff != "" {
			t.Errorf("%s: readings (-want +got):\n%s", what, diff)
		}
	}
	check("at first")
	for what, f := range map[string]func([]byte) []byte{
		"bad CRC": func(a []byte) []byte { a[len(a)-1] ^= 1; return a },
		"cut off": func(a []byte) []byte { return a[:3] },
		"nothing": func([]byte) []byte { return nil },
		"another device": func(a []byte) []byte {
			a[0] = 99
			s := crc16(a[:len(a)-2])
			a[len(a)-2], a[len(a)-1] = byte(s), byte(s>>8)
			return a
		},
	} {
		mu.Lock()
		spoil = f
		mu.Unlock()
		if rs, err := s.Sample(t.Context(), nil); err == nil || len(rs) > 0 || !strings.Contains(err.Error(), "of unit 3") {
			t.Errorf("%s: %v, %v", what, rs, err)
		}
		mu.Lock()
		spoil = nil
		mu.Unlock()
		check("after " + what)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
