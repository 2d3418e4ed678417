package uplink

import (
	"bytes"
	"fmt"

	"github.com/edgeagent/edgeagent"
)

// fit returns the beginning of b that makes a message of at most size bytes, and that
// message, and keeps the rest. A single record may make a larger one. After an error
// b comes back whole.
func (f *feed) fit(l Lane, b edgeagent.Batch, size int) (edgeagent.Batch, []byte, error) {
	if f.format != nil {
		return f.fitText(l, b, size)
	}
	for len(b.Encoded) > size && b.Count > 1 {
		half, err := f.cut(l, b, b.First+edgeagent.Seq(b.Count/2))
		if err != nil {
			return b, nil, err
		}
		b = half
	}
	return b, b.Encoded, nil
}

// fitText is fit for text. How many records fit is guessed by the messages before:
// a format that can stop when it has enough writes each record once, others begin
// again with fewer.
//
// Also what goes whole is cut out of b, for the cut shows the times as they are known by
// now, and b may be as old as a few messages.
func (f *feed) fitText(l Lane, b edgeagent.Batch, size int) (edgeagent.Batch, []byte, error) {
	for n := f.guess(size, b.Count); ; {
		piece, err := b.Cut(edgeagent.Range{From: b.First, To: b.First + edgeagent.Seq(n) - 1})
		if err != nil {
			return b, nil, fmt.Errorf("cut: %w", err)
		}
		payload, fits, err := f.encode(piece, size)
		if err != nil {
			return b, nil, err
		}
		if fits == 0 {
			n = f.fewer(n, size, len(payload))
			continue
		}
		if fits < n {
			if piece, err = piece.Cut(edgeagent.Range{From: b.First, To: b.First + edgeagent.Seq(fits) - 1}); err != nil {
				return b, nil, fmt.Errorf("cut: %w", err)
			}
		}
		if fits < b.Count {
			rest, err := b.Cut(edgeagent.Range{From: b.First + edgeagent.Seq(fits), To: b.Last()})
			if err != nil {
				return b, nil, fmt.Errorf("cut: %w", err)
			}
			f.unread(l, rest)
		}
		return piece, payload, nil
	}
}

// guess returns how many of up to count records to try for a message of size bytes.
func (f *feed) guess(size, count int) int {
	n := float64(size) / f.perText
	if _, stops := f.format.(partial); stops {
		n += n / 16 // what is too many costs little
	} else {
		n -= n / 16
	}
	return max(1, min(count, int(n)))
}

// fewer returns how many records to try after n of them made a message of length bytes
// instead of size. It goes down by a quarter at least: those that come first may be
// the long ones.
func (f *feed) fewer(n, size, length int) int {
	return max(1, min(n*3/4, int(int64(n)*int64(size)/int64(length)*15/16)))
}

// spareText is room for a record that turns out not to fit: it is written first.
const spareText = 512

// encode returns the first records of b as text, as many as fit into size bytes, and how
// many those are: 0 for an encoder that has to begin again with fewer.
func (f *feed) encode(b edgeagent.Batch, size int) (payload []byte, fits int, err error) {
	dst := f.texts.take(min(size, int(f.perText*float64(b.Count))+spareText))
	fits = b.Count
	if p, ok := f.format.(partial); ok {
		if size >= pooled && size == cap(dst) { // or it would grow, by a lot
			size -= spareText
		}
		payload, fits, err = p.EncodeUpTo(dst, b, f.device, size)
	} else {
		payload, err = f.format.Encode(dst, b, f.device)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("encode as %s: %w", f.format.Name(), err)
	}
	f.perText += (float64(len(payload))/float64(fits) - f.perText) / 4
	if f.encoding == "" {
		// A message ends without a line end: whoever prints messages adds one, and
		// would show an empty line after each.
		payload = bytes.TrimSuffix(payload, []byte("\n"))
	}
	if len(payload) > size && fits > 1 {
		return payload, 0, nil
	}
	return payload, fits, nil
}
