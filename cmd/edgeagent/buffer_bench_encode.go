package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/sync/wire"
)

// An encoding is repeated for so long and so many times at least, once each way; the
// fastest pass counts.
const (
	benchTime   = 300 * time.Millisecond
	benchPasses = 3
)

// codec turns one block's readings into bytes and back.
type codec struct {
	name   string
	encode func(dst []byte, c chunk) ([]byte, error)
	// decode returns how many readings it found.
	decode func(b []byte) (int, error)
}

// chunk is one block's readings, twice: as the codec of blocks takes them, and as
// they are.
type chunk struct {
	first    edgeagent.Seq
	rows     []block.Row
	readings []edgeagent.Reading
}

// compressor is a general compressor on a whole block.
type compressor struct {
	name       string
	compress   func(dst, src []byte) ([]byte, error)
	decompress func(dst, src []byte) ([]byte, error)
}

func benchEncodings(ctx context.Context, data []edgeagent.Reading, size int, each time.Duration) (series int, out []benchEncoding, err error) {
	chunks, series, err := chunked(data, size)
	if err != nil {
		return 0, nil, err
	}
	for _, c := range codecs() {
		e, err := c.measure(ctx, chunks, len(data), each)
		if err != nil {
			return 0, nil, fmt.Errorf("%s: %w", c.name, err)
		}
		out = append(out, e)
	}
	return series, out, nil
}

// chunked cuts data into what fits one block each.
func chunked(data []edgeagent.Reading, size int) (chunks []chunk, series int, err error) {
	ids := map[edgeagent.Series]uint32{}
	rows := make([]block.Row, len(data))
	for i, r := range data {
		id, ok := ids[r.Series]
		if !ok {
			id = uint32(len(ids)) + 1
			ids[r.Series] = id
		}
		unit := int64(math.Pow10(int(r.Series.Key().Resolution)))
		rows[i] = block.Row{Series: id, Time: r.At.Wall - r.At.Wall%unit, Value: r.Value, Quality: r.Quality}
	}
	var enc block.Encoder
	for at := 0; at < len(rows); {
		n := min(size, len(rows)-at)
		for {
			_, err = enc.Readings(nil, blockID(1), rows[at:at+n])
			if !errors.Is(err, block.ErrTooLarge) || n == 1 {
				break
			}
			n /= 2
		}
		if err != nil {
			return nil, 0, err
		}
		chunks = append(chunks, chunk{edgeagent.Seq(at) + 1, rows[at : at+n], data[at : at+n]})
		at += n
	}
	return chunks, len(ids), nil
}

func blockID(first edgeagent.Seq) block.ID {
	return block.ID{Stream: edgeagent.StreamTelemetry, Epoch: 1, First: first, Run: 1, Resolution: edgeagent.DefaultResolution}
}

// codecs lists the encodings: ours, and text with and without a compressor.
func codecs() []codec {
	var enc block.Encoder
	var dec block.Decoder
	var rows []block.Row
	list := []codec{{
		"block",
		func(dst []byte, c chunk) ([]byte, error) { return enc.Readings(dst, blockID(c.first), c.rows) },
		func(b []byte) (int, error) {
			var err error
			rows, _, err = dec.Readings(rows[:0], b)
			return len(rows), err
		},
	}}
	for _, text := range []codec{jsonCodec(), lineCodec()} {
		list = append(list, text)
		for _, c := range compressors() {
			list = append(list, text.with(c))
		}
	}
	return list
}

// jsonCodec is the leanest JSON that still says it all: an object a line without our
// identity.
func jsonCodec() codec {
	return codec{
		"json",
		func(dst []byte, c chunk) ([]byte, error) {
			for _, r := range c.readings {
				dst = append(strconv.AppendInt(append(dst, `{"t":`...), r.At.Wall/1e6, 10), `,"series":`...)
				dst = append(strconv.AppendQuote(dst, r.Series.String()), `,"value":`...)
				if math.IsNaN(r.Value) || math.IsInf(r.Value, 0) {
					dst = append(dst, "null}\n"...)
					continue
				}
				dst = append(strconv.AppendFloat(dst, r.Value, 'g', -1, 64), "}\n"...)
			}
			return dst, nil
		},
		func(b []byte) (n int, err error) {
			for line := range bytes.Lines(b) {
				var r struct {
					T      int64    `json:"t"`
					Series string   `json:"series"`
					Value  *float64 `json:"value"`
				}
				if err := json.Unmarshal(line, &r); err != nil {
					return n, err
				}
				n++
			}
			return n, nil
		},
	}
}

