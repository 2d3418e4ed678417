package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/hub/web"
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

// isCoAP reports whether the input is an address to listen at.
func (in inputConfig) isCoAP() bool { return coap.Scheme(in.URL) }

// validateCoAP: who may write for which device must be proved, unless only this machine
// can reach the address.
func (in inputConfig) validateCoAP(u *url.URL, users int) error {
	var errs []error
	secure := in.scheme() == "coaps" || in.scheme() == "coaps+tcp"
	proved := in.TLS.CA != "" || in.scheme() == "coaps" && (in.Username != "" || users > 0)
	switch {
	case !secure && !loopback(u.Hostname()):
		errs = append(errs, edgeagent.WithHint(edgeagent.Field("url", "another address than loopback needs coaps or coaps+tcp"),
			`write "coaps://:5684" and add "broker.users", whose names and passwords are the keys`))
	case secure && !proved:
		errs = append(errs, edgeagent.WithHint(edgeagent.Field("url", "nothing says who may write"),
			`add "tls.ca" for client certificates, or for coaps "broker.users"`))
	}
	if (in.Username == "") != in.Password.IsZero() {
		errs = append(errs, edgeagent.Field("password", "an identity and its key come together"))
	}
	if in.Group != "" {
		errs = append(errs, edgeagent.Field("group", "gateways speak to one address: workers do not share it"))
	}
	return errors.Join(errs...)
}

// addCoAP listens at an address of the configuration. Keys are those of the input, which
// all gateways share, or the passwords of the broker's users, who write for their device
// alone; with certificates the common name is the device.
func (a *assembly) addCoAP(ctx context.Context, name string, in inputConfig) error {
	c := coap.ListenConfig{URL: in.URL, Cert: a.cfg.file(in.TLS.Cert), Key: a.cfg.file(in.TLS.Key), ClientCA: a.cfg.file(in.TLS.CA)}
	users := map[string]userConfig{}
	if in.scheme() == "coaps" {
		if c.Keys = oneKey(in.Username, in.Password); c.Keys == nil && len(a.cfg.Broker.Users) > 0 {
			for _, u := range a.cfg.Broker.Users {
				users[u.Name] = u
			}
			c.Keys = func(identity string) []byte {
				if u, ok := users[identity]; ok {
					return []byte(u.Password.Reveal())
				}
				return nil
			}
		}
	}
	l, err := coap.Listen(ctx, c)
	if err != nil {
		return fmt.Errorf("input %s: %w", name, err)
	}
	r, err := coap.NewReceiver(coap.ReceiverConfig{
		Listeners: []coap.Listener{l}, Logger: a.log.With("input", name), Authorize: in.writers(users),
	})
	if err != nil {
		return fmt.Errorf("input %s: %w", name, err)
	}
	a.source.inputs = append(a.source.inputs, &feed{name, r, func() web.Input {
		st := r.Stats()
		return web.Input{Name: name, Connected: true, Delivered: st.Delivered, Dropped: st.Refused + st.Throttled, Depth: st.Depth}
	}})
	return nil
}

// writers says who may write for which device. Whoever shares a key, or reaches a
// loopback address, may for any.
func (in inputConfig) writers(users map[string]userConfig) func(identity, tenant, device string) bool {
	secure := in.scheme() == "coaps" || in.scheme() == "coaps+tcp"
	return func(identity, tenant, device string) bool {
		if in.Tenant != "" && in.Tenant != "+" && in.Tenant != tenant {
			return false
		}
		if secure && identity == "" { // a certificate without a name
			return false
		}
		if u, ok := users[identity]; ok {
			return u.tenant() == tenant && u.device() == device
		}
		return identity == in.Username || coap.SameDevice(identity, tenant, device)
	}
}
