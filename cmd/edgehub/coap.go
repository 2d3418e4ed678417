package main

import (
	"context"
	"log/slog"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/sync/coap"
	"github.com/edgeagent/edgeagent/sync/mqtt"
)

// newInput returns what --url names: a broker to connect to, or, with a scheme of CoAP,
// an address to listen at.
func newInput(ctx context.Context, cfg mqtt.ReceiverConfig, tenant string, log *slog.Logger) (hub.Input, error) {
	if !coap.Scheme(cfg.URL) {
		r, err := mqtt.NewReceiver(cfg)
		if err != nil {
			return nil, edgeagent.WithHint(err, "write the broker as --url mqtt://host:1883")
		}
		return r, nil
	}
	return newCoAP(ctx, coap.ListenConfig{
		URL: cfg.URL, Keys: oneKey(cfg.Username, cfg.Password), Cert: cfg.TLS.Cert, Key: cfg.TLS.Key, ClientCA: cfg.TLS.CA,
	}, tenant, log)
}

// newCoAP listens at one address, for one tenant or, with "+", for all. With one key for
// all gateways its identity says nothing about who speaks, so each may speak for any
// device.
func newCoAP(ctx context.Context, cfg coap.ListenConfig, tenant string, log *slog.Logger) (*coap.Receiver, error) {
	l, err := coap.Listen(ctx, cfg)
	if err != nil {
		return nil, err
	}
	shared := cfg.Keys != nil
	return coap.NewReceiver(coap.ReceiverConfig{Listeners: []coap.Listener{l}, Logger: log, Authorize: func(identity, of, device string) bool {
		return (tenant == "+" || tenant == of) && (shared || coap.SameDevice(identity, of, device))
	}})
}

// oneKey is the key of one identity, which all gateways use.
func oneKey(identity string, key edgeagent.Secret) func(string) []byte {
	if identity == "" || key.IsZero() {
		return nil
	}
	return func(who string) []byte {
		if who != identity {
			return nil
		}
		return []byte(key.Reveal())
	}
}
