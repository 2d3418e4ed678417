// Command peer is the other end of an agent in a guest of test/hil: a broker on
// 127.0.0.1:1883, and a subscriber that prints each line of each message on standard
// output, as "MQTT topic line".
package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/sync/mqtt"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b := broker.New(broker.Options{Addr: "127.0.0.1:1883", Logger: log})
	if err := b.Listen(); err != nil {
		return err
	}
	r, err := mqtt.NewReceiver(mqtt.ReceiverConfig{URL: b.URL(), ClientID: "peer", Subscribe: []string{"ea/v1/#"}, Logger: log})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.Run(ctx) })
	g.Go(func() error {
		return r.Run(ctx, func(d mqtt.Delivery) {
			for line := range bytes.Lines(d.Payload) {
				fmt.Fprintf(os.Stdout, "MQTT %s %s\n", d.Topic, bytes.TrimSpace(line)) // one write: lines stay whole
			}
			d.Ack()
		})
	})
	return g.Wait()
}
