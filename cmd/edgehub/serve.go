package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub/web"
)

// serveFlags are what can be said without a configuration file; they overrule it.
type serveFlags struct {
	file, state, sink, broker, listen, level string
}

func (f *serveFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.file, "config", "c", "", "configuration file; without one the defaults")
	cmd.Flags().StringVar(&f.state, "state", "", "directory for what must outlive a restart")
	cmd.Flags().StringVar(&f.sink, "sink", "", "where records go: TYPE or TYPE:ADDRESS, such as sqlite:/data/hub.db")
	cmd.Flags().StringVar(&f.listen, "listen", "", "address of the page and the API, or off")
	cmd.Flags().StringVar(&f.level, "log-level", "", "debug, info, warn or error")
}

// load reads the configuration and lets the flags overrule it.
func (f *serveFlags) load() (*config, error) {
	c, err := loadConfig(f.file)
	if err != nil {
		return nil, err
	}
	if f.state != "" {
		if c.State, err = os.Getwd(); err != nil {
			return nil, fmt.Errorf("state directory: %w", err)
		}
		c.State = absolute(c.State, f.state)
	}
	for _, o := range []struct {
		value string
		into  *string
	}{{f.broker, &c.Broker.Listen}, {f.listen, &c.HTTP.Listen}, {f.level, &c.Log.Level}} {
		if o.value != "" {
			*o.into = o.value
		}
	}
	if f.sink != "" {
		if err := parseSink(f.sink, &c.Sink); err != nil {
			return nil, usageError{fmt.Errorf("--sink: %w", err)}
		}
	}
	if err := c.Validate(); err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

func newServe() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a hub on this machine: broker, store, page and API in one process",
		Long: `Serve needs nothing else: without a configuration it opens a broker on 127.0.0.1:1883,
keeps every record exactly once in a SQLite file in its state directory, and shows
what it has at http://127.0.0.1:8399/. It acknowledges end to end once a record is on
the disk, and asks gateways for what is missing.

Point a gateway at it with "receiver: hub" and "links: [{url: mqtt://127.0.0.1:1883}]".
For gateways elsewhere, and for a broker, a database or TLS of your own, write a
configuration: docs/reference/edgehub.md has every key.`,
		Example: `  edgehub serve
  edgehub serve --mqtt 127.0.0.1:2883 --sink sqlite:/data/hub.db
  edgehub serve -c /etc/edgehub/edgehub.yaml`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.load()
			if err != nil {
				return err
			}
			return runHub(cmd, c, false)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.broker, "mqtt", "", "address of the hub's own broker, or off")
	return cmd
}

func newIngest() *cobra.Command {
	var f serveFlags
	var worker string
	cmd := &cobra.Command{
		Use:   "ingest",
		Short: "Run one of several workers that share inputs and a database",
		Long: `Ingest takes its share of what gateways publish to a broker cluster and commits it to a
database that all workers use. Start as many as needed, on as many machines, all with
the same configuration and each with a --worker name that stays its own: the broker
keeps its session under it.

The sink must be one whose transaction holds rows and ranges together (postgres); the
inputs share messages by "group" (MQTT 5 and mosquitto: shared subscription) or by
"durable" (JetStream). Any worker may die at any time: what it had not committed goes
to another. Page and API are off unless --listen says where.`,
		Example: `  edgehub ingest -c edgehub.yaml --worker a`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.listen == "" {
				f.listen = web.Off
			}
			f.broker = web.Off
			c, err := f.load()
			if err != nil {
				return err
			}
			if err := c.share(worker); err != nil {
				return err
			}
			return runHub(cmd, c, true)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&worker, "worker", "", "name of this worker, which stays its own (default the host's name)")
	return cmd
}

// share makes a configuration that of one worker among several.
func (c *config) share(worker string) error {
	if worker == "" {
		host, err := os.Hostname()
		if err != nil || host == "" {
			return usageError{edgeagent.WithHint(fmt.Errorf("this machine has no name: %w", err), "name this worker with --worker NAME")}
		}
		worker = host
	}
	for i := range c.Inputs {
		in := &c.Inputs[i]
		switch {
		case in.isNATS(), in.isCoAP():
		case in.Group == "":
			return usageError{edgeagent.WithHint(fmt.Errorf("input %s is not shared: every worker would get every message", in.name(i)), `add "group: NAME" to the input`)}
		case in.ClientID == "":
			in.ClientID = "edgehub-" + in.Group + "-" + worker
		default:
			in.ClientID += "-" + worker
		}
	}
	if c.State == "" {
		dir, err := defaultStateDir()
		if err != nil {
			return err
		}
		c.State = absolute(dir, "worker-"+worker)
	}
	return nil
}

// runHub runs a hub until it is told to stop.
func runHub(cmd *cobra.Command, c *config, shared bool) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a, err := assemble(ctx, c, cmd.ErrOrStderr(), shared)
	if err != nil {
		return err
	}
	err = a.run(ctx, func(page string) { greet(cmd.OutOrStdout(), a, page) })
	// Whatever was not committed was not acknowledged either.
	if cerr := a.close(); err == nil {
		err = cerr
	}
	return err
}

// greet says where everything is.
func greet(w io.Writer, a *assembly, page string) {
	fmt.Fprintf(w, "edgehub %s\n", version)
	if a.source.broker != "" {
		fmt.Fprintf(w, "  broker  %s\n", a.source.broker)
	}
	for i, in := range a.cfg.Inputs {
		fmt.Fprintf(w, "  input   %s\n", redacted(in.URL, in.name(i)))
	}
	fmt.Fprintf(w, "  sink    %s, %s\n", a.cfg.Sink.Type, a.source.guarantee)
	fmt.Fprintf(w, "  state   %s\n", a.state)
	if page != "" {
		fmt.Fprintf(w, "  page    %s\n", page)
	}
}
