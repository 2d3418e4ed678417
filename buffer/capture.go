package buffer

import (
	"errors"
	"fmt"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// Bounds of a capture.
const (
	maxCaptureParts = 16
	maxCaptureBytes = 256 << 10
)

// Capture packs readings from around an alarm for the Data of events of kind
// capture: 1 to 16 parts of at most 24 KiB, 256 KiB in all, each a series block and
// a readings block that need nothing else to be read. Readings that do not fit are
// thinned out evenly, and thinned says so. Times are rounded as [Buffer.Append]
// rounds them; everything else, and the order, is kept. No readings give no parts.
//
// It stores nothing: hand the events to [Buffer.AppendEvents]. Safe for concurrent
// use.
func (b *Buffer) Capture(rs []edgeagent.Reading) (parts [][]byte, thinned bool, err error) {
	for i := range rs {
		if err := checkReading(&rs[i]); err != nil {
			return nil, false, fmt.Errorf("pack capture: %w", err)
		}
	}
	c := capturePacker{device: b.o.Device, id: block.ID{Run: b.run, Unsynced: !b.o.Clock.Synced()}}
	for step := 1; ; step *= 2 {
		parts, err = c.pack(everyNth(rs, step))
		switch {
		case err == nil:
			return parts, step > 1, nil
		case !errors.Is(err, errCaptureSize) || step > len(rs):
			return nil, false, fmt.Errorf("pack capture: %w", err)
		}
	}
}

// everyNth returns every nth reading of each series, beginning with its first.
func everyNth(rs []edgeagent.Reading, n int) []edgeagent.Reading {
	if n == 1 {
		return rs
	}
	var out []edgeagent.Reading
	seen := map[edgeagent.Series]int{}
	for i := range rs {
		if seen[rs[i].Series]%n == 0 {
			out = append(out, rs[i])
		}
		seen[rs[i].Series]++
	}
	return out
}

// errCaptureSize: fewer readings may fit.
var errCaptureSize = errors.New("the readings do not fit")

// capturePacker makes the parts of one capture. Ids are of each part alone, so that
// no epoch's ids are used up or given another meaning.
type capturePacker struct {
	device string
	id     block.ID
	enc    block.Encoder
}

func (c *capturePacker) pack(rs []edgeagent.Reading) (parts [][]byte, err error) {
	total := 0
	for len(rs) > 0 {
		part, n, err := c.most(rs)
		if err != nil {
			return nil, err
		}
		parts, rs, total = append(parts, part), rs[n:], total+len(part)
		if len(parts) > maxCaptureParts || total > maxCaptureBytes {
			return nil, errCaptureSize
		}
	}
	return parts, nil
}

// most packs as many of the first readings as one part takes, within a few percent.
func (c *capturePacker) most(rs []edgeagent.Reading) (part []byte, n int, err error) {
	for n = min(len(rs), block.MaxRecords); ; {
		part, err = c.part(rs[:n])
		size := len(part)
		switch {
		case err == nil && size <= edgeagent.MaxEventData:
			return part, n, nil
		case err != nil && !errors.Is(err, block.ErrTooLarge):
			return nil, 0, err
		case n == 1:
			return nil, 0, fmt.Errorf("a reading of series %s: %w", rs[0].Series, block.ErrTooLarge)
		case err != nil:
			size = 2 * edgeagent.MaxEventData
		}
		n = max(1, min(n-1, n*edgeagent.MaxEventData/size*19/20))
	}
}

// part packs readings as one part.
func (c *capturePacker) part(rs []edgeagent.Reading) ([]byte, error) {
	ids := map[edgeagent.Series]uint32{}
	var entries []block.SeriesEntry
	c.id.Resolution = 9
	rows := make([]block.Row, len(rs))
	for i := range rs {
		key := rs[i].Series.Key()
		id, known := ids[rs[i].Series]
		if !known {
			id = uint32(len(ids) + 1)
			ids[rs[i].Series] = id
			entries = append(entries, block.SeriesEntry{ID: id, Key: key})
			c.id.Resolution = min(c.id.Resolution, key.Resolution)
		}
		rows[i] = block.Row{Series: id, Time: roundTime(rs[i].At.Wall, key.Resolution), Value: rs[i].Value, Quality: rs[i].Quality}
	}
	part, err := c.enc.Series(nil, c.device, 0, entries)
	if err != nil {
		return nil, err
	}
	return c.enc.Readings(part, c.id, rows)
}

// checkEventData holds an event that bears data to what fits a block.
func checkEventData(ev *edgeagent.Event) error {
	size := len(ev.Data) + len(ev.Text) + len(ev.ID) + len(ev.Kind) + len(ev.Series)
	for k, v := range ev.Attrs {
		size += len(k) + len(v)
	}
	switch {
	case len(ev.Data) > edgeagent.MaxEventData:
		return fmt.Errorf("%w: event %.64s: data of %d bytes, at most %d fit", ErrInvalid, ev.Kind, len(ev.Data), edgeagent.MaxEventData)
	case len(ev.Data) > 0 && size > edgeagent.MaxEventSize:
		return fmt.Errorf("%w: event %.64s: %d bytes with its data, at most %d fit", ErrInvalid, ev.Kind, size, edgeagent.MaxEventSize)
	}
	return nil
}
