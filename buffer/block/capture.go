package block

import (
	"github.com/edgeagent/edgeagent"
)

// Capture reads the data of an event of kind capture, a series block and a readings
// block that belong together, and appends its readings to dst in order of their
// arrival. device says whose they are.
func (d *Decoder) Capture(dst []edgeagent.Reading, data []byte) (device string, _ []edgeagent.Reading, err error) {
	names, rest, err := Next(data)
	if err != nil {
		return "", dst, err
	}
	device, _, entries, _, err := d.Series(names)
	if err != nil {
		return "", dst, err
	}
	rows, h, err := d.Readings(nil, rest)
	if err != nil {
		return "", dst, err
	}
	if h.Stream != 0 {
		return "", dst, corrupt("numbered readings in a capture")
	}
	series := make(map[uint32]edgeagent.Series, len(entries))
	for _, e := range entries {
		series[e.ID] = edgeagent.NewSeries(e.Key)
	}
	mark := len(dst)
	for _, row := range rows {
		s, known := series[row.Series]
		if !known {
			return "", dst[:mark], corrupt("reading of an unknown series in a capture")
		}
		dst = append(dst, edgeagent.Reading{Series: s, At: edgeagent.Instant{Wall: row.Time}, Value: row.Value, Quality: row.Quality})
	}
	return device, dst, nil
}
