package decode

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/sync/wire"
)

// Bounds of a [Decoder].
const (
	MaxMessage = 1 << 20 // bytes; an agent's are at most 256 KiB
	MaxHeld    = 4 << 20 // bytes of blocks that wait for names
	MaxEpochs  = 1024
	MaxSeries  = 1 << 18 // names in all
	maxNames   = 10_000  // names of an epoch: no agent gives more
)

// ErrSealed tells of blocks as they lie encrypted on a gateway's disk. They never travel, and
// the key is on the gateway.
var ErrSealed = errors.New("an encrypted block (EX)")

func sealed() error {
	return edgeagent.WithHint(ErrSealed, `blocks are encrypted on the gateway's disk only: print them there with "edgeagent buffer export"`)
}

// Options configure a [Decoder].
type Options struct {
	// Format is line, json or csv; default line. CSV is for readings only.
	Format string
	// Device is who sent records of an epoch that no series block has named yet, such
	// as events; default "unknown".
	Device string
	// Names gets the raw blocks with names that were new; default nowhere. Known are
	// those that it got in an earlier life, back to back.
	Names io.Writer
	Known []byte
	// Warn is told what could not be decoded; default nobody.
	Warn func(error)
}

// Stats counts what a decoder has done.
type Stats struct {
	Blocks  uint64
	Records uint64 // printed
	Damaged uint64 // blocks and messages that are none, or are damaged
	Omitted uint64 // records that the format has no form for
	Lost    uint64 // blocks that waited for names in vain
	Waiting int    // blocks that wait now
}

// Decoder prints blocks as text. Create one with [New].
type Decoder struct {
	opts   Options
	out    io.Writer
	dec    block.Decoder
	stats  Stats
	clock  uint64 // counts blocks, so that epochs have an order of use
	epochs map[edgeagent.Epoch]*epoch
	series int // of all epochs
	held   []waiting
	bytes  int // of held

	text     []byte // scratch, as what follows
	rows     []block.Row
	folded   []block.RollupRow
	readings []edgeagent.Reading
	rollups  []edgeagent.Rollup
	events   []edgeagent.Event
}

// epoch is one life of a device's buffer.
type epoch struct {
	device string
	used   uint64
	form   wire.Format // nil: CSV
	names  map[uint32]edgeagent.Series
}

// waiting is a block that came before its names.
type waiting struct {
	device string
	blk    []byte
}

// New returns a decoder that prints to w.
func New(w io.Writer, o Options) (*Decoder, error) {
	if o.Format == "" {
		o.Format = "line"
	}
	if o.Device == "" {
		o.Device = "unknown"
	}
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	d := &Decoder{opts: o, out: w, epochs: map[edgeagent.Epoch]*epoch{}}
	if _, err := d.newForm(); err != nil {
		return nil, err
	}
	d.opts.Names, d.opts.Known = nil, nil
	if err := d.Message("", o.Known); err != nil {
		return nil, err
	}
	d.opts.Names, d.stats = o.Names, Stats{}
	if o.Format == "csv" {
		if _, err := io.WriteString(w, "time_ns,device,series,value,quality\n"); err != nil {
			return nil, fmt.Errorf("decode: %w", err)
		}
	}
	return d, nil
}

func (d *Decoder) newForm() (wire.Format, error) {
	switch d.opts.Format {
	case "line", "json":
		return wire.New(d.opts.Format)
	case "csv":
		return nil, nil //nolint:nilnil // CSV is written here
	}
	return nil, fmt.Errorf("unknown format %q, want line, json or csv", d.opts.Format)
}

// Stats returns the counters so far.
func (d *Decoder) Stats() Stats {
	s := d.stats
	s.Waiting = len(d.held)
	return s
}

// Message prints the records of a message, one or more blocks back to back, and of
// the blocks that waited for names in it. device is who sent it, "" if nobody knows.
// What cannot be decoded is counted and left out; an error is one of writing.
func (d *Decoder) Message(device string, message []byte) error {
	for len(message) > 0 {
		if bytes.HasPrefix(message, []byte("EX")) {
			d.damaged(sealed())
			return nil
		}
		blk, rest, err := block.Next(message)
		if err != nil {
			d.damaged(err)
			return nil
		}
		if err := d.Block(device, blk); err != nil {
			return err
		}
		message = rest
	}
	return nil
}

func (d *Decoder) damaged(err error) {
	d.stats.Damaged++
	d.opts.Warn(err)
}

// Block is [Decoder.Message] for one block.
func (d *Decoder) Block(device string, blk []byte) error {
	h, err := block.Check(blk)
	if err != nil {
		d.damaged(err)
		return nil
	}
	d.stats.Blocks++
	d.clock++
	switch h.Kind {
	case block.KindSeries:
		return d.name(blk)
	case block.KindMarks:
		return nil // says how far the gateway has got: no record
	}
	done, err := d.records(device, h, blk)
	if err == nil && !done {
		d.hold(device, blk)
	}
	return err
}

// name takes up a series block and prints what waited for it.
func (d *Decoder) name(blk []byte) error {
	device, id, list, _, err := d.dec.Series(blk)
	if err != nil {
		d.damaged(err)
		return nil
	}
	e := d.epoch(device, id)
	e.device = device // an event may have come first
	fresh := false
	for _, x := range list {
		if _, known := e.names[x.ID]; known {
			continue // an id is given once
		}
		if len(e.names) >= maxNames {
			d.damaged(fmt.Errorf("over %d names in one epoch", maxNames))
			break
		}
		for d.series >= MaxSeries && d.forget(e) {
		}
		e.names[x.ID] = edgeagent.NewSeries(x.Key)
		d.series++
		fresh = true
	}
	if !fresh {
		return nil
	}
	if d.opts.Names != nil {
		if _, err := d.opts.Names.Write(blk); err != nil {
			return fmt.Errorf("keep names: %w", err)
		}
	}
	return d.retry(id)
}

