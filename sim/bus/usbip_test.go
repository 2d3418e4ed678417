package bus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/bmxx80"
	"periph.io/x/devices/v3/ds18b20"
	"periph.io/x/devices/v3/ds248x"
)

// kernel is the other side of USB/IP, as the driver i2c-tiny-usb uses it.
type kernel struct {
	t    *testing.T
	conn net.Conn
	seq  uint32
}

func attach(t *testing.T, b *Bus) (k *kernel, hangUp func()) {
	ours, theirs := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- NewAdapter(b).Serve(ours) }()
	return &kernel{t: t, conn: theirs}, func() {
		theirs.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

// header makes the header of a submitted control transfer.
func (k *kernel) header(kind, request byte, value, index uint16, in bool, n int) []byte {
	k.seq++
	h := make([]byte, usbHeader)
	be, le := binary.BigEndian, binary.LittleEndian
	be.PutUint32(h[0:], usbSubmit)
	be.PutUint32(h[4:], k.seq)
	if in {
		be.PutUint32(h[12:], usbDirectionIn)
	}
	be.PutUint32(h[24:], uint32(n))
	h[40], h[41] = kind, request
	le.PutUint16(h[42:], value)
	le.PutUint16(h[44:], index)
	le.PutUint16(h[46:], uint16(n))
	return h
}

// control does a control transfer: it reads n bytes, or writes out.
func (k *kernel) control(kind, request byte, value, index uint16, out []byte, n int) (data []byte, status int32) {
	k.t.Helper()
	in := out == nil
	if !in {
		n = len(out)
	}
	if _, err := k.conn.Write(append(k.header(kind, request, value, index, in, n), out...)); err != nil {
		k.t.Fatal(err)
	}
	return k.answer(k.seq, in)
}

func (k *kernel) answer(seq uint32, in bool) (data []byte, status int32) {
	k.t.Helper()
	h := make([]byte, usbHeader)
	if _, err := io.ReadFull(k.conn, h); err != nil {
		k.t.Fatal(err)
	}
	be := binary.BigEndian
	if be.Uint32(h) != usbSubmitReply || be.Uint32(h[4:]) != seq {
		k.t.Fatalf("answer % x to request %d", h[:8], seq)
	}
	if in {
		data = make([]byte, be.Uint32(h[24:]))
		if _, err := io.ReadFull(k.conn, data); err != nil {
			k.t.Fatal(err)
		}
	}
	return data, int32(be.Uint32(h[20:]))
}

// Tx does what the kernel's driver does with I2C_RDWR.
func (k *kernel) Tx(addr uint16, w, r []byte) error {
	const begin, last, io, flagRead = 1, 2, 4, 1
	msgs := 0
	for _, m := range [][]byte{w, r} {
		if len(m) > 0 {
			msgs++
		}
	}
	request := byte(io | begin)
	if len(w) > 0 {
		if msgs == 1 {
			request |= last
		}
		k.control(0x41, request, 0, addr, w, 0)
		if k.status() == tinyNAK {
			return ErrNAK
		}
		request = io
	}
	if len(r) > 0 {
		data, _ := k.control(0xC1, request|last, flagRead, addr, nil, len(r))
		if k.status() == tinyNAK {
			return ErrNAK
		}
		copy(r, data)
	}
	return nil
}

func (k *kernel) status() byte {
	b, _ := k.control(0xC1, 3, 0, 0, nil, 1)
	return b[0]
}

func (k *kernel) String() string                  { return "kernel" }
func (k *kernel) SetSpeed(physic.Frequency) error { return nil }

var _ i2c.Bus = (*kernel)(nil)

func TestAdapterIsWhatTheKernelLooksFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, hangUp := attach(t, New())
		defer hangUp()
		device, status := k.control(0x80, 6, 0x0100, 0, nil, 64)
		if status != 0 || len(device) != 18 || !bytes.Equal(device[8:12], []byte{0x03, 0x04, 0x31, 0xC6}) {
			t.Errorf("device descriptor % x, status %d", device, status)
		}
		if short, _ := k.control(0x80, 6, 0x0100, 0, nil, 8); len(short) != 8 {
			t.Errorf("%d bytes, want the 8 that were asked for", len(short))
		}
		if config, _ := k.control(0x80, 6, 0x0200, 0, nil, 64); len(config) != 18 || config[2] != 18 {
			t.Errorf("configuration % x", config)
		}
		if text, _ := k.control(0x80, 6, 0x0302, 0x0409, nil, 255); !bytes.Contains(text, []byte("i\x002\x00c\x00")) {
			t.Errorf("product %q", text)
		}
		if _, status := k.control(0x80, 6, 0x0600, 0, nil, 10); status != -32 {
			t.Errorf("status %d of a descriptor that there is none of, want EPIPE", status)
		}
		if f, _ := k.control(0xC1, 1, 0, 0, nil, 4); binary.LittleEndian.Uint32(f)&1 == 0 {
			t.Errorf("functions % x do not have plain I2C", f)
		}
	})
}

