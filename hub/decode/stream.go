package decode

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// Framing says where a message ends in a stream of bytes.
type Framing uint8

const (
	// None means blocks back to back, with or without line ends between them. After what
	// is no block nothing can be found again.
	None Framing = iota
	// Topic means before each message a line "topic length", as
	// mosquitto_sub -F '%t %l\n%p' prints it.
	Topic
	// Length means before each message its length, 32 bits, most significant byte first.
	// What is printed for it comes out in one such frame, empty if there is nothing.
	Length
)

// ParseFraming reads none, topic or length.
func ParseFraming(name string) (Framing, error) {
	for i, n := range [...]string{"none", "topic", "length"} {
		if n == name {
			return Framing(i), nil
		}
	}
	return 0, fmt.Errorf("unknown framing %q, want none, topic or length", name)
}

// maxTopic bounds the line before a message.
const maxTopic = 4 << 10

// Copy decodes r until it ends and prints to w, which is flushed whenever nothing
// more is there to be read. A stream that ends within a message is an error.
func Copy(w io.Writer, r io.Reader, f Framing, o Options) (Stats, error) {
	in, out := bufio.NewReaderSize(r, 64<<10), bufio.NewWriterSize(w, 64<<10)
	if f == Length {
		return frames(in, out, o)
	}
	d, err := New(out, o)
	if err != nil {
		return Stats{}, err
	}
	next := d.nextBlock
	if f == Topic {
		next = d.nextTopic
	}
	for {
		if in.Buffered() == 0 { // the next read may wait
			if err := out.Flush(); err != nil {
				return d.Stats(), fmt.Errorf("write records: %w", err)
			}
		}
		switch err := next(in); {
		case errors.Is(err, io.EOF):
			return d.Stats(), flush(out, nil)
		case err != nil:
			return d.Stats(), flush(out, err)
		}
	}
}

func flush(out *bufio.Writer, err error) error {
	if ferr := out.Flush(); ferr != nil && err == nil {
		return fmt.Errorf("write records: %w", ferr)
	}
	return err
}

// nextBlock decodes one block of a stream without frames.
func (d *Decoder) nextBlock(in *bufio.Reader) error {
	for {
		c, err := in.ReadByte()
		if err != nil {
			return ended(err)
		}
		if c != '\n' && c != '\r' {
			break
		}
	}
	if err := in.UnreadByte(); err != nil {
		return fmt.Errorf("read blocks: %w", err)
	}
	head, err := in.Peek(block.HeaderSize)
	if bytes.HasPrefix(head, []byte("EX")) {
		return sealed()
	}
	h, herr := block.ParseHeader(head)
	if err != nil && (herr == nil || bytes.HasPrefix(head, []byte("EB"))) {
		return within(err)
	}
	if herr != nil {
		return edgeagent.WithHint(fmt.Errorf("read blocks: %w", herr),
			`nothing after it can be found again: pass on payloads alone, as mosquitto_sub -N does, or with --framing topic`)
	}
	blk := make([]byte, h.Size())
	if _, err := io.ReadFull(in, blk); err != nil {
		return within(err)
	}
	return d.Block("", blk)
}

func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return fmt.Errorf("read blocks: %w", err)
}

// within is what a stream ended with that had more to come.
func within(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read blocks: %w", err)
}

// nextTopic decodes one message after its line of topic and length.
func (d *Decoder) nextTopic(in *bufio.Reader) error {
	line, err := readLine(in)
	if err != nil {
		return err
	}
	topic, size, ok := cutLast(line)
	n, err := strconv.ParseUint(size, 10, 31)
	if !ok || err != nil {
		return edgeagent.WithHint(fmt.Errorf("read messages: no line of topic and length: %.80q", line),
			`print messages with mosquitto_sub -F '%t %l\n%p'`)
	}
	message, err := d.readMessage(in, int(n))
	if message == nil || err != nil {
		return err
	}
	return d.Message(deviceOf(topic), message)
}

// readLine returns the next line that is not empty.
func readLine(in *bufio.Reader) (string, error) {
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull) || len(line) > maxTopic:
			return "", fmt.Errorf("read messages: a topic of over %d bytes", maxTopic)
		case err != nil && len(bytes.TrimSpace(line)) > 0:
			return "", within(err)
		case err != nil:
			return "", ended(err)
		case len(bytes.TrimSpace(line)) > 0:
			return strings.TrimRight(string(line), "\r\n"), nil
		}
	}
}

func cutLast(line string) (topic, size string, ok bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 {
		return "", "", false
	}
	return line[:i], line[i+1:], true
}

// readMessage reads n bytes; a message that is too large is skipped and counted, and
// nil.
func (d *Decoder) readMessage(in *bufio.Reader, n int) ([]byte, error) {
	if n > MaxMessage {
		d.damaged(fmt.Errorf("a message of %d bytes, over %d", n, MaxMessage))
		if _, err := in.Discard(n); err != nil {
			return nil, within(err)
		}
		return nil, nil
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(in, message); err != nil {
		return nil, within(err)
	}
	return message, nil
}

// deviceOf returns the device of ea/v1/{tenant}/{device}/d/{lane}, "" of another topic.
func deviceOf(topic string) string {
	if parts := strings.Split(topic, "/"); len(parts) == 6 && parts[4] == "d" {
		return parts[3]
	}
	return ""
}

// frames decodes frames into frames. Whoever sends one waits for its answer.
func frames(in *bufio.Reader, out *bufio.Writer, o Options) (Stats, error) {
	var answer bytes.Buffer
	d, err := New(&answer, o)
	if err != nil {
		return Stats{}, err
	}
	for {
		var head [4]byte
		if _, err := io.ReadFull(in, head[:]); errors.Is(err, io.EOF) {
			return d.Stats(), nil
		} else if err != nil {
			return d.Stats(), within(err)
		}
		message, err := d.readMessage(in, int(binary.BigEndian.Uint32(head[:])&0x7fffffff))
		if err != nil {
			return d.Stats(), err
		}
		if err := d.Message("", message); err != nil {
			return d.Stats(), err
		}
		binary.BigEndian.PutUint32(head[:], uint32(answer.Len()))
		_, _ = out.Write(head[:]) // Flush tells of errors
		_, _ = out.Write(answer.Bytes())
		answer.Reset()
		if err := flush(out, nil); err != nil {
			return d.Stats(), err
		}
	}
}
