package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/sync/mqtt"
)

func newReceive() *cobra.Command {
	var cfg mqtt.ReceiverConfig
	var name, tenant, password, replay string
	cmd := &cobra.Command{
		Use:   "receive",
		Short: "Print each record that arrives as one JSON object a line, once",
		Long: `Receive subscribes to what edgeagents publish in format block, prints each record as
one JSON object a line, and acknowledges it end to end once it is written.

What it has printed it remembers in memory only: after a restart, records whose
acknowledgement did not reach the gateway are printed again (each line has its
epoch, stream and seq). A hub that remembers is "edgehub serve". With --replay all
it asks gateways for everything that they still have.

With a CoAP address as --url it needs no broker: it listens there, and the answer to
each message is its acknowledgement.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if password != "" {
				if err := cfg.Password.UnmarshalText([]byte(password)); err != nil {
					return usageError{fmt.Errorf("--password: %w", err)}
				}
				if err := cfg.Password.Resolve("."); err != nil {
					return err
				}
			}
			policy, err := hub.ParseReplayPolicy(replay)
			if err != nil {
				return usageError{fmt.Errorf("--replay: %w", err)}
			}
			cfg.Subscribe = []string{"ea/v1/" + tenant + "/+/d/+"}
			cfg.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			receiver, err := newInput(cmd.Context(), cfg, tenant, cfg.Logger)
			if err != nil {
				return err
			}
			// A write error must not end the loop as a broken pipe would: the
			// record stays unacknowledged and the gateway keeps it.
			signal.Ignore(syscall.SIGPIPE)
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			ctx, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			sink := newPrinter(cmd.OutOrStdout(), cancel)
			h, err := hub.New(hub.Options{Name: name, Sink: sink, Replay: policy, Logger: cfg.Logger})
			if err != nil {
				return err
			}
			if err := h.Run(ctx, receiver); err != nil {
				return err
			}
			return sink.Err()
		},
	}
	cmd.Flags().StringVar(&cfg.URL, "url", "mqtt://localhost:1883", "broker: mqtt://, mqtts://, ws:// or wss://; or an address to listen at: coap://, coaps://, coap+tcp:// or coaps+tcp://")
	cmd.Flags().StringVar(&cfg.TLS.CA, "tls-ca", "", "PEM file of the authorities to trust, instead of the system's; of clients when listening")
	cmd.Flags().StringVar(&cfg.TLS.Cert, "tls-cert", "", "PEM file of a certificate: as a client, or of the address to listen at")
	cmd.Flags().StringVar(&cfg.TLS.Key, "tls-key", "", "PEM file of its private key")
	cmd.Flags().StringVar(&cfg.ClientID, "client-id", mqtt.DefaultClientID, "name of the session that the broker keeps while receive is away")
	cmd.Flags().StringVar(&cfg.Username, "username", "", "user to log in as; with coaps:// the identity of the key that all gateways share")
	cmd.Flags().StringVar(&password, "password", "", "file:/path or env:NAME; with coaps:// the pre-shared key")
	cmd.Flags().StringVar(&name, "name", "hub", "name that acknowledgements bear: the gateways' receiver")
	cmd.Flags().StringVar(&tenant, "tenant", "+", "tenant to listen to; + for all")
	cmd.Flags().StringVar(&replay, "replay", "new", "what is missing is asked for: new (given since the start), all (what gateways still have) or off")
	return cmd
}
