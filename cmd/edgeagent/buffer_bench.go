package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/internal/term"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/replay"
)

// maxBenchReadings bounds what is kept of the data: 64 bytes each in memory.
const maxBenchReadings = 1_000_000

func newBufferBench() *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:   "bench --data FILE",
		Short: "Measure encodings, appends, opening and syncs with data of your own",
		Long: `Bench measures what the buffer makes of recorded data: a CSV file, plain or gzipped,
with the header time_ns,series,value (as "buffer export --format replay" writes it) or
timestamp,value.

It encodes the same data as our block and as text under general compressors, in blocks
of --block readings; appends batches of 100; opens a buffer of --readings readings as a
power cut would leave it; and counts the syncs of an hour (--for) of 10 and of 100
readings a second, one by one, without anybody who confirms them (offline) and with a
receiver that confirms twice a second (online). The hour passes as fast as the disk
syncs. As root, where mkfs.ext4 and losetup are installed, it runs on a file system of
its own and counts what reaches the device; --device=false leaves that out.

It writes into a temporary directory only ($TMPDIR says where: put it on the medium that
you want to know about) and takes about a minute, longer on a medium that syncs slowly.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return &usageError{withUsage(cmd, err)}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			r, err := runBench(ctx, o)
			if err != nil {
				return fmt.Errorf("bench: %w", err)
			}
			if o.json {
				return printJSON(cmd.OutOrStdout(), r)
			}
			return renderBench(cmd.OutOrStdout(), r)
		},
	}
	cmd.Flags().StringVar(&o.data, "data", "", "recorded data, .csv or .csv.gz")
	cmd.Flags().IntVar(&o.block, "block", 4096, "readings in a block, 16 to 4096")
	cmd.Flags().IntVar(&o.readings, "readings", 1_000_000, "readings in the buffer that is opened")
	cmd.Flags().DurationVar(&o.each, "for", time.Hour, "the time over which syncs are counted; it passes quickly")
	cmd.Flags().BoolVar(&o.device, "device", true, "as root, count the bytes that reach a device")
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON object")
	return cmd
}

type benchOptions struct {
	data            string
	block, readings int
	each            time.Duration
	device, json    bool
}

func (o *benchOptions) check() error {
	switch {
	case o.data == "":
		return errors.New("missing flag --data")
	case o.block < 16 || o.block > 4096:
		return &badValue{"block", strconv.Itoa(o.block), "16 to 4096"}
	case o.readings < 1 || o.readings > 10_000_000:
		return &badValue{"readings", strconv.Itoa(o.readings), "1 to 10000000"}
	case o.each <= 0:
		return &badValue{"for", o.each.String(), "a positive duration"}
	}
	return nil
}

// benchReport is the result. What was not measured is null.
type benchReport struct {
	Data      string          `json:"data"`
	Readings  int             `json:"readings"`
	Series    int             `json:"series"`
	Block     int             `json:"block"`
	Encodings []benchEncoding `json:"encodings"`

	AppendBatch  int     `json:"append_batch"`
	AppendNs     float64 `json:"append_ns"`
	AppendAllocs float64 `json:"append_allocs"`

	OpenReadings int     `json:"open_readings"`
	OpenMs       float64 `json:"open_ms"`

	Fsyncs benchFsyncs `json:"fsyncs_per_1000"`

	Device       *benchDevice `json:"device_bytes_per_reading"`
	DeviceReason string       `json:"device_reason,omitempty"`
}

// benchEncoding is one way to store a block. Times and allocations are per reading.
type benchEncoding struct {
	Name     string  `json:"name"`
	Bytes    float64 `json:"bytes_per_reading"` // header included
	EncodeNs float64 `json:"encode_ns"`
	DecodeNs float64 `json:"decode_ns"`
	Allocs   float64 `json:"encode_allocs"`
}

type benchFsyncs struct {
	Offline10  float64 `json:"offline_10_per_s"`
	Online10   float64 `json:"online_10_per_s"`
	Offline100 float64 `json:"offline_100_per_s"`
	Online100  float64 `json:"online_100_per_s"`
}

type benchDevice struct {
	Offline10  float64 `json:"offline_10_per_s"`
	Online10   float64 `json:"online_10_per_s"`
	Offline100 float64 `json:"offline_100_per_s"`
	Online100  float64 `json:"online_100_per_s"`
}

func runBench(ctx context.Context, o benchOptions) (r *benchReport, err error) {
	data, err := readBench(ctx, o.data)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "edgeagent-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r = &benchReport{Data: filepath.Base(o.data), Readings: len(data), Block: o.block, AppendBatch: benchBatch, OpenReadings: o.readings}
	r.Series, r.Encodings, err = benchEncodings(ctx, data, o.block, benchTime)
	if err != nil {
		return nil, err
	}
	if r.AppendNs, r.AppendAllocs, err = benchAppend(ctx, filepath.Join(dir, "append"), data, min(benchAppends, o.each)); err != nil {
		return nil, err
	}
	if r.OpenMs, err = benchOpen(ctx, filepath.Join(dir, "open"), data, o.readings); err != nil {
		return nil, err
	}
	if err := benchPaced(ctx, dir, data, o, r); err != nil {
		return nil, err
	}
	return r, nil
}

// readBench reads recorded data as the driver replay does.
func readBench(ctx context.Context, path string) (data []edgeagent.Reading, err error) {
	cfg := replay.Default()
	cfg.File, cfg.Pace, cfg.Stamp = path, "max", replay.StampRecorded
	source, err := cfg.Open(ctx, sensors.Env{Sensor: "data", Clock: clock.Go()})
	if err != nil {
		return nil, edgeagent.WithHint(err,
			"--data wants a CSV file with the header time_ns,series,value or timestamp,value")
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	for len(data) < maxBenchReadings {
		data, err = source.Sample(ctx, data)
		if errors.Is(err, sensors.ErrEnd) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read data: %w", err)
		}
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("read data: %s holds no readings", path)
	}
	return data[:min(len(data), maxBenchReadings)], nil
}

func renderBench(w io.Writer, r *benchReport) error {
	fmt.Fprintf(w, "%s: %s readings of %d series, %s to a block\n\n", r.Data, term.Count(r.Readings), r.Series, term.Count(r.Block))
	t := term.Table{Right: []int{1, 2, 3, 4}}
	t.Row("ENCODING", "B/READING", "ENCODE ns", "DECODE ns", "ALLOCS")
	for _, e := range r.Encodings {
		t.Row(e.Name, decimals(e.Bytes, 2), decimals(e.EncodeNs, 1), decimals(e.DecodeNs, 1), decimals(e.Allocs, 3))
	}
	if err := t.Write(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nappend  %s ns a reading in batches of %d, %s allocations\n", decimals(r.AppendNs, 0), r.AppendBatch, decimals(r.AppendAllocs, 2))
	fmt.Fprintf(w, "open    %s ms with %s readings after a power cut\n\n", decimals(r.OpenMs, 1), term.Count(r.OpenReadings))
	t = term.Table{Right: []int{1, 2}}
	t.Row("", "10/s", "100/s")
	t.Row("syncs of 1,000 readings, offline", decimals(r.Fsyncs.Offline10, 1), decimals(r.Fsyncs.Offline100, 1))
	t.Row("syncs of 1,000 readings, online", decimals(r.Fsyncs.Online10, 2), decimals(r.Fsyncs.Online100, 2))
	if r.Device != nil {
		t.Row("device bytes a reading, offline", decimals(r.Device.Offline10, 1), decimals(r.Device.Offline100, 1))
		t.Row("device bytes a reading, online", decimals(r.Device.Online10, 1), decimals(r.Device.Online100, 1))
	} else {
		t.Row("device bytes a reading", "-", "-", r.DeviceReason)
	}
	return t.Write(w)
}

func decimals(f float64, n int) string { return strconv.FormatFloat(f, 'f', n, 64) }

// round keeps three decimals: the rest is noise.
func round(f float64) float64 {
	v, _ := strconv.ParseFloat(decimals(f, 3), 64)
	return v
}
