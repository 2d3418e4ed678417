package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/term"
	"github.com/edgeagent/edgeagent/sim"
)

func newDemo() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a whole gateway with broker and receiver on this machine, no hardware needed",
		Long: `Demo starts a real agent with an embedded broker and a receiver, all in this
process: a simulated BME280 behind the real driver, this machine's own sensors, and
a recorded series. Nothing leaves the machine and nothing stays on it.

With --outage the demo cuts its own uplink and ends with a verdict: exit code 0 means
that every reading taken has arrived, once.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return &usageError{withUsage(cmd, err)}
			}
			return runDemo(cmd, o)
		},
	}
	cmd.Flags().DurationVar(&o.outage, "outage", 0, "cut the uplink for this long, once")
	cmd.Flags().DurationVar(&o.total, "for", 0, "stop after this long (default: until Ctrl-C; with --outage 30s longer than it)")
	cmd.Flags().BoolVar(&o.json, "json", false, "print the final report as one JSON object and nothing else")
	cmd.Flags().StringVar(&o.logLevel, "log-level", "error", "debug, info, warn or error; the agent's own log, on standard error")
	return cmd
}

type demoOptions struct {
	outage, total time.Duration
	json          bool
	logLevel      string
}

func (o *demoOptions) check() error {
	if o.outage < 0 {
		return &badValue{"outage", o.outage.String(), "a positive duration"}
	}
	if o.total < 0 {
		return &badValue{"for", o.total.String(), "a positive duration"}
	}
	if o.outage > 0 && o.total == 0 {
		o.total = o.outage + 30*time.Second
	}
	if o.outage > 0 && o.total < o.outage+sim.MinAround {
		return &badValue{"for", o.total.String(), fmt.Sprintf("at least %v, so that the link is up before and after the outage", o.outage+sim.MinAround)}
	}
	return nil
}

func runDemo(cmd *cobra.Command, o demoOptions) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	logger, err := newLogger(cmd.ErrOrStderr(), o.logLevel, "auto")
	if err != nil {
		return &usageError{withUsage(cmd, err)}
	}
	dir, err := os.MkdirTemp("", "edgeagent-demo-")
	if err != nil {
		return fmt.Errorf("make the demo's directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // a directory for temporary files is cleaned anyway
	demo, err := sim.NewDemo(sim.DemoOptions{
		Dir: dir, Socket: demoSocket(dir), Version: version, Logger: logger, Outage: o.outage, For: o.total,
	})
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if !o.json {
		printIntro(out, demo, o)
	}
	report, err := demo.Run(ctx, newProgress(out, o.json))
	if err != nil {
		return err
	}
	if o.json {
		err = printJSON(out, report)
	} else {
		printVerdict(out, report, o.outage > 0)
	}
	if err == nil && !report.OK {
		err = &exitError{exitFailed}
	}
	return err
}

// demoSocket is beside the agent's own socket where that is writable, so that
// `edgeagent status` finds it without a flag; else in the demo's directory.
func demoSocket(dir string) string {
	if s := api.DemoSocket(); s != "" {
		return s
	}
	return filepath.Join(dir, "demo.sock")
}

func printIntro(w io.Writer, demo *sim.Demo, o demoOptions) {
	fmt.Fprintf(w, "edgeagent %s demo: %d sensors (one simulated BME280, this machine's own, one recorded series),\n", version, demo.Sensors())
	fmt.Fprintf(w, "local broker, nothing leaves this machine\n")
	fmt.Fprintf(w, "  try        %-32s (in another terminal)\n", statusCommand(demo.Socket()))
	if o.outage > 0 {
		fmt.Fprintf(w, "  outage     the uplink is cut for %v after %v; verdict after %v\n", o.outage, demo.OutageAt(), o.total)
	} else {
		fmt.Fprintf(w, "             edgeagent demo --outage 10s --for 40s\n")
	}
	if o.total == 0 {
		fmt.Fprintf(w, "  stop       Ctrl-C\n")
	}
	fmt.Fprintln(w)
}

// statusCommand is what a person types to look at this demo.
func statusCommand(socket string) string {
	if socket == api.DemoSocket() {
		return "edgeagent status"
	}
	return "edgeagent status --socket " + socket
}

// newProgress shows snapshots: a screen that is redrawn on a terminal, a line every
// five seconds elsewhere, nothing with --json.
func newProgress(w io.Writer, quiet bool) func(context.Context, sim.Snapshot) {
	if quiet {
		return func(context.Context, sim.Snapshot) {}
	}
	if isTerminal(w) {
		screen := term.NewScreen(w)
		return func(_ context.Context, s sim.Snapshot) { screen.Draw(demoScreen(s, term.Width(w))) }
	}
	var last time.Duration
	return func(_ context.Context, s sim.Snapshot) {
		if s.Elapsed-last < 5*time.Second && !s.Final {
			return
		}
		last = s.Elapsed
		fmt.Fprintln(w, demoLine(s))
	}
}
