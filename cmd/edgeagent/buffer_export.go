package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/term"
	"github.com/edgeagent/edgeagent/sync/wire"
)

func newBufferExport() *cobra.Command {
	var place bufferPlace
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print the stored readings as CSV, JSON lines or line protocol",
		Long: `Export prints what is stored, confirmed or not, in the order in which it was
appended. Memory does not grow with it.

  csv     time_ns,series,value,quality
  replay  time_ns,series,value, as the driver replay reads it; quality is left out
  jsonl   one object a line, with the identity of each record
  line    InfluxDB line protocol

Events, alarms and rollups (--stream event, alarm or rollup) have no CSV form.`,
		Example: `  edgeagent buffer export --since 1h --series 'boiler/*' > boiler.csv
  edgeagent buffer export --dir /mnt/card/var/lib/edgeagent/buffer --format jsonl | gzip > card.jsonl.gz`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := place.check(cmd); err != nil {
				return err
			}
			e, err := newExporter(cmd.OutOrStdout(), o, time.Now())
			if err != nil {
				return &usageError{withUsage(cmd, err)}
			}
			source, err := place.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, source.Close()) }()
			lost, err := source.Blocks(cmd.Context(), api.BlockQuery{Stream: e.stream, Since: e.since}, e.block)
			if err = errors.Join(err, e.out.Flush()); err != nil {
				return fmt.Errorf("export: %w", err)
			}
			if lost > 0 {
				term.PrintError(cmd.ErrOrStderr(), edgeagent.WithHint(
					fmt.Errorf("%s could not be read and are left out", term.Plural(int(lost), "damaged record")),
					`see where with "edgeagent buffer verify"`))
				return &exitError{exitDegraded}
			}
			return nil
		},
	}
	place.flags(cmd)
	cmd.Flags().StringVar(&o.format, "format", "csv", "csv, replay, jsonl or line")
	cmd.Flags().StringVar(&o.stream, "stream", "telemetry", "telemetry, event, alarm or rollup")
	cmd.Flags().StringVar(&o.since, "since", "", `only what is younger: "1h", or a time like 2026-11-23T09:00:00Z`)
	cmd.Flags().StringVar(&o.series, "series", "", `only series that match, such as 'boiler/*' (* is one part of the name)`)
	return cmd
}

type exportOptions struct{ format, stream, since, series string }

// exporter prints blocks. It holds one decoded block and the names of the series.
type exporter struct {
	out    *bufio.Writer
	stream edgeagent.Stream
	since  int64
	glob   string
	form   wire.Format // nil: CSV
	plain  bool        // CSV without quality

	device string
	epoch  edgeagent.Epoch
	series map[uint32]exported // of epoch

	dec      block.Decoder
	rows     []block.Row
	events   []edgeagent.Event
	readings []edgeagent.Reading
	folded   []block.RollupRow
	rollups  []edgeagent.Rollup
	line     []byte
}

// exported is what is known of one series.
type exported struct {
	series edgeagent.Series
	csv    string // its name as a field
	want   bool
}

func newExporter(w io.Writer, o exportOptions, now time.Time) (*exporter, error) {
	e := &exporter{out: bufio.NewWriterSize(w, 64<<10), glob: o.series}
	var err error
	if e.stream, err = edgeagent.ParseStream(o.stream); err != nil {
		return nil, err
	}
	if e.since, err = parseSince(o.since, now); err != nil {
		return nil, err
	}
	if _, err := path.Match(o.series, ""); err != nil {
		return nil, &badValue{"series", strconv.Quote(o.series), "a pattern like boiler/*"}
	}
	switch o.format {
	case "csv":
		e.line = []byte("time_ns,series,value,quality\n")
	case "replay":
		e.plain, e.line = true, []byte("time_ns,series,value\n")
	case "jsonl":
		e.form = wire.NewJSON()
	case "line":
		e.form = wire.NewLine()
	default:
		return nil, &badValue{"format", strconv.Quote(o.format), "csv, replay, jsonl or line"}
	}
	if e.form == nil && e.stream != edgeagent.StreamTelemetry {
		return nil, &badValue{"format", o.format, "jsonl or line for the stream " + o.stream}
	}
	_, err = e.out.Write(e.line) // the header stands also above nothing
	return e, err
}

// parseSince reads a duration before now, or a time.
func parseSince(s string, now time.Time) (int64, error) {
	if s == "" {
		return -1 << 63, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d).UnixNano(), nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t.UnixNano(), nil
		}
	}
	return 0, &badValue{"since", strconv.Quote(s), `a duration like 1h30m or a time like 2026-11-23T09:00:00Z`}
}

// block takes up a series block, or prints the wanted records of any other.
func (e *exporter) block(blk []byte) error {
	h, err := block.ParseHeader(blk)
	if err != nil {
		return err
	}
	switch h.Kind {
	case block.KindSeries:
		return e.name(blk)
	case block.KindReadings:
		return e.telemetry(h, blk)
	case block.KindRollup:
		return e.summaries(h, blk)
	case block.KindEvents:
		return e.occurrences(h, blk)
	}
	return fmt.Errorf("a block of %s has no text form in this version", h.Kind)
}

func (e *exporter) name(blk []byte) error {
	device, epoch, list, _, err := e.dec.Series(blk)
	if err != nil {
		return err
	}
	if e.series == nil || epoch != e.epoch {
		e.series = map[uint32]exported{}
	}
	e.device, e.epoch = device, epoch
	for _, x := range list {
		name := x.Key.Name()
		e.series[x.ID] = exported{edgeagent.NewSeries(x.Key), csvField(name), e.wants(name)}
	}
	return nil
}

