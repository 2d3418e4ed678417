package bus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Adapter is a USB adapter for I²C ("i2c-tiny-usb" by Till Harbaum, which Linux
// has a driver for) whose bus is a [Bus]. It speaks USB/IP, the kernel's protocol for
// devices that are elsewhere (Documentation/usb/usbip_protocol.rst), so that a kernel
// with the modules vhci-hcd, i2c-tiny-usb and i2c-dev takes the simulated chips for a
// bus of its own: see [Adapter.Attach].
//
// A transaction that does not return ([Stuck]) keeps the adapter busy, as a real bus
// does; the kernel gives it up after two seconds.
type Adapter struct{ bus *Bus }

// NewAdapter makes an adapter for b.
func NewAdapter(b *Bus) *Adapter { return &Adapter{bus: b} }

// Commands and replies of USB/IP.
const (
	usbSubmit       = 1
	usbUnlink       = 2
	usbSubmitReply  = 3
	usbUnlinkReply  = 4
	usbHeader       = 48
	usbMaxTransfer  = 64 << 10 // an I²C message has at most 65,535 bytes
	usbMaxWaiting   = 64       // requests; the kernel has one under way at the control endpoint
	usbDirectionIn  = 1
	usbVendor       = 0x0403
	usbProduct      = 0xC631
	tinyFunctions   = 0x0EFF0001 // I2C and SMBus emulation
	tinyNAK         = 2
	tinyAcknowledge = 1
)

// urb is a request of the kernel.
type urb struct {
	seq   uint32
	in    bool
	n     int // bytes to read or write
	setup [8]byte
	out   []byte
}

// session is one connection to a kernel.
type session struct {
	rw  io.ReadWriter
	bus *Bus

	mu      sync.Mutex // guards what follows, and writes
	waiting map[uint32]bool

	// Of the goroutine that answers.
	status byte
	write  []byte // of a transaction that goes on with a read
	addr   uint16
}

// Serve answers a kernel on rw until it hangs up, which is no error, or says what is no
// USB/IP. It returns when the transaction under way does.
func (a *Adapter) Serve(rw io.ReadWriter) error {
	s := &session{rw: rw, bus: a.bus, waiting: map[uint32]bool{}, status: tinyAcknowledge}
	requests := make(chan urb, usbMaxWaiting)
	var wg sync.WaitGroup
	var failed error // of an answer
	wg.Go(func() {
		for u := range requests {
			if err := s.answer(u); failed == nil {
				failed = err
			}
		}
	})
	err := s.read(requests)
	close(requests)
	wg.Wait()
	return errors.Join(err, failed)
}

// read passes on requests until the kernel hangs up.
func (s *session) read(requests chan<- urb) error {
	var h [usbHeader]byte
	for {
		if _, err := io.ReadFull(s.rw, h[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read USB/IP: %w", err)
		}
		be := binary.BigEndian
		switch command := be.Uint32(h[0:]); command {
		case usbSubmit:
			u, err := s.submitted(h)
			if err != nil {
				return err
			}
			requests <- u
		case usbUnlink:
			if err := s.unlink(be.Uint32(h[4:]), be.Uint32(h[20:])); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown USB/IP command %d", command)
		}
	}
}

func (s *session) submitted(h [usbHeader]byte) (urb, error) {
	be := binary.BigEndian
	u := urb{seq: be.Uint32(h[4:]), in: be.Uint32(h[12:]) == usbDirectionIn, n: int(be.Uint32(h[24:])), setup: [8]byte(h[40:])}
	if u.n > usbMaxTransfer {
		return u, fmt.Errorf("USB/IP transfer of %d bytes, at most %d", u.n, usbMaxTransfer)
	}
	if !u.in && u.n > 0 {
		u.out = make([]byte, u.n)
		if _, err := io.ReadFull(s.rw, u.out); err != nil {
			return u, fmt.Errorf("read USB/IP data: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) >= usbMaxWaiting {
		return u, fmt.Errorf("more than %d USB/IP requests wait", usbMaxWaiting)
	}
	s.waiting[u.seq] = true
	return u, nil
}

// unlink gives up a request, unless it has been answered: an answer after this one
// would make the kernel drop the connection.
func (s *session) unlink(seq, target uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := int32(0)
	if s.waiting[target] {
		delete(s.waiting, target)
		status = -int32(syscall.ECONNRESET)
	}
	return s.reply(usbUnlinkReply, seq, status, 0, nil)
}

func (s *session) answer(u urb) error {
	data, status := s.control(u)
	if !u.in {
		data = nil // the kernel would take it for the next answer
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.waiting[u.seq] {
		return nil
	}
	delete(s.waiting, u.seq)
	done := len(u.out)
	if u.in {
		done = len(data)
	}
	return s.reply(usbSubmitReply, u.seq, status, done, data)
}

// reply is called with mu held.
func (s *session) reply(command, seq uint32, status int32, done int, data []byte) error {
	b := make([]byte, usbHeader, usbHeader+len(data))
	be := binary.BigEndian
	be.PutUint32(b[0:], command)
	be.PutUint32(b[4:], seq)
	be.PutUint32(b[20:], uint32(status))
	be.PutUint32(b[24:], uint32(done))
	if _, err := s.rw.Write(append(b, data...)); err != nil {
		return fmt.Errorf("write USB/IP: %w", err)
	}
	return nil
}

// control answers a control transfer: the data that the kernel reads, and 0 or a
// negative error number.
func (s *session) control(u urb) (data []byte, status int32) {
	le := binary.LittleEndian
	kind, request := u.setup[0], u.setup[1]
	value, index, length := le.Uint16(u.setup[2:]), le.Uint16(u.setup[4:]), int(le.Uint16(u.setup[6:]))
	length = min(length, u.n)
	stall := -int32(syscall.EPIPE)
	if kind&0x60 == 0 {
		return standard(request, value, length, stall)
	}
	switch {
	case request == 1: // what it can do
		return le.AppendUint32(nil, tinyFunctions)[:min(length, 4)], 0
	case request == 2: // its speed
		return nil, 0
	case request == 3:
		return []byte{s.status}[:min(length, 1)], 0
	case request >= 4 && request <= 7:
		const read, last = 1, 2
		return s.message(index, value&read != 0, request&last != 0, u.out, length), 0
	}
	return nil, stall
}

// standard answers what every USB device is asked.
func standard(request byte, value uint16, length int, stall int32) ([]byte, int32) {
	switch request {
	case 0: // status
		return make([]byte, min(2, length)), 0
	case 6:
		d := descriptor(byte(value>>8), byte(value))
		if d == nil {
			return nil, stall
		}
		return d[:min(length, len(d))], 0
	case 8: // configuration
		return []byte{1}[:min(length, 1)], 0
	}
	return nil, 0
}

// descriptor says what the device is (USB 2.0, chapter 9).
func descriptor(kind, i byte) []byte {
	switch kind {
	case 1: // device: full speed, vendor specific, one configuration
		return []byte{
			18, 1, 0x10, 0x01, 0xFF, 0, 0, 64, usbVendor & 0xFF, usbVendor >> 8, usbProduct & 0xFF, usbProduct >> 8,
			0x05, 0x02, 1, 2, 0, 1,
		}
	case 2: // configuration with one interface and no endpoint but the control one
		return []byte{9, 2, 18, 0, 1, 1, 0, 0x80, 50, 9, 4, 0, 0, 0, 0xFF, 0, 0, 0}
	case 3:
		texts := []string{"", "edgeagent", "simulated i2c-tiny-usb"}
		switch {
		case i == 0:
			return []byte{4, 3, 9, 4} // English
		case int(i) >= len(texts):
			return nil
		}
		d := []byte{byte(2 + 2*len(texts[i])), 3}
		for _, c := range []byte(texts[i]) {
			d = append(d, c, 0)
		}
		return d
	}
	return nil
}

// message does one message of a transaction; last says that none follows. A write that
// is followed by a read is kept for it, because a chip sees both as one.
func (s *session) message(addr uint16, read, last bool, w []byte, n int) []byte {
	if s.bus.Chip(addr) == nil {
		s.status, s.write = tinyNAK, nil
		return make([]byte, n)
	}
	if !read && !last {
		s.status, s.write, s.addr = tinyAcknowledge, append(s.write[:0], w...), addr
		return nil
	}
	var r []byte
	if read {
		r = make([]byte, n)
		if s.addr == addr {
			w = s.write
		}
	}
	s.write = nil
	s.status = tinyAcknowledge
	if err := s.bus.Tx(addr, w, r); err != nil {
		s.status = tinyNAK
	}
	return r
}

// parsePorts reads the hub's table, one line a port: "hs  0000 004 000 …", where 004
// says that nothing is attached.
func parsePorts(table string) (port int, ok bool) {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "hs" || f[2] != "004" {
			continue
		}
		if n, err := strconv.Atoi(f[1]); err == nil {
			return n, true
		}
	}
	return 0, false
}
