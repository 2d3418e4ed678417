package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/term"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// Readings that are drained by default: 10,000 full blocks, or as much text as takes
// about as long.
const (
	benchBlockReadings = 41_000_000
	benchTextReadings  = 1_000_000
	maxSyncBench       = 100_000_000
)

func newSyncBench() *cobra.Command {
	var o syncBenchOptions
	cmd := &cobra.Command{
		Use:   "bench --upstream URL",
		Short: "Measure a link with a buffer and an uplink of its own: throughput, delays, processor time, memory",
		Long: `Bench fills a buffer with readings and drains it to the broker at --upstream with the
agent's own uplink, several times (--rounds), alternating with the MQTT library alone at
the same message sizes, QoS 1 and window. Meanwhile readings and alarms are taken and
timed until a subscriber has them. Memory and processor time are of this process, with
nothing else in it running.

It also measures with the link shaped to 256 kbit/s, and behind a round trip of 50 ms;
--shaped=false leaves both out, which a link that is slow by itself wants. There, lower
--readings as well: a reading is about one byte as block and sixty as line.

The confirmation is the broker's, for nobody else needs to listen. Topics begin with
--topic-root, which no hub listens to; client ids and device are random. Nothing stays
behind: no session, no retained message, and the buffer is in a temporary directory
($TMPDIR says where; put it on the medium that you want to know about).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return &usageError{withUsage(cmd, err)}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			r, err := runSyncBench(ctx, o, cmd.ErrOrStderr())
			if err != nil {
				return fmt.Errorf("bench: %w", err)
			}
			if o.json {
				return printJSON(cmd.OutOrStdout(), r)
			}
			return renderSyncBench(cmd.OutOrStdout(), r)
		},
	}
	o.flags(cmd)
	return cmd
}

type syncBenchOptions struct {
	upstream, username, password, ca string
	format, protocol, data, root     string
	readings, rounds                 int
	each                             time.Duration
	shaped, json                     bool
	pause                            time.Duration // before the memory counts; tests shorten it
	after                            time.Duration // a drain, for what was taken meanwhile
	linger                           time.Duration // 0: as a destination has it
}

func (o *syncBenchOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.upstream, "upstream", "", "the broker, as in destinations[].links[].url")
	f.StringVar(&o.username, "username", "", "of the login")
	f.StringVar(&o.password, "password", "", "of the login, as file:NAME or env:NAME")
	f.StringVar(&o.ca, "ca", "", "PEM file of the authority of mqtts and wss (default: the system's)")
	f.StringVar(&o.format, "format", uplink.FormatBlock, "block or line")
	f.StringVar(&o.protocol, "protocol", uplink.ProtocolAuto, "of MQTT: auto, 3.1.1 or 5")
	f.StringVar(&o.data, "data", "", "recorded readings, .csv or .csv.gz as for \"edgeagent buffer bench\" (default: made up)")
	f.StringVar(&o.root, "topic-root", "ea-bench/v1", "what topics begin with, where the broker's access list says so")
	f.IntVar(&o.readings, "readings", 0, "readings to drain in a round (default 41000000 as block, 1000000 as line)")
	f.IntVar(&o.rounds, "rounds", 3, "drains, each beside a raw loop")
	f.DurationVar(&o.each, "for", 10*time.Second, "how long delays are measured at least, with and without backlog")
	f.BoolVar(&o.shaped, "shaped", true, "measure with the link shaped as well")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
}

func (o *syncBenchOptions) check() error {
	switch {
	case o.upstream == "":
		return errors.New("missing flag --upstream")
	case o.format != uplink.FormatBlock && o.format != uplink.FormatLine:
		return &badValue{"format", o.format, "block or line"}
	case o.readings < 0 || o.readings > maxSyncBench || o.readings > 0 && o.readings < 1000:
		return &badValue{"readings", strconv.Itoa(o.readings), "1000 to 100000000"}
	case o.rounds < 1 || o.rounds > 20:
		return &badValue{"rounds", strconv.Itoa(o.rounds), "1 to 20"}
	case o.each <= 0 || o.each > 10*time.Minute:
		return &badValue{"for", o.each.String(), "up to 10m"}
	case o.root == "" || strings.ContainsAny(o.root, "+#\x00") || o.root[0] == '$' || o.root[0] == '/' || strings.HasSuffix(o.root, "/"):
		return &badValue{"topic-root", strconv.Quote(o.root), "a topic without wildcards"}
	}
	if o.readings == 0 {
		o.readings = benchBlockReadings
		if o.format != uplink.FormatBlock {
			o.readings = benchTextReadings
		}
	}
	if o.pause == 0 {
		o.pause, o.after = time.Second, time.Second // the linger, the way and more
	}
	_, err := o.link()
	return err
}

// ack is the level that the protocol can prove.
func (o *syncBenchOptions) ack() uplink.AckLevel {
	if o.protocol == uplink.ProtocolMQTT5 {
		return uplink.AckReason
	}
	return uplink.AckTransport
}

// link is the link to measure.
func (o *syncBenchOptions) link() (uplink.LinkConfig, error) {
	l := uplink.LinkConfig{URL: o.upstream, Protocol: o.protocol, Username: o.username, TLS: uplink.TLSConfig{CA: o.ca}}
	if o.password != "" {
		if err := l.Password.UnmarshalText([]byte(o.password)); err != nil {
			return l, fmt.Errorf("--password: %w", err)
		}
		if err := l.Password.Resolve("."); err != nil {
			return l, fmt.Errorf("--password: %w", err)
		}
	}
	if err := l.Validate(); err != nil {
		if field, ok := errors.AsType[*edgeagent.FieldError](err); ok {
			err = field.Err
		}
		return l, fmt.Errorf("--upstream: %w", err)
	}
	return l, nil
}

// syncBenchReport is the result. What could not be measured is null, and notes say why.
type syncBenchReport struct {
	Upstream string          `json:"upstream"`
	Format   string          `json:"format"`
	Protocol string          `json:"protocol"`
	Ack      uplink.AckLevel `json:"ack"`
	Readings int             `json:"readings"` // of a drain
	Messages int             `json:"messages"` // of a drain, median
	Rounds   int             `json:"rounds"`
	Drains   int             `json:"drains"` // delays were measured in

	DrainReadings float64  `json:"drain_readings_per_s"`
	DrainMessages float64  `json:"drain_msgs_per_s"`
	RawMessages   float64  `json:"raw_msgs_per_s"`
	ShareOfRaw    float64  `json:"share_of_raw"`
	FirstLive     *float64 `json:"first_live_s"`
	Live          *float64 `json:"live_p99_ms"`
	LiveDraining  *float64 `json:"live_p99_draining_ms"`
	Alarm         *float64 `json:"alarm_p99_ms"`
	WireBytes     float64  `json:"wire_bytes_per_reading"`
	CPU           *float64 `json:"cpu_s_per_million"`
	RSSGrowth     *float64 `json:"rss_growth_mb"`
	AnonGrowth    *float64 `json:"anonymous_growth_mb"`
	Backlog       int      `json:"rss_backlog"`

	Shaped *syncBenchShaped `json:"shaped"`
	RTT50  *float64         `json:"rtt_50ms_readings_per_s"`
	Notes  []string         `json:"notes"`
}

// syncBenchShaped is what a link of 256 kbit/s made of it.
type syncBenchShaped struct {
	Rate         int      `json:"bytes_per_s"`
	Backlog      int      `json:"backlog"`
	Live         *float64 `json:"live_p99_ms"`
	LiveDraining *float64 `json:"live_p99_draining_ms"`
	Alarm        *float64 `json:"alarm_p99_ms"`
	LinkUse      float64  `json:"link_use"` // payload that was acknowledged, of what the rate allows
}

func renderSyncBench(w io.Writer, r *syncBenchReport) error {
	fmt.Fprintf(w, "%s as %s, MQTT %s, ack %s: %s readings in %s messages, median of %d\n\n",
		r.Upstream, r.Format, r.Protocol, r.Ack, term.Count(r.Readings), term.Count(r.Messages), r.Rounds)
	t := term.Table{Right: []int{1}}
	t.Row("drain", term.Count(int64(r.DrainReadings)), "readings/s")
	t.Row("", term.Count(int64(r.DrainMessages)), "messages/s")
	t.Row("MQTT library alone", term.Count(int64(r.RawMessages)), fmt.Sprintf("messages/s of these sizes; the drain has %.0f %% of it", 100*r.ShareOfRaw))
	t.Row("on the wire", decimals(r.WireBytes, 2), "bytes a reading, without topic and TCP")
	t.Row("first live reading", orDash(r.FirstLive, 3), "s after the session began")
	t.Row("live, p99", orDash(r.Live, 0), "ms without backlog")
	t.Row("", orDash(r.LiveDraining, 0), "ms while draining")
	t.Row("alarm, p99", orDash(r.Alarm, 0), "ms while draining")
	t.Row("processor", orDash(r.CPU, 2), "s for a million readings, from memory over the buffer to the broker's word")
	t.Row("memory", orDash(r.RSSGrowth, 1), fmt.Sprintf("MB more with %s readings held", term.Count(r.Backlog)))
	if s := r.Shaped; s != nil {
		t.Row("at 256 kbit/s: live, p99", orDash(s.Live, 0), "ms without backlog")
		t.Row("", orDash(s.LiveDraining, 0), fmt.Sprintf("ms while draining %s readings", term.Count(s.Backlog)))
		t.Row("  alarm, p99", orDash(s.Alarm, 0), "ms while draining")
	}
	if r.RTT50 != nil {
		t.Row("behind 50 ms", term.Count(int64(*r.RTT50)), "readings/s")
	}
	if err := t.Write(w); err != nil {
		return err
	}
	for _, n := range r.Notes {
		if _, err := fmt.Fprintln(w, "note: "+n); err != nil {
			return err
		}
	}
	return nil
}

func orDash(f *float64, n int) string {
	if f == nil {
		return "-"
	}
	return decimals(*f, n)
}

// benchBacklog is the backlog of the figures for memory and for a shaped link.
func (o *syncBenchOptions) benchBacklog() int { return min(o.readings, 1_000_000) }

// runSyncBench measures one thing after the other; what needs the process to be fresh
// comes first.
func runSyncBench(ctx context.Context, o syncBenchOptions, progress io.Writer) (r *syncBenchReport, err error) {
	b, err := newSyncBenchRun(ctx, o, progress)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close(context.WithoutCancel(ctx))) }()
	for _, step := range []struct {
		says string
		run  func(context.Context) error
	}{
		{"memory with a backlog", b.memory},
		{"processor time", b.processor},
		{"filling the buffer", b.fill},
		{"live without backlog", b.baseline},
		{"draining beside the MQTT library alone", b.rounds},
		{"the link shaped to 256 kbit/s", b.shapedLink},
		{"behind a round trip of 50 ms", b.farLink},
	} {
		fmt.Fprintln(progress, step.says+" ...")
		if err := step.run(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.says, err)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return b.report, nil
}
