package main

import (
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/term"
)

func newSyncFlush() *cobra.Command {
	var socket string
	var timeout time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "flush",
		Short: "Have the running agent send everything it holds now, and wait until it is confirmed",
		Long: `Flush asks the running agent to send at once, without lingering for more readings, and
waits until all destinations have confirmed what was held when it was asked: before a
planned power-off, or before a gateway is taken away. Readings that are taken meanwhile
may be left.

Exit code 0 means that everything was confirmed, 1 that something is left when the time
is over; the agent goes on sending it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 || timeout > api.MaxFlush {
				return &usageError{withUsage(cmd, &badValue{"timeout", timeout.String(), "up to 1h"})}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			client, err := api.Dial(ctx, socket)
			if err != nil {
				return err
			}
			defer func() { _ = client.Close() }() // never fails
			r, err := client.Flush(ctx, timeout)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), r)
			} else {
				err = renderFlush(cmd.OutOrStdout(), r)
			}
			if err == nil && !r.OK {
				err = &exitError{exitFailed}
			}
			return err
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait, at most 1h")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().StringVar(&socket, "socket", "", "the agent's socket (default: where the agent puts it)")
	return cmd
}

func renderFlush(w io.Writer, r api.Flush) error {
	if len(r.Destinations) == 0 {
		_, err := fmt.Fprintln(w, "the agent has no destination")
		return err
	}
	for _, d := range r.Destinations {
		if d.OK {
			fmt.Fprintf(w, "%s: everything is confirmed: %s in %s\n", d.Name, term.Plural(int(d.Confirmed), "record"), term.Duration(r.Took.Duration()))
			continue
		}
		fmt.Fprintf(w, "%s: %s left after %s%s\n", d.Name, term.Plural(int(d.Left), "record"), term.Duration(r.Took.Duration()), leftOf(d.ByStream))
		if d.Error != "" {
			fmt.Fprintf(w, "  %s\n", d.Error)
		}
		if d.Hint != "" {
			fmt.Fprintf(w, "  hint: %s\n", d.Hint)
		}
	}
	return nil
}

// leftOf lists streams in their order.
func leftOf(by map[edgeagent.Stream]uint64) string {
	var words []string
	for _, s := range edgeagent.Streams() {
		if n := by[s]; n > 0 {
			words = append(words, ", "+term.Count(n)+" "+s.String())
		}
	}
	return strings.Join(words, "")
}
