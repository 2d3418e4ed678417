package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/hub/sinks/postgres"
	"github.com/edgeagent/edgeagent/hub/sinks/speedtest"
	"github.com/edgeagent/edgeagent/hub/sinks/sqlite"
	"github.com/edgeagent/edgeagent/internal/term"
)

// benchResult is what bench --json prints.
type benchResult struct {
	Sink     string   `json:"sink"`
	Readings int      `json:"readings"`
	Batch    int      `json:"batch"`
	Ingest   float64  `json:"ingest_readings_per_s"`
	Raw      *float64 `json:"raw_sink_rows_per_s"` // null without a database
	Ratio    *float64 `json:"ratio"`
	Gateways int      `json:"gateways"` // that sent at the same time; 0: one, by turns with the bare database
	Messages float64  `json:"messages_per_s"`
	LagP50   float64  `json:"lag_p50_ms"`
	LagP99   float64  `json:"lag_p99_ms"`
	RSS      *float64 `json:"rss_mb"` // the most there was; null where nobody knows
}

func newBench() *cobra.Command {
	var sink string
	var asJSON bool
	o := speedtest.Options{}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure how fast a hub gets readings into a sink",
		Long: `Bench hands blocks to a hub in this process and takes the time from each message to its
acknowledgement. By turns it stores equal rows in the same database without a hub:
device, series, time, value and quality, same batches, same durability. RATIO is how
much of that rate the hub reaches.

With --gateways there are many that speak at the same time, each of which waits for one
message to be acknowledged before it sends the next: what live data is like. With --every
they send no faster than that, and lateness counts from when a message was due.

  none                decode and dedupe alone
  sqlite[:DIRECTORY]  a file of its own, removed at the end
  postgres:ADDRESS    the schema edgehub_bench of a database, which it leaves behind`,
		Example: `  edgehub bench --sink none
  edgehub bench --sink sqlite:/data --json
  edgehub bench --sink 'postgres:postgres:///bench'
  edgehub bench --gateways 1000 --every 500ms --batch 10 --batches 20000`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Batches < 1 || o.PerBatch < 1 || o.PerBatch > 4096 || o.Series < 1 || o.Series > 10_000 {
				return usageError{errors.New("--batches and --series are at least 1, --batch is 1 to 4096")}
			}
			if o.Gateways < 0 || o.Gateways > 10_000 || o.Every < 0 || o.Gateways > o.Batches || o.Every > 0 && o.Gateways == 0 {
				return usageError{errors.New("--gateways is 0 to 10000 and at most --batches; --every goes with --gateways")}
			}
			name, end, err := benchSink(cmd.Context(), sink, &o)
			if err != nil {
				return err
			}
			if o.Gateways > 0 {
				o.Raw = nil
			}
			r, err := speedtest.Run(cmd.Context(), o)
			if err = errors.Join(err, end()); err != nil {
				return err
			}
			result := benchOf(name, o, r)
			if asJSON {
				return printJSON(cmd.OutOrStdout(), result)
			}
			return printBench(cmd, result)
		},
	}
	cmd.Flags().StringVar(&sink, "sink", "sqlite", "none, sqlite[:DIRECTORY] or postgres:ADDRESS")
	cmd.Flags().IntVar(&o.Batches, "batches", 200, "how many batches")
	cmd.Flags().IntVar(&o.PerBatch, "batch", 4096, "readings of a batch")
	cmd.Flags().IntVar(&o.Series, "series", 20, "series that they are of")
	cmd.Flags().IntVar(&o.Gateways, "gateways", 0, "that send at the same time (default one, beside the bare database)")
	cmd.Flags().DurationVar(&o.Every, "every", 0, "how often each of them sends at most (default as fast as it is acknowledged)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// benchSink opens what is to be measured.
func benchSink(ctx context.Context, text string, o *speedtest.Options) (name string, end func() error, err error) {
	name, address, _ := strings.Cut(text, ":")
	o.Device = "bench-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	switch name {
	case "none":
		return name, func() error { return nil }, nil
	case "sqlite":
		dir, err := os.MkdirTemp(address, "edgehub-bench-")
		if err != nil {
			return name, nil, fmt.Errorf("bench: %w", err)
		}
		s, err := sqlite.Open(ctx, filepath.Join(dir, "hub.db"))
		if err != nil {
			return name, nil, errors.Join(err, os.RemoveAll(dir))
		}
		o.Store, o.Raw = s, s
		return name, func() error { return errors.Join(s.Close(), os.RemoveAll(dir)) }, nil
	case "postgres":
		s, err := postgres.Open(ctx, address, postgres.Options{Schema: "edgehub_bench"})
		if err != nil {
			return name, nil, err
		}
		o.Store, o.Raw = s, s
		return name, s.Close, nil
	}
	return name, nil, usageError{edgeagent.WithHint(fmt.Errorf("--sink: cannot measure %q", name), `measure none, sqlite or postgres: see "edgehub bench --help"`)}
}

var (
	_ hub.Store     = (*sqlite.Store)(nil)
	_ speedtest.Raw = (*sqlite.Store)(nil)
	_ speedtest.Raw = (*postgres.Store)(nil)
)

func benchOf(name string, o speedtest.Options, r speedtest.Result) benchResult {
	out := benchResult{
		Sink: name, Readings: r.Readings, Batch: o.PerBatch, Ingest: r.IngestPerSecond,
		Gateways: o.Gateways, Messages: float64(r.Messages) / r.Took.Seconds(),
		LagP50: milliseconds(r.LagP50), LagP99: milliseconds(r.LagP99), RSS: peakRSS(),
	}
	if r.RawPerSecond > 0 {
		raw, ratio := r.RawPerSecond, r.Ratio()
		out.Raw, out.Ratio = &raw, &ratio
	}
	return out
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// peakRSS returns the most memory that the process had, in MB, as Linux tells.
func peakRSS() *float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			if kb, err := strconv.ParseFloat(f[1], 64); err == nil {
				mb := kb * 1024 / 1e6
				return &mb
			}
		}
	}
	return nil
}

func printBench(cmd *cobra.Command, r benchResult) error {
	var t term.Table
	t.Row("through the hub", term.Count(uint64(r.Ingest))+" readings/s")
	if r.Raw != nil {
		t.Row("without a hub", term.Count(uint64(*r.Raw))+" rows/s")
		t.Row("ratio", fmt.Sprintf("%.0f %%", *r.Ratio*100))
	}
	if r.Gateways > 0 {
		t.Row("", term.Count(uint64(r.Messages))+" messages/s of "+term.Plural(r.Gateways, "gateway"))
	}
	t.Row("acknowledged after", fmt.Sprintf("%.1f ms, 99 %% after %.1f ms", r.LagP50, r.LagP99))
	if r.RSS != nil {
		t.Row("memory at most", fmt.Sprintf("%.0f MB", *r.RSS))
	}
	t.Row("of", fmt.Sprintf("%s in batches of %d", term.Plural(r.Readings, "reading"), r.Batch))
	return t.Write(cmd.OutOrStdout())
}
