package coap

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// kind is the type of a message over UDP (RFC 7252 section 3).
type kind uint8

const (
	confirmable kind = iota
	nonConfirmable
	acknowledgement
	reset
)

// code is a method or a response code: three bits of class, five of detail.
type code uint8

// Methods and responses (RFC 7252 section 12.1, RFC 7959, RFC 8132, RFC 8323, RFC 8516).
const (
	codeEmpty code = 0

	methodGet  code = 1
	methodPost code = 2
	methodPut  code = 3

	codeCreated  code = 2<<5 | 1
	codeValid    code = 2<<5 | 3
	codeChanged  code = 2<<5 | 4
	codeContent  code = 2<<5 | 5
	codeContinue code = 2<<5 | 31

	codeBadRequest        code = 4 << 5
	codeUnauthorized      code = 4<<5 | 1
	codeBadOption         code = 4<<5 | 2
	codeForbidden         code = 4<<5 | 3
	codeNotFound          code = 4<<5 | 4
	codeMethodNotAllowed  code = 4<<5 | 5
	codeNotAcceptable     code = 4<<5 | 6
	codeIncomplete        code = 4<<5 | 8
	codeTooLarge          code = 4<<5 | 13
	codeUnsupportedFormat code = 4<<5 | 15
	codeUnprocessable     code = 4<<5 | 22
	codeTooMany           code = 4<<5 | 29

	codeInternal       code = 5 << 5
	codeNotImplemented code = 5<<5 | 1
	codeUnavailable    code = 5<<5 | 3

	signalCSM     code = 7<<5 | 1
	signalPing    code = 7<<5 | 2
	signalPong    code = 7<<5 | 3
	signalRelease code = 7<<5 | 4
	signalAbort   code = 7<<5 | 5
)

// String writes a code as people do: 2.04.
func (c code) String() string { return fmt.Sprintf("%d.%02d", c>>5, c&31) }

func (c code) request() bool  { return c>>5 == 0 && c != 0 }
func (c code) response() bool { return c>>5 >= 2 && c>>5 <= 5 }
func (c code) success() bool  { return c>>5 == 2 }

// optionID is the number of an option.
type optionID uint16

const (
	optIfMatch       optionID = 1
	optURIHost       optionID = 3
	optETag          optionID = 4
	optIfNoneMatch   optionID = 5
	optObserve       optionID = 6
	optURIPort       optionID = 7
	optURIPath       optionID = 11
	optContentFormat optionID = 12
	optMaxAge        optionID = 14
	optURIQuery      optionID = 15
	optAccept        optionID = 17
	optBlock2        optionID = 23
	optBlock1        optionID = 27
	optSize2         optionID = 28
	optSize1         optionID = 60
	optRequestTag    optionID = 292
)

// Signalling options of RFC 8323, whose numbers mean something else there.
const (
	optMaxMessageSize optionID = 2 // of CSM
	optBlockWise      optionID = 4 // of CSM
)

// critical reports whether a message with an option that is not understood must be
// refused (RFC 7252 section 5.4.1).
func (o optionID) critical() bool { return o&1 == 1 }

// option is one option of a message. Its value is part of the datagram it came in.
type option struct {
	id    optionID
	value []byte
}

// message is what travels: over UDP with kind and id, over TCP without.
type message struct {
	kind    kind
	code    code
	id      uint16
	token   []byte   // at most 8 bytes
	options []option // by rising number
	payload []byte
}

const (
	maxToken   = 8
	maxOptions = 64 // of one message; more are malformed
	marker     = 0xff
)

// Errors of the codec.
var (
	errShort     = errors.New("message is cut short")
	errVersion   = errors.New("unknown version")
	errMalformed = errors.New("malformed message")
)

// add appends an option; they may come in any order.
func (m *message) add(id optionID, value []byte) {
	m.options = append(m.options, option{id, value})
	for i := len(m.options) - 1; i > 0 && m.options[i-1].id > id; i-- {
		m.options[i-1], m.options[i] = m.options[i], m.options[i-1]
	}
}

func (m *message) addString(id optionID, value string) { m.add(id, []byte(value)) }
func (m *message) addUint(id optionID, v uint32)       { m.add(id, uintValue(v)) }

// get returns the first option with a number.
func (m *message) get(id optionID) ([]byte, bool) {
	for _, o := range m.options {
		if o.id == id {
			return o.value, true
		}
	}
	return nil, false
}