func (e *exporter) wants(name string) bool {
	if e.glob == "" {
		return true
	}
	ok, _ := path.Match(e.glob, name) // the pattern was checked
	return ok
}

// csvField quotes what would not come back as it is.
func csvField(s string) string {
	if strings.ContainsAny(s, ",\"\r\n") || strings.TrimSpace(s) != s {
		return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
	}
	return s
}

func (e *exporter) telemetry(h block.Header, blk []byte) (err error) {
	if e.rows, _, err = e.dec.Readings(e.rows[:0], blk); err != nil {
		return err
	}
	wanted := func(i int) (bool, error) { return e.wanted(h, e.rows[i].Series, e.rows[i].Time) }
	if e.form == nil {
		return e.csv(h, wanted)
	}
	e.readings = e.readings[:0]
	for _, row := range e.rows {
		e.readings = append(e.readings, edgeagent.Reading{
			Series: e.series[row.Series].series, At: edgeagent.Instant{Wall: row.Time}, Value: row.Value, Quality: row.Quality,
		})
	}
	return e.runs(h, wanted, func(from, to int) edgeagent.BatchContent { return content{readings: e.readings[from:to]} })
}

func (e *exporter) wanted(h block.Header, id uint32, at int64) (bool, error) {
	x, ok := e.series[id]
	if !ok {
		return false, fmt.Errorf("nothing says what series %d of epoch %s is", id, h.Epoch)
	}
	return x.want && at >= e.since, nil
}

func (e *exporter) summaries(h block.Header, blk []byte) error {
	if e.form == nil {
		return errors.New("rollups have no CSV form")
	}
	rows, source, _, err := e.dec.Rollup(e.folded[:0], blk)
	if err != nil {
		return err
	}
	e.folded, e.rollups = rows, e.rollups[:0]
	for _, r := range rows {
		e.rollups = append(e.rollups, edgeagent.Rollup{
			Series: e.series[r.Series].series, At: edgeagent.Instant{Wall: r.Time}, Bucket: time.Duration(source.Bucket) * time.Second,
			Count: r.Count, Sum: r.Sum, Min: r.Min, Max: r.Max, First: r.First, Last: r.Last,
		})
	}
	wanted := func(i int) (bool, error) { return e.wanted(h, e.folded[i].Series, e.folded[i].Time) }
	return e.runs(h, wanted, func(from, to int) edgeagent.BatchContent { return content{rollups: e.rollups[from:to]} })
}

func (e *exporter) csv(h block.Header, wanted func(int) (bool, error)) error {
	for i, row := range e.rows {
		ok, err := wanted(i)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		e.line = strconv.AppendInt(e.line[:0], row.Time, 10)
		e.line = append(append(e.line, ','), e.series[row.Series].csv...)
		e.line = strconv.AppendFloat(append(e.line, ','), row.Value, 'g', -1, 64)
		if !e.plain {
			quality := row.Quality.String()
			if h.Unsynced && row.Quality == edgeagent.Good {
				quality = "unsynced" // as in every other text format
			}
			e.line = append(append(e.line, ','), quality...)
		}
		if _, err := e.out.Write(append(e.line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

func (e *exporter) occurrences(h block.Header, blk []byte) (err error) {
	if e.form == nil {
		return errors.New("events have no CSV form")
	}
	if e.events, _, err = e.dec.Events(e.events[:0], blk); err != nil {
		return err
	}
	wanted := func(i int) (bool, error) {
		return e.wants(e.events[i].Series) && e.events[i].At.Wall >= e.since, nil
	}
	return e.runs(h, wanted, func(from, to int) edgeagent.BatchContent { return content{events: e.events[from:to]} })
}

// runs prints the wanted records. Those that follow each other go as one batch:
// what is left out in between must not shift their numbers.
func (e *exporter) runs(h block.Header, wanted func(int) (bool, error), cut func(from, to int) edgeagent.BatchContent) error {
	from := 0
	n := int(h.Count)
	for i := 0; i <= n; i++ {
		if i < n {
			ok, err := wanted(i)
			if err != nil {
				return err
			}
			if ok {
				continue
			}
		}
		if err := e.batch(h, from, i, cut); err != nil {
			return err
		}
		from = i + 1
	}
	return nil
}

func (e *exporter) batch(h block.Header, from, to int, cut func(from, to int) edgeagent.BatchContent) (err error) {
	if from == to {
		return nil
	}
	head := h.Batch()
	head.First, head.Count = h.First+edgeagent.Seq(from), to-from
	if e.line, err = e.form.Encode(e.line[:0], edgeagent.NewBatch(head, nil, cut(from, to)), e.device); err != nil {
		return err
	}
	_, err = e.out.Write(e.line)
	return err
}

// content is a batch's content that is decoded already.
type content struct {
	readings []edgeagent.Reading
	rollups  []edgeagent.Rollup
	events   []edgeagent.Event
}

var _ edgeagent.RollupContent = content{}

func (c content) Readings(dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	return append(dst, c.readings...), nil
}

func (c content) Rollups(dst []edgeagent.Rollup) ([]edgeagent.Rollup, error) {
	return append(dst, c.rollups...), nil
}

func (c content) Events(dst []edgeagent.Event) ([]edgeagent.Event, error) {
	return append(dst, c.events...), nil
}

// Cut is for links that take less than a batch; a file takes all of it.
func (content) Cut(edgeagent.Range) (edgeagent.Batch, error) {
	return edgeagent.Batch{}, errors.New("an exported batch is not cut")
}
