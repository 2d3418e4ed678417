package mqtt

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// frame is one packet of MQTT as it came.
type frame struct {
	kind  packetType
	flags byte
	body  []byte // valid until the next one is read, but of a PUBLISH for ever
}

// frames reads packets. It holds the bounds itself, before it allocates anything: the
// library below would take a length of 256 MiB at its word.
type frames struct {
	in    *bufio.Reader
	small [256]byte
}

func (f *frames) next() (frame, error) {
	first, err := f.in.ReadByte()
	if err != nil {
		return frame{}, err
	}
	out := frame{kind: packetType(first >> 4), flags: first & 0x0f}
	size, err := f.length()
	if err != nil {
		return frame{}, err
	}
	if size > maxPacket {
		return frame{}, fmt.Errorf("packet of %d bytes is over %d", size, maxPacket)
	}
	if out.kind != typePublish && size <= len(f.small) {
		out.body = f.small[:size]
	} else {
		out.body = make([]byte, size)
	}
	_, err = io.ReadFull(f.in, out.body)
	return out, unexpected(err)
}

// length reads a variable byte integer: seven bits a byte, lowest first.
func (f *frames) length() (size int, err error) {
	for shift := 0; shift < 28; shift += 7 {
		d, err := f.in.ReadByte()
		if err != nil {
			return 0, unexpected(err)
		}
		size |= int(d&0x7f) << shift
		if d&0x80 == 0 {
			return size, nil
		}
	}
	return 0, errors.New("packet length of more than four bytes")
}

// unexpected is for an end of file in the middle of a packet.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendLength appends a variable byte integer.
func appendLength(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// unpack has the library read a body. It is not trusted with what a stranger sent.
func unpack(p interface{ Unpack(b *bytes.Buffer) error }, body []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("malformed packet: %v", r)
		}
	}()
	if err := p.Unpack(bytes.NewBuffer(body)); err != nil {
		return fmt.Errorf("malformed packet: %w", unexpected(err))
	}
	return nil
}

// properties reads the properties that end a packet of a kind.
type properties struct {
	packets.Properties
	kind packetType
	rest []byte // what follows them
}

func (p *properties) Unpack(b *bytes.Buffer) error {
	err := p.Properties.Unpack(b, byte(p.kind))
	p.rest = b.Bytes()
	return err
}

var errShort = fmt.Errorf("malformed packet: %w", io.ErrUnexpectedEOF)

// parsePuback returns the number and the reason, and the server's words for it.
func parsePuback(body []byte) (id uint16, r reason, said string, err error) {
	if len(body) < 2 {
		return 0, 0, "", errShort
	}
	id = uint16(body[0])<<8 | uint16(body[1])
	if len(body) > 2 {
		r = reason(body[2])
	}
	if len(body) > 3 && r != 0 { // nobody reads the words of a success
		p := properties{kind: typePuback}
		if err := unpack(&p, body[3:]); err != nil {
			return 0, 0, "", err
		}
		said = p.ReasonString
	}
	return id, r, said, nil
}

// published is a PUBLISH that came.
type inbound struct {
	topic   string
	id      uint16 // 0 at QoS 0
	payload []byte
}

func parsePublish(f frame) (inbound, error) {
	qos := f.flags >> 1 & 3
	if qos > 1 {
		return inbound{}, fmt.Errorf("a message of quality of service %d that nobody asked for", qos)
	}
	b := f.body
	if len(b) < 2 {
		return inbound{}, errShort
	}
	n := int(b[0])<<8 | int(b[1])
	b = b[2:]
	if len(b) < n {
		return inbound{}, errShort
	}
	m := inbound{topic: string(b[:n])}
	b = b[n:]
	if m.topic == "" {
		return inbound{}, errors.New("a message without a topic")
	}
	if qos == 1 {
		if len(b) < 2 {
			return inbound{}, errShort
		}
		m.id = uint16(b[0])<<8 | uint16(b[1])
		b = b[2:]
		if m.id == 0 {
			return inbound{}, errors.New("a message with number 0")
		}
	}
	p := properties{kind: typePublish}
	if err := unpack(&p, b); err != nil {
		return inbound{}, err
	}
	m.payload = p.rest
	return m, nil
}

// boundedWrite fails when the peer takes no 8 KiB within 5 s: a slow link may need
// long for a large message, a dead one shows soon.
func boundedWrite(c net.Conn, b []byte) (written int, err error) {
	for chunk := range slices.Chunk(b, writeChunk) {
		if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return written, err
		}
		n, err := c.Write(chunk)
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
