package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// Bounds of the registry.
const (
	maxSeries    = 10_000  // ids an epoch
	maxSeriesKey = 4 << 10 // bytes of all strings of a key
	// seriesPerBlock keeps a block of the longest keys that people write well
	// under its limit; longer ones are split by size.
	seriesPerBlock = 64
)

// registry gives the series of one epoch their ids: 1, 2, 3 …, each once. It is
// guarded by Buffer.mu; slices taken from byID under it stay valid, because ids
// are only ever added.
type registry struct {
	byID    []edgeagent.Series // index id-1
	res     []uint8            // their resolutions
	ids     map[edgeagent.Series]uint32
	durable uint32 // ids up to here survive a power cut, in state.db or in the head log
	stored  uint32 // ids up to here are in state.db
}

// id returns the id of s, giving it one if it is new. A new id must be made
// durable before a reading with it can be read.
func (r *registry) id(s edgeagent.Series) (uint32, error) {
	if id, ok := r.ids[s]; ok {
		return id, nil
	}
	if len(r.byID) >= maxSeries {
		return 0, edgeagent.WithHint(
			fmt.Errorf("series %s: %d series are the most that one buffer can name", s, maxSeries),
			"look for a tag whose value keeps changing in the sensor's tags, and remove it")
	}
	if err := checkSeries(s.Key()); err != nil {
		return 0, err
	}
	r.byID = append(r.byID, s)
	r.res = append(r.res, s.Key().Resolution)
	id := uint32(len(r.byID))
	r.ids[s] = id
	return id, nil
}

// forget takes back the ids above n, which no record bears and nothing durable
// names.
func (r *registry) forget(n int) {
	for _, s := range r.byID[n:] {
		delete(r.ids, s)
	}
	r.byID, r.res = r.byID[:n:n], r.res[:n:n]
}

// adopt takes over an id that was given earlier.
func (r *registry) adopt(id uint32, s edgeagent.Series) {
	for uint32(len(r.byID)) < id {
		r.byID = append(r.byID, edgeagent.Series{})
		r.res = append(r.res, 0)
	}
	r.byID[id-1], r.res[id-1] = s, s.Key().Resolution
	r.ids[s] = id
}

func checkSeries(k edgeagent.SeriesKey) error {
	size := len(k.Sensor) + len(k.Metric) + len(k.Unit)
	valid := utf8.ValidString(k.Sensor) && utf8.ValidString(k.Metric) && utf8.ValidString(k.Unit)
	for _, pairs := range []edgeagent.Pairs{k.Tags, k.Labels} {
		for key, value := range pairs.All {
			size += len(key) + len(value)
			valid = valid && utf8.ValidString(key) && utf8.ValidString(value)
		}
	}
	switch {
	case k.Metric == "" || strings.Contains(k.Metric, "/"):
		return fmt.Errorf("series %q: a metric is not empty and holds no slash", k.Name())
	case int(k.Resolution) >= len(pow10):
		return fmt.Errorf("series %s: resolution %d is not 0 to 9", k.Name(), k.Resolution)
	case k.Kind > edgeagent.State:
		return fmt.Errorf("series %s: unknown kind %d", k.Name(), k.Kind)
	case !valid:
		return fmt.Errorf("series %q is not valid UTF-8", k.Name())
	case size > maxSeriesKey:
		return edgeagent.WithHint(fmt.Errorf("series %.64s… takes %d bytes, at most %d fit", k.Name(), size, maxSeriesKey),
			"shorten the sensor's tags")
	}
	return nil
}

// entries returns the definitions of the ids in (above, upTo] that are known.
func entries(byID []edgeagent.Series, above, upTo uint32) []block.SeriesEntry {
	upTo = min(upTo, uint32(len(byID)))
	if above >= upTo {
		return nil
	}
	out := make([]block.SeriesEntry, 0, upTo-above)
	for id := above + 1; id <= upTo; id++ {
		if s := byID[id-1]; !s.IsZero() {
			out = append(out, block.SeriesEntry{ID: id, Key: s.Key()})
		}
	}
	return out
}

// SeriesBlock is an encoded block of series and the highest id in it.
type SeriesBlock struct {
	Encoded []byte
	MaxID   uint32
}

// encodeSeries cuts entries into blocks of at most limit bytes each, in order.
func encodeSeries(enc *block.Encoder, device string, e edgeagent.Epoch, list []block.SeriesEntry, limit int) ([]SeriesBlock, error) {
	if limit <= 0 {
		limit = block.MaxStored
	}
	limit = min(limit, block.MaxStored)
	var out []SeriesBlock
	for n := seriesPerBlock; len(list) > 0; {
		n = min(n, len(list))
		b, err := enc.Series(nil, device, e, list[:n])
		switch {
		case errors.Is(err, block.ErrTooLarge) && n > 1:
			n /= 2
		case err != nil:
			return nil, fmt.Errorf("encode series: %w", err)
		case len(b) <= limit:
			out = append(out, SeriesBlock{b, list[n-1].ID})
			list = list[n:]
			n = seriesPerBlock
		case n == 1:
			return nil, fmt.Errorf("series %s takes %d bytes as a block, the limit is %d", list[0].Key.Name(), len(b), limit)
		default:
			n = max(1, min(n-1, n*limit/len(b)))
		}
	}
	return out, nil
}

// SeriesBlocks returns encoded blocks that define the ids of epoch e in
// (above, upTo], rising, each at most limit bytes (0: as long as a block may be).
// It fails if one definition alone is longer than that.
func (b *Buffer) SeriesBlocks(e edgeagent.Epoch, above, upTo uint32, limit int) ([]SeriesBlock, error) {
	b.mu.Lock()
	ep := b.epoch(e)
	if ep == nil {
		b.mu.Unlock()
		return nil, fmt.Errorf("series of epoch %s: %w", e, errUnknownEpoch)
	}
	// An id that is not durable is in no record that can be read.
	list := entries(ep.series.byID, above, min(upTo, ep.series.durable))
	b.mu.Unlock()
	return encodeSeries(&block.Encoder{}, b.o.Device, e, list, limit)
}

// idSet is a set of series ids.
type idSet []uint64

func (s *idSet) add(id uint32) {
	for int(id/64) >= len(*s) {
		*s = append(*s, 0)
	}
	(*s)[id/64] |= 1 << (id % 64)
}

func (s idSet) remove(id uint32) { s[id/64] &^= 1 << (id % 64) }

func (s idSet) has(id uint32) bool {
	return int(id/64) < len(s) && s[id/64]&(1<<(id%64)) != 0
}

var errUnknownEpoch = errors.New("unknown epoch")

// seriesChanges stores the entries above what is durable; b.disk is held.
func (b *Buffer) seriesChanges(e edgeagent.Epoch, list []block.SeriesEntry) ([]segment.Change, error) {
	var changes []segment.Change
	blocks, err := encodeSeries(&b.enc, b.o.Device, e, list, 0)
	if err != nil {
		return nil, err
	}
	first := 0
	for _, blk := range blocks {
		key := binary.BigEndian.AppendUint64(nil, uint64(e))
		key = binary.BigEndian.AppendUint32(key, list[first].ID)
		changes = append(changes, segment.Change{Bucket: bucketSeries, Key: key, Value: b.vault.seal(nil, blk.Encoded, boxOf(boxSeries, e, 0))})
		for first < len(list) && list[first].ID <= blk.MaxID {
			first++
		}
	}
	return changes, nil
}