// uint returns an option that is a number. One that is too long is as good as absent.
func (m *message) uint(id optionID) (uint32, bool) {
	b, ok := m.get(id)
	if !ok || len(b) > 4 {
		return 0, false
	}
	return valueUint(b), true
}

// values joins the options with a number, each after a separator.
func (m *message) values(id optionID, separator byte) string {
	var out []byte
	for _, o := range m.options {
		if o.id == id {
			out = append(append(out, separator), o.value...)
		}
	}
	return string(out)
}

// uintValue writes a number without leading zero bytes (RFC 7252 section 3.2).
func uintValue(v uint32) []byte {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	i := 0
	for i < 4 && b[i] == 0 {
		i++
	}
	return b[i:]
}

func valueUint(b []byte) uint32 {
	var v uint32
	for _, x := range b {
		v = v<<8 | uint32(x)
	}
	return v
}

// appendUDP returns m as a datagram (RFC 7252 section 3).
func appendUDP(m *message) []byte {
	dst := append(make([]byte, 0, 64+len(m.payload)), 1<<6|byte(m.kind)<<4|byte(len(m.token)), byte(m.code), byte(m.id>>8), byte(m.id))
	return appendBody(append(dst, m.token...), m)
}

// parseUDP reads a datagram. m refers to b afterwards. Once the first four bytes are
// good, kind, code and id are set even if the rest is not.
func parseUDP(m *message, b []byte) error {
	*m = message{options: m.options[:0]}
	if len(b) < 4 {
		return errShort
	}
	if b[0]>>6 != 1 {
		return errVersion
	}
	m.kind, m.code, m.id = kind(b[0]>>4&3), code(b[1]), binary.BigEndian.Uint16(b[2:])
	n := int(b[0] & 15)
	rest := b[4:]
	switch {
	case n > maxToken:
		return errMalformed
	case len(rest) < n:
		return errShort
	case m.code == codeEmpty && (n > 0 || len(rest) > 0):
		return errMalformed
	}
	m.token = rest[:n:n]
	return parseBody(m, rest[n:])
}

// appendBody appends options and payload.
func appendBody(dst []byte, m *message) []byte {
	last := optionID(0)
	for _, o := range m.options {
		delta, size := nibble(int(o.id-last)), nibble(len(o.value))
		dst = append(dst, delta<<4|size)
		dst = appendExtended(dst, delta, int(o.id-last))
		dst = appendExtended(dst, size, len(o.value))
		dst = append(dst, o.value...)
		last = o.id
	}
	if len(m.payload) > 0 {
		dst = append(append(dst, marker), m.payload...)
	}
	return dst
}

// nibble returns the four bits that stand for v, or say how it is extended.
func nibble(v int) byte {
	switch {
	case v < 13:
		return byte(v)
	case v < 269:
		return 13
	}
	return 14
}

func appendExtended(dst []byte, n byte, v int) []byte {
	switch n {
	case 13:
		return append(dst, byte(v-13))
	case 14:
		return append(dst, byte((v-269)>>8), byte(v-269))
	}
	return dst
}

// parseBody reads options and payload.
func parseBody(m *message, b []byte) error {
	id := 0
	for len(b) > 0 {
		if b[0] == marker {
			if len(b) == 1 {
				return errMalformed // a marker without a payload
			}
			m.payload = b[1:]
			return nil
		}
		delta, size := b[0]>>4, b[0]&15
		var err error
		var d, n int
		if d, b, err = extended(b[1:], delta); err != nil {
			return err
		}
		if n, b, err = extended(b, size); err != nil {
			return err
		}
		id += d
		switch {
		case id > 0xffff || len(m.options) >= maxOptions:
			return errMalformed
		case n > len(b):
			return errShort
		}
		m.options = append(m.options, option{optionID(id), b[:n:n]})
		b = b[n:]
	}
	return nil
}

// extended reads the value that four bits begin.
func extended(b []byte, n byte) (int, []byte, error) {
	switch n {
	case 15:
		return 0, nil, errMalformed
	case 14:
		if len(b) < 2 {
			return 0, nil, errShort
		}
		return int(binary.BigEndian.Uint16(b)) + 269, b[2:], nil
	case 13:
		if len(b) < 1 {
			return 0, nil, errShort
		}
		return int(b[0]) + 13, b[1:], nil
	}
	return int(n), b, nil
}
