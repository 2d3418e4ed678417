package coap

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// appendTCP appends m as it travels over a stream (RFC 8323 section 3.2).
func appendTCP(dst []byte, m *message) []byte {
	body := appendBody(nil, m)
	n := len(body)
	head := byte(len(m.token))
	switch {
	case n < 13:
		dst = append(dst, byte(n)<<4|head)
	case n < 269:
		dst = append(dst, 13<<4|head, byte(n-13))
	case n < 65805:
		dst = append(dst, 14<<4|head, byte((n-269)>>8), byte(n-269))
	default:
		dst = append(dst, 15<<4|head)
		dst = binary.BigEndian.AppendUint32(dst, uint32(n-65805))
	}
	dst = append(append(dst, byte(m.code)), m.token...)
	return append(dst, body...)
}

// readTCP reads one message of at most limit bytes after its header. m owns what it
// holds.
func readTCP(r *bufio.Reader, m *message, limit int) error {
	*m = message{}
	first, err := r.ReadByte()
	if err != nil {
		return err
	}
	var extra [4]byte
	n := int(first >> 4)
	switch n {
	case 13:
		_, err = io.ReadFull(r, extra[:1])
		n = 13 + int(extra[0])
	case 14:
		_, err = io.ReadFull(r, extra[:2])
		n = 269 + int(binary.BigEndian.Uint16(extra[:]))
	case 15:
		_, err = io.ReadFull(r, extra[:4])
		n = 65805 + int(binary.BigEndian.Uint32(extra[:]))
	}
	tokens := int(first & 15)
	switch {
	case err != nil:
		return noEOF(err)
	case tokens > maxToken:
		return errMalformed
	case n > limit:
		return fmt.Errorf("message of %d bytes is over %d", n, limit)
	}
	c, err := r.ReadByte()
	if err != nil {
		return noEOF(err)
	}
	b := make([]byte, tokens+n)
	if _, err := io.ReadFull(r, b); err != nil {
		return noEOF(err)
	}
	m.code, m.token = code(c), b[:tokens:tokens]
	return parseBody(m, b[tokens:])
}

// noEOF makes an end in the middle of a message one that is an error.
func noEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // as io.ReadFull returns it
		return io.ErrUnexpectedEOF
	}
	return err
}