// retry prints the blocks of an epoch whose names are known now.
func (d *Decoder) retry(id edgeagent.Epoch) error {
	list := d.held
	d.held, d.bytes = nil, 0
	for _, w := range list {
		h, err := block.Check(w.blk)
		if err != nil {
			continue // it was checked before it was held
		}
		done := false
		if h.Epoch == id {
			if done, err = d.records(w.device, h, w.blk); err != nil {
				return err
			}
		}
		if !done {
			d.held, d.bytes = append(d.held, w), d.bytes+len(w.blk)
		}
	}
	return nil
}

func (d *Decoder) hold(device string, blk []byte) {
	d.held = append(d.held, waiting{device, bytes.Clone(blk)})
	d.bytes += len(blk)
	for d.bytes > MaxHeld {
		d.bytes -= len(d.held[0].blk)
		d.held[0] = waiting{}
		d.held = d.held[1:]
		d.stats.Lost++
	}
}

// epoch returns what is known of an epoch, making it and room for it if need be.
func (d *Decoder) epoch(device string, id edgeagent.Epoch) *epoch {
	e := d.epochs[id]
	if e == nil {
		for len(d.epochs) >= MaxEpochs && d.forget(nil) {
		}
		if device == "" {
			device = d.opts.Device
		}
		form, _ := d.newForm() // New has tried
		e = &epoch{device: device, form: form, names: map[uint32]edgeagent.Series{}}
		d.epochs[id] = e
	}
	e.used = d.clock
	return e
}

// forget drops the epoch that was used longest ago, but not keep.
func (d *Decoder) forget(keep *epoch) bool {
	var oldest edgeagent.Epoch
	var victim *epoch
	for id, e := range d.epochs {
		if e != keep && (victim == nil || e.used < victim.used) {
			oldest, victim = id, e
		}
	}
	if victim == nil {
		return false
	}
	d.series -= len(victim.names)
	delete(d.epochs, oldest)
	return true
}

// records prints a block of records. It returns false if a name is not known.
func (d *Decoder) records(device string, h block.Header, blk []byte) (bool, error) {
	if !h.Stream.Valid() { // of a capture: the event that bears it is its record
		d.damaged(errors.New("a block of records without numbers"))
		return true, nil
	}
	e := d.epoch(device, h.Epoch)
	switch h.Kind {
	case block.KindReadings:
		return d.telemetry(e, h, blk)
	case block.KindRollup:
		return d.summaries(e, h, blk)
	}
	var err error
	if d.events, _, err = d.dec.Events(d.events[:0], blk); err != nil {
		d.damaged(err)
		return true, nil
	}
	return true, d.write(e, h, content{events: d.events})
}

func (d *Decoder) telemetry(e *epoch, h block.Header, blk []byte) (known bool, err error) {
	if d.rows, _, err = d.dec.Readings(d.rows[:0], blk); err != nil {
		d.damaged(err)
		return true, nil
	}
	d.readings = d.readings[:0]
	for _, r := range d.rows {
		s, ok := e.names[r.Series]
		if !ok {
			return false, nil
		}
		d.readings = append(d.readings, edgeagent.Reading{
			Series: s, At: edgeagent.Instant{Wall: r.Time}, Value: r.Value, Quality: r.Quality,
		})
	}
	return true, d.write(e, h, content{readings: d.readings})
}

func (d *Decoder) summaries(e *epoch, h block.Header, blk []byte) (known bool, err error) {
	rows, source, _, err := d.dec.Rollup(d.folded[:0], blk)
	if err != nil {
		d.damaged(err)
		return true, nil
	}
	d.folded, d.rollups = rows, d.rollups[:0]
	for _, r := range rows {
		s, ok := e.names[r.Series]
		if !ok {
			return false, nil
		}
		d.rollups = append(d.rollups, edgeagent.Rollup{
			Series: s, At: edgeagent.Instant{Wall: r.Time}, Bucket: time.Duration(source.Bucket) * time.Second,
			Count: r.Count, Sum: r.Sum, Min: r.Min, Max: r.Max, First: r.First, Last: r.Last,
		})
	}
	return true, d.write(e, h, content{rollups: d.rollups})
}

// write prints the records of a block.
func (d *Decoder) write(e *epoch, h block.Header, c content) (err error) {
	switch {
	case e.form != nil:
		d.text, err = e.form.Encode(d.text[:0], edgeagent.NewBatch(h.Batch(), nil, c), e.device)
		if err != nil { // a block whose stream and kind do not belong together
			d.damaged(err)
			return nil
		}
	case h.Kind != block.KindReadings:
		d.stats.Omitted += uint64(h.Count)
		return nil
	default:
		d.text = appendCSV(d.text[:0], e.device, c.readings, h.Unsynced)
	}
	d.stats.Records += uint64(h.Count)
	if _, err := d.out.Write(d.text); err != nil {
		return fmt.Errorf("write records: %w", err)
	}
	return nil
}

func appendCSV(dst []byte, device string, readings []edgeagent.Reading, unsynced bool) []byte {
	device = csvField(device)
	for i := range readings {
		r := &readings[i]
		quality := r.Quality.String()
		if unsynced && r.Quality == edgeagent.Good {
			quality = "unsynced" // as in every other text format
		}
		dst = strconv.AppendInt(dst, r.At.Wall, 10)
		dst = append(append(append(dst, ','), device...), ',')
		dst = append(append(dst, csvField(r.Series.String())...), ',')
		dst = strconv.AppendFloat(dst, r.Value, 'g', -1, 64)
		dst = append(append(append(dst, ','), quality...), '\n')
	}
	return dst
}
