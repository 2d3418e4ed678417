package hub

import (
	"errors"
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// AppendBlocks appends the cut as blocks that need no other: the names of its series
// first, then its records, exactly those of its ranges, under the numbers they have. Times are as the
// agent took them. A block that is new as a whole is passed on as it came. Only cuts that
// a hub has made can do it, during Commit.
func (c Cut) AppendBlocks(dst []byte) ([]byte, error) {
	var enc block.Encoder
	dst, err := c.appendNames(&enc, dst)
	if err != nil {
		return nil, err
	}
	if c.hdr.Count == 0 {
		return nil, errors.New("the cut was not made from a block")
	}
	if whole := c.hdr.Batch().Range(); len(c.Ranges) == 1 && c.Ranges[0] == whole {
		return append(dst, c.blk...), nil
	}
	for _, r := range c.Ranges {
		if dst, err = c.appendRange(&enc, dst, r); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// appendNames appends the definitions of the series that the cut has records of.
func (c Cut) appendNames(enc *block.Encoder, dst []byte) ([]byte, error) {
	known := map[uint32]edgeagent.Series{}
	for i := range c.Rows {
		known[c.Rows[i].ID] = c.Rows[i].Series
	}
	for i := range c.Rollups {
		known[c.Rollups[i].ID] = c.Rollups[i].Series
	}
	var list []block.SeriesEntry
	for id, s := range known {
		list = append(list, block.SeriesEntry{ID: id, Key: s.Key()})
	}
	slices.SortFunc(list, func(a, b block.SeriesEntry) int { return int(int64(a.ID) - int64(b.ID)) })
	return halving(dst, list, func(dst []byte, part []block.SeriesEntry) ([]byte, error) {
		return enc.Series(dst, c.Device, c.Epoch, part)
	})
}

// halving encodes a list in as many blocks as it takes.
func halving[T any](dst []byte, list []T, encode func([]byte, []T) ([]byte, error)) ([]byte, error) {
	if len(list) == 0 {
		return dst, nil
	}
	out, err := encode(dst, list)
	if !errors.Is(err, block.ErrTooLarge) || len(list) == 1 {
		return out, err
	}
	if out, err = halving(dst, list[:len(list)/2], encode); err != nil {
		return nil, err
	}
	return halving(out, list[len(list)/2:], encode)
}

// appendRange encodes the records of one range anew.
func (c Cut) appendRange(enc *block.Encoder, dst []byte, r edgeagent.Range) ([]byte, error) {
	id := block.ID{Stream: c.Stream, Epoch: c.Epoch, Run: c.Run, Unsynced: c.hdr.Unsynced, Resolution: c.hdr.Resolution}
	var before int
	for _, x := range c.Ranges {
		if x.From < r.From {
			before += int(x.Len())
		}
	}
	n := int(r.Len())
	switch {
	case len(c.Rows) > 0:
		return halving(dst, c.Rows[before:before+n], func(dst []byte, part []Row) ([]byte, error) {
			rows := make([]block.Row, len(part))
			for i, x := range part {
				rows[i] = block.Row{Series: x.ID, Time: x.Time - int64(c.add), Value: x.Value, Quality: x.Quality}
			}
			id.First = part[0].Seq
			return enc.Readings(dst, id, rows)
		})
	case len(c.Rollups) > 0:
		return halving(dst, c.Rollups[before:before+n], func(dst []byte, part []Rollup) ([]byte, error) {
			rows := make([]block.RollupRow, len(part))
			for i, x := range part {
				rows[i] = block.RollupRow{
					Series: x.ID, Time: x.At.Wall - int64(c.add), Count: x.Count,
					Sum: x.Sum, Min: x.Min, Max: x.Max, First: x.First, Last: x.Last,
				}
			}
			id.First = part[0].Seq
			return enc.Rollup(dst, id, c.source, rows)
		})
	}
	return halving(dst, c.Events[before:before+n], func(dst []byte, part []Event) ([]byte, error) {
		events := make([]edgeagent.Event, len(part))
		for i, x := range part {
			events[i] = x.Event
			events[i].At.Wall -= int64(c.add)
		}
		id.First = part[0].Seq
		return enc.Events(dst, id, events)
	})
}

// AppendBlock appends a correction as a marks block of its epoch.
func (x Correction) AppendBlock(dst []byte, id EpochID) ([]byte, error) {
	var enc block.Encoder
	m := block.Marks{Epoch: id.Epoch, Run: x.Run, Clock: []block.Correction{{Run: x.Run, Add: int64(x.Add), Err: int64(x.Err)}}}
	return enc.Marks(dst, m)
}