// lineCodec is line protocol as the uplink sends it. Its decoder is as simple as the
// data allows.
func lineCodec() codec {
	form := wire.NewLine()
	return codec{
		"line",
		func(dst []byte, c chunk) ([]byte, error) {
			h := edgeagent.BatchHeader{Stream: edgeagent.StreamTelemetry, First: c.first, Count: len(c.readings)}
			return form.Encode(dst, edgeagent.NewBatch(h, nil, content{readings: c.readings}), "gw")
		},
		func(b []byte) (n int, err error) {
			for line := range bytes.Lines(b) {
				rest, at := cutLast(bytes.TrimSuffix(line, []byte("\n")), ' ')
				_, value := cutLast(rest, '=')
				if _, err := strconv.ParseInt(string(at), 10, 64); err != nil {
					return n, err
				}
				// A reading without a number bears its quality instead.
				if _, err := strconv.ParseFloat(string(value), 64); err != nil && value[0] != '"' {
					return n, err
				}
				n++
			}
			return n, nil
		},
	}
}

func cutLast(b []byte, sep byte) (before, after []byte) {
	if i := bytes.LastIndexByte(b, sep); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// with puts a compressor behind a text codec.
func (c codec) with(x compressor) codec {
	var text, raw []byte
	return codec{
		c.name + "+" + x.name,
		func(dst []byte, ch chunk) (_ []byte, err error) {
			if text, err = c.encode(text[:0], ch); err != nil {
				return dst, err
			}
			return x.compress(dst, text)
		},
		func(b []byte) (_ int, err error) {
			if raw, err = x.decompress(raw[:0], b); err != nil {
				return 0, err
			}
			return c.decode(raw)
		},
	}
}

// measure encodes and decodes all chunks for a while each way.
func (c codec) measure(ctx context.Context, chunks []chunk, readings int, each time.Duration) (benchEncoding, error) {
	e := benchEncoding{Name: c.name}
	var encoded [][]byte
	total := 0
	for _, ch := range chunks { // warms up as well
		b, err := c.encode(nil, ch)
		if err != nil {
			return e, err
		}
		encoded = append(encoded, slices.Clip(b))
		total += len(b)
	}
	var dst []byte
	var before, after runtime.MemStats
	allocs := math.Inf(1)
	ns, err := fastest(ctx, each, func() (err error) {
		runtime.ReadMemStats(&before)
		for _, ch := range chunks {
			if dst, err = c.encode(dst[:0], ch); err != nil {
				return err
			}
		}
		runtime.ReadMemStats(&after)
		allocs = min(allocs, float64(after.Mallocs-before.Mallocs))
		return nil
	})
	if err != nil {
		return e, err
	}
	back, err := fastest(ctx, each, func() error {
		n := 0
		for _, b := range encoded {
			m, err := c.decode(b)
			if err != nil {
				return err
			}
			n += m
		}
		if n != readings {
			return fmt.Errorf("%d readings came back as %d", readings, n)
		}
		return nil
	})
	per := float64(readings)
	e.Bytes, e.EncodeNs, e.DecodeNs, e.Allocs = round(float64(total)/per), round(ns/per), round(back/per), round(allocs/per)
	return e, err
}

// fastest returns how many nanoseconds the fastest of several passes took.
func fastest(ctx context.Context, each time.Duration, pass func() error) (float64, error) {
	best := math.Inf(1)
	for passes, began := 1, time.Now(); ; passes++ {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := pass(); err != nil {
			return 0, err
		}
		best = min(best, float64(time.Since(start)))
		if passes >= benchPasses && time.Since(began) > each {
			return best, nil
		}
	}
}