func TestDriversReadThroughTheAdapter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBench()
		k, hangUp := attach(t, b.Bus)
		defer hangUp()
		d, err := bmxx80.NewI2C(k, 0x76, &bmxx80.DefaultOpts)
		if err != nil {
			t.Fatal(err)
		}
		var e physic.Env
		if err := d.Sense(&e); err != nil {
			t.Fatal(err)
		}
		if c := e.Temperature.Celsius(); c < 21.49 || c > 21.51 {
			t.Errorf("temperature %v, want 21.5", c)
		}
		if err := k.Tx(0x50, []byte{0}, make([]byte, 1)); !errors.Is(err, ErrNAK) {
			t.Errorf("nobody at 0x50: %v", err)
		}
		if err := b.Command("fault 0x76 unplugged"); err != nil {
			t.Fatal(err)
		}
		if err := d.Sense(&e); err == nil {
			t.Error("read from a chip that is not there")
		}
	})
}

// periph's drivers of the bus master and of the thermometer read what it is.
func TestThermometerBehindDS2482(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		celsius := 20.0
		b := New(NewDS2482(0x18, func() float64 { return celsius }))
		master, err := ds248x.New(b, 0x18, &ds248x.DefaultOpts)
		if err != nil {
			t.Fatal(err)
		}
		all, err := master.Search(false)
		if err != nil || len(all) != 1 || all[0]&0xFF != 0x28 {
			t.Fatalf("found %x, %v", all, err)
		}
		d, err := ds18b20.New(master, all[0], 12)
		if err != nil {
			t.Fatal(err)
		}
		for _, celsius = range []float64{21.5, -10.125, 85, 124.9375, 0} {
			if err := ds18b20.ConvertAll(master, 12); err != nil {
				t.Fatal(err)
			}
			got, err := d.LastTemp()
			if err != nil || got.Celsius() < celsius-0.001 || got.Celsius() > celsius+0.001 {
				t.Errorf("reads %v, %v; want %v", got.Celsius(), err, celsius)
			}
		}
	})
}

// A request that the kernel gives up is answered as given up, and never again.
func TestUnlinkOfATransactionThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBench()
		k, hangUp := attach(t, b.Bus)
		defer hangUp()
		if err := b.Command("fault 0x49 stuck"); err != nil {
			t.Fatal(err)
		}
		if _, err := k.conn.Write(append(k.header(0x41, 7, 0, 0x49, false, 1), 0)); err != nil {
			t.Fatal(err)
		}
		stuck := k.seq
		time.Sleep(2 * time.Second)
		unlink := make([]byte, usbHeader)
		binary.BigEndian.PutUint32(unlink[0:], usbUnlink)
		binary.BigEndian.PutUint32(unlink[4:], 900)
		binary.BigEndian.PutUint32(unlink[20:], stuck)
		if _, err := k.conn.Write(unlink); err != nil {
			t.Fatal(err)
		}
		h := make([]byte, usbHeader)
		if _, err := io.ReadFull(k.conn, h); err != nil {
			t.Fatal(err)
		}
		if be := binary.BigEndian; be.Uint32(h) != usbUnlinkReply || be.Uint32(h[4:]) != 900 || int32(be.Uint32(h[20:])) != -104 {
			t.Errorf("answer to the unlink % x", h[:24])
		}
		if err := b.Command("fault all none"); err != nil {
			t.Fatal(err)
		}
		// The next answer is that of the next request.
		if _, status := k.control(0xC1, 3, 0, 0, nil, 1); status != 0 {
			t.Errorf("status %d", status)
		}
	})
}

func TestBenchCommands(t *testing.T) {
	b := NewBench()
	for _, tt := range []struct{ line, want string }{
		{"set celsius 84", ""},
		{"fault 0x76 unplugged", ""},
		{"fault all none", ""},
		{"power 0x76", ""},
		{"set kelvin 1", "unknown quantity"},
		{"set celsius hot", "no number"},
		{"fault 0x50 nak", "no chip"},
		{"fault 0x76 rust", "unknown fault"},
		{"fault x nak", "no address"},
		{"dance", "unknown command"},
	} {
		err := b.Command(tt.line)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.line, err, tt.want)
		}
	}
	if got := b.Quantities()["celsius"]; got != 84 {
		t.Errorf("celsius is %v", got)
	}
	seen := map[uint16]string{}
	for _, c := range b.Chips() {
		if other := seen[c.Addr()]; other != "" {
			t.Errorf("%s and %s are both at 0x%02x", other, c.Name, c.Addr())
		}
		seen[c.Addr()] = c.Name
	}
}

func TestPorts(t *testing.T) {
	const table = `hub port sta spd dev      sockfd local_busid
hs  0000 006 002 00010002 000005 0-0
hs  0001 004 000 00000000 000000 0-0
ss  0008 004 000 00000000 000000 0-0
`
	port, ok := parsePorts(table)
	if diff := cmp.Diff([]any{1, true}, []any{port, ok}); diff != "" {
		t.Error(diff)
	}
	if _, ok := parsePorts("hs  0000 006 002"); ok {
		t.Error("a port in use is taken for free")
	}
}

// FuzzServe: whatever a kernel sends, the adapter ends and says why.
func FuzzServe(f *testing.F) {
	k := &kernel{}
	f.Add(k.header(0x80, 6, 0x0100, 0, true, 18))
	f.Add(append(k.header(0x41, 7, 0, 0x76, false, 2), 0xF4, 0x25))
	f.Add(append(append(k.header(0x41, 5, 0, 0x76, false, 1), 0xD0), k.header(0xC1, 6, 1, 0x76, true, 1)...))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var out bytes.Buffer
		_ = NewAdapter(New(NewBME280(0x76, func() (float64, float64, float64) { return 20, 1e5, 50 }))).Serve(
			struct {
				io.Reader
				io.Writer
			}{bytes.NewReader(b[:min(len(b), 1000)]), &out})
	})
}
