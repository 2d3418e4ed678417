package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub/web"
	"github.com/edgeagent/edgeagent/internal/term"
)

func newDevices() *cobra.Command {
	var p place
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "List the devices of a hub: when they were heard, what of them is held and missing",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.dial(cmd.Context())
			if err != nil {
				return err
			}
			var list []web.Device
			if err := c.get(cmd.Context(), http.MethodGet, "/v1/devices", nil, &list); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return printDevices(cmd.OutOrStdout(), list)
		},
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printDevices(w io.Writer, list []web.Device) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no device has been heard yet")
		return err
	}
	t := term.Table{Right: []int{3, 4, 5, 6, 7}}
	t.Row("TENANT", "DEVICE", "STATE", "HEARD", "LAG", "RECORDS", "MISSING", "LOST")
	for _, d := range list {
		heard, lag := "-", "-"
		if !d.Seen.IsZero() {
			heard = term.Duration(seconds(d.SilentS)) + " ago"
		}
		if d.LagS != nil {
			lag = term.Duration(seconds(*d.LagS))
		}
		t.Row(printable(d.Tenant), printable(d.Device), stateOf(d), heard, lag, term.Count(d.Records), term.Count(d.Missing), term.Count(d.Lost))
	}
	return t.Write(w)
}

func seconds(s float64) time.Duration {
	return max(time.Duration(s*float64(time.Second)).Round(100*time.Millisecond), 0)
}

// printable keeps escape sequences out of the terminal: names come from afar.
func printable(s string) string {
	if q := strconv.QuoteToGraphic(s); q != `"`+s+`"` {
		return q
	}
	return s
}

func stateOf(d web.Device) string {
	switch {
	case d.Conflicts > 0:
		return "conflict"
	case d.Waiting > 0:
		return "waits for names"
	case d.Missing > 0:
		return "incomplete"
	case d.Complete:
		return "complete"
	}
	return "receiving"
}

