package hub

import (
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// decode fills in the records of cut.Ranges, with add on their times if they were taken
// without a clock. It returns false if a series is not known. They stand behind those of
// the cuts that are planned already, until the next reset.
func (h *Hub) decode(cut *Cut, ep *epoch, hdr block.Header, blk []byte, add time.Duration) (known bool, err error) {
	cut.hdr, cut.blk = hdr, blk
	if hdr.Unsynced && add != 0 {
		cut.add, cut.Unsynced = add, false
	}
	switch hdr.Kind {
	case block.KindEvents:
		return true, h.decodeEvents(cut, hdr, blk)
	case block.KindRollup:
		return h.decodeRollups(cut, ep, hdr, blk)
	}
	return h.decodeReadings(cut, ep, hdr, blk)
}

func (h *Hub) decodeEvents(cut *Cut, hdr block.Header, blk []byte) (err error) {
	h.plain, _, err = h.dec.Events(h.plain[:0], blk)
	if err != nil {
		return err
	}
	from := len(h.events)
	add := int64(cut.add)
	for _, r := range cut.Ranges {
		for seq := r.From; seq <= r.To; seq++ {
			e := h.plain[seq-hdr.First]
			e.At.Wall += add
			h.events = append(h.events, Event{seq, e})
		}
	}
	cut.Events = h.events[from:len(h.events):len(h.events)]
	return nil
}

func (h *Hub) decodeReadings(cut *Cut, ep *epoch, hdr block.Header, blk []byte) (known bool, err error) {
	h.raw, _, err = h.dec.Readings(h.raw[:0], blk)
	if err != nil {
		return false, err
	}
	from := len(h.rows)
	add := int64(cut.add)
	for _, r := range cut.Ranges {
		for seq := r.From; seq <= r.To; seq++ {
			raw := h.raw[seq-hdr.First]
			series := ep.names.get(raw.Series)
			if series.IsZero() {
				h.rows = h.rows[:from]
				h.ask(ep, len(h.raw), func(i int) uint32 { return h.raw[i].Series })
				return false, nil
			}
			h.rows = append(h.rows, Row{seq, series, raw.Series, raw.Time + add, raw.Value, raw.Quality})
		}
	}
	cut.Rows = h.rows[from:len(h.rows):len(h.rows)]
	return true, nil
}

func (h *Hub) decodeRollups(cut *Cut, ep *epoch, hdr block.Header, blk []byte) (known bool, err error) {
	h.folded, cut.source, _, err = h.dec.Rollup(h.folded[:0], blk)
	if err != nil {
		return false, err
	}
	bucket := time.Duration(cut.source.Bucket) * time.Second
	from := len(h.rolls)
	add := int64(cut.add)
	for _, r := range cut.Ranges {
		for seq := r.From; seq <= r.To; seq++ {
			row := h.folded[seq-hdr.First]
			series := ep.names.get(row.Series)
			if series.IsZero() {
				h.rolls = h.rolls[:from]
				h.ask(ep, len(h.folded), func(i int) uint32 { return h.folded[i].Series })
				return false, nil
			}
			h.rolls = append(h.rolls, Rollup{seq, row.Series, edgeagent.Rollup{
				Series: series, At: edgeagent.Instant{Wall: row.Time + add}, Bucket: bucket, Count: row.Count,
				Sum: row.Sum, Min: row.Min, Max: row.Max, First: row.First, Last: row.Last,
			}})
		}
	}
	cut.Rollups = h.rolls[from:len(h.rolls):len(h.rolls)]
	return true, nil
}

// ask notes which names are missing for n rows.
func (h *Hub) ask(ep *epoch, n int, series func(i int) uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range n {
		if len(ep.need) >= h.lim.need {
			return
		}
		if ep.names.get(series(i)).IsZero() {
			ep.need[series(i)] = struct{}{}
		}
	}
}