func newGaps() *cobra.Command {
	var p place
	var asJSON bool
	var tenant, device string
	cmd := &cobra.Command{
		Use:   "gaps",
		Short: "List what a hub does not hold of its devices, and why",
		Long: `Gaps lists ranges of numbers that are not held below one that is. With a reason the
device has said that it cannot deliver them any more; RECORDS is how many there were
at most. Without one they may still come, and the hub asks for them.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.dial(cmd.Context())
			if err != nil {
				return err
			}
			var list []web.Gap
			if err := c.get(cmd.Context(), http.MethodGet, "/v1/gaps", params("tenant", tenant, "device", device), &list); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return printGaps(cmd.OutOrStdout(), list)
		},
	}
	p.flags(cmd)
	cmd.Flags().StringVar(&tenant, "tenant", "", "only this tenant")
	cmd.Flags().StringVar(&device, "device", "", "only this device")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printGaps(w io.Writer, list []web.Gap) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no gaps")
		return err
	}
	t := term.Table{Right: []int{4, 5, 7}}
	t.Row("TENANT", "DEVICE", "EPOCH", "STREAM", "FROM", "TO", "REASON", "RECORDS")
	for _, g := range list {
		reason, n := "not known yet", "-"
		if g.Reason != "" {
			reason, n = printable(g.Reason), term.Count(g.AtMost)
		}
		t.Row(printable(g.Tenant), printable(g.Device), g.Epoch.String(), g.Stream.String(), term.Count(uint64(g.From)), term.Count(uint64(g.To)), reason, n)
	}
	return t.Write(w)
}

func newReplay() *cobra.Command {
	var p place
	var tenant, device string
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "replay --device NAME",
		Short: "Ask a device to send again what is missing",
		Long: `Replay makes the hub ask a device for what is missing, at once and until it is there or
the device has said that it is gone. The hub does so by itself for numbers that were
given since it first heard of a stream; --all asks for older ones too.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if device == "" {
				return usageError{edgeagent.WithHint(errors.New("which device?"), `name it with --device; "edgehub devices" lists them`)}
			}
			c, err := p.dial(cmd.Context())
			if err != nil {
				return err
			}
			var got web.Replay
			q := params("tenant", tenant, "device", device, "all", strconv.FormatBool(all))
			if err := c.get(cmd.Context(), http.MethodPost, "/v1/replay", q, &got); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), got)
			}
			text := "nothing is missing"
			if got.Missing > 0 {
				text = "asked for " + term.Count(got.Missing) + " records"
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	p.flags(cmd)
	cmd.Flags().StringVar(&tenant, "tenant", defaultTenant, "whose device")
	cmd.Flags().StringVar(&device, "device", "", "name of the device")
	cmd.Flags().BoolVar(&all, "all", false, "also what was given before the hub knew the device")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newQuery() *cobra.Command {
	var p place
	var tenant, device, series, since, until string
	var asJSON, asCSV bool
	cmd := &cobra.Command{
		Use:   "query --device NAME [--series SENSOR/METRIC]",
		Short: "Print readings that a hub has stored, or list the series of a device",
		Example: `  edgehub query --device gw-1
  edgehub query --device gw-1 --series boiler/temperature --since 1h --csv > boiler.csv`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			for name, text := range map[string]string{"since": since, "until": until} {
				if _, err := web.ParseTime(text, now); text != "" && err != nil {
					return usageError{fmt.Errorf("--%s: %w", name, err)}
				}
			}
			switch {
			case device == "":
				return usageError{edgeagent.WithHint(errors.New("which device?"), `name it with --device; "edgehub devices" lists them`)}
			case asJSON && asCSV:
				return usageError{errors.New("--json and --csv: one of them")}
			}
			c, err := p.dial(cmd.Context())
			if err != nil {
				return err
			}
			if series == "" {
				return listSeries(cmd, c, params("tenant", tenant, "device", device), asJSON)
			}
			q := params("tenant", tenant, "device", device, "series", series, "since", since, "until", until)
			return query(cmd, c, q, asJSON, asCSV)
		},
	}
	p.flags(cmd)
	cmd.Flags().StringVar(&tenant, "tenant", defaultTenant, "whose device")
	cmd.Flags().StringVar(&device, "device", "", "name of the device")
	cmd.Flags().StringVar(&series, "series", "", "which series, as sensor/metric; without it the series are listed")
	cmd.Flags().StringVar(&since, "since", "", `only what is younger: "1h", or a time like 2026-11-23T09:00:00Z`)
	cmd.Flags().StringVar(&until, "until", "", "only what is older")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "print CSV: time_ns,series,value,quality,tags")
	return cmd
}

func listSeries(cmd *cobra.Command, c *client, q url.Values, asJSON bool) error {
	var list []web.Series
	if err := c.get(cmd.Context(), http.MethodGet, "/v1/series", q, &list); err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), list)
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "no series")
		return err
	}
	t := term.Table{Right: []int{1}}
	t.Row("SERIES", "LAST", "UNIT", "QUALITY", "AT")
	for _, s := range list {
		value, quality, at := "-", "-", "-"
		if s.Last != nil {
			value, quality, at = number(s.Last.Value), s.Last.Quality, stamp(s.Last.Time)
		}
		t.Row(printable(s.Name), value, printable(s.Unit), quality, at)
	}
	return t.Write(cmd.OutOrStdout())
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// query prints rows: a table for people, or what the hub sends.
func query(cmd *cobra.Command, c *client, q url.Values, asJSON, asCSV bool) error {
	w := cmd.OutOrStdout()
	if !asJSON && !asCSV {
		return c.rows(cmd.Context(), q, func(r web.Row) error {
			line := fmt.Sprintf("%s  %16s  %-8s  %s", stamp(r.Time), number(r.Value), r.Quality, printable(r.Tags))
			_, err := fmt.Fprintln(w, strings.TrimRight(line, " "))
			return err
		})
	}
	if asCSV {
		q.Set("format", "csv")
	}
	body, err := c.ask(cmd.Context(), http.MethodGet, "/v1/query", q)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil {
		return edgeagent.WithHint(fmt.Errorf("the answer of %s ended early: %w", c.at, err), "the hub's log says why; ask for less with --since and --until")
	}
	return nil
}

// params are the values that are not empty.
func params(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func absolute(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// redacted is an address without its password.
func redacted(address, name string) string {
	u, err := url.Parse(address)
	if err != nil {
		return name
	}
	return strings.TrimSuffix(u.Redacted(), "/")
}
