package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/hub/web"
	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/sync/mqtt"
)

// feed is an input with its name.
type feed struct {
	name string
	hub.Input
	state func() web.Input
}

// assembly is a hub with everything around it.
type assembly struct {
	cfg    *config
	log    *slog.Logger
	state  string // directory
	shared bool   // other workers use the same store

	broker *broker.Broker // nil: there is none
	sink   opened
	ends   []func() error // of inputs
	hub    *hub.Hub
	source *source
	web    *web.Server
}

// assemble opens the store and makes everything else; nothing runs yet. Whoever gets an
// assembly closes it.
func assemble(ctx context.Context, cfg *config, stderr io.Writer, shared bool) (a *assembly, err error) {
	if err := cfg.resolve(); err != nil {
		return nil, err
	}
	a = &assembly{cfg: cfg, log: newLogger(stderr, cfg.Log), shared: shared}
	if a.state, err = cfg.stateDir(); err != nil {
		return nil, err
	}
	kind := sinks()[cfg.Sink.Type]
	if shared && !kind.shared {
		return nil, usageError{edgeagent.WithHint(fmt.Errorf("several workers cannot share sink %s", cfg.Sink.Type), `use "sink: {type: postgres, url: …}"`)}
	}
	if a.sink, err = kind.open(ctx, cfg, a.state, a.log); err != nil {
		return nil, err
	}
	policy, _ := hub.ParseReplayPolicy(cfg.Replay.Policy) // validated
	a.hub, err = hub.New(hub.Options{
		Name: cfg.Name, Sink: a.sink.sink, Store: a.sink.store, Shared: shared,
		AckEvery: cfg.Ack, Replay: policy, ReplayAfter: cfg.Replay.After, Logger: a.log,
	})
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	a.source = &source{name: cfg.Name, started: time.Now(), sink: cfg.Sink.Type, guarantee: kind.guarantee, hub: a.hub}
	for _, part := range []func(context.Context) error{a.addBroker, a.addInputs, a.addWeb} {
		if err := part(ctx); err != nil {
			return nil, errors.Join(err, a.close())
		}
	}
	return a, nil
}

func (a *assembly) close() error {
	var errs []error
	for _, end := range a.ends {
		errs = append(errs, end())
	}
	return errors.Join(append(errs, a.sink.close())...)
}

func newLogger(w io.Writer, c logConfig) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // validated
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// addBroker makes the broker and listens, so that its address is known.
func (a *assembly) addBroker(context.Context) error {
	c := a.cfg.Broker
	if !c.on() {
		return nil
	}
	conf, err := c.TLS.Server()
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	if conf != nil && c.TLS.ClientCA != "" && len(c.Users) > 0 {
		conf.ClientAuth = tls.VerifyClientCertIfGiven // the others have a password
	}
	o := broker.Options{Addr: c.Listen, TLS: conf, Logger: a.log}
	if len(c.Users) > 0 || c.TLS.ClientCA != "" {
		o.Users, o.Allow = c.access()
	}
	a.broker = broker.New(o)
	if err := a.broker.Listen(); err != nil {
		return edgeagent.WithHint(err, `another broker may have that port: use it with "inputs", or set "broker.listen" or --mqtt to a free address`)
	}
	a.source.broker = a.broker.URL()
	if host, _, _ := net.SplitHostPort(c.Listen); !loopback(host) && conf == nil {
		a.log.Warn("the broker's logins travel in the clear", "listen", c.Listen, "hint", `set "broker.tls"`)
	}
	return a.addMQTT("broker", mqtt.ReceiverConfig{
		// The broker is in this process; nobody else can guess the name of the session.
		URL: "mqtt://127.0.0.1:1883", Dial: a.broker.Dial, ClientID: "edgehub-" + rand.Text(),
	})
}

// access returns who may log in with which password, and what which user may do.
func (c brokerConfig) access() (passwords map[string]string, allow func(user, topic string, write bool) bool) {
	passwords, trees := map[string]string{}, map[string]string{}
	for _, u := range c.Users {
		passwords[u.Name] = u.Password.Reveal()
		trees[u.Name] = "ea/v1/" + u.tenant() + "/" + u.device() + "/"
	}
	if len(passwords) == 0 { // certificates only: an empty list would let everybody in
		passwords[rand.Text()] = rand.Text()
	}
	return passwords, func(user, topic string, write bool) bool {
		tree, ok := trees[user]
		if !ok { // by certificate: the common name is the device
			if user == "" || strings.ContainsAny(user, "/+#") {
				return false
			}
			tree = "ea/v1/" + defaultTenant + "/" + user + "/"
		}
		return permitted(tree, topic, write)
	}
}

// permitted is the access list of one gateway, as in configs/mosquitto/acl: it sends
// data and state, and hears acks, configuration and commands.
func permitted(tree, topic string, write bool) bool {
	rest, ok := strings.CutPrefix(topic, tree)
	if !ok {
		return false
	}
	first, _, _ := strings.Cut(rest, "/")
	switch first {
	case "d", "m", "state", "health", "ota":
		return write || first == "ota"
	case "ack", "hint":
		return !write
	case "cfg":
		return !write || rest == "cfg/reported"
	case "cmd":
		return true
	}
	return false
}

func (a *assembly) addInputs(ctx context.Context) error {
	for i, in := range a.cfg.Inputs {
		if in.isNATS() {
			if err := a.addNATS(in.name(i), in); err != nil {
				return err
			}
			continue
		}
		if in.isCoAP() {
			if err := a.addCoAP(ctx, in.name(i), in); err != nil {
				return err
			}
			continue
		}
		tls := in.TLS
		tls.CA, tls.Cert, tls.Key = a.cfg.file(tls.CA), a.cfg.file(tls.Cert), a.cfg.file(tls.Key)
		err := a.addMQTT(in.name(i), mqtt.ReceiverConfig{
			URL: in.URL, ClientID: in.ClientID, Username: in.Username, Password: in.Password, TLS: tls,
			Subscribe: []string{in.filter()},
		})
		if err != nil {
			return fmt.Errorf("input %s: %w", in.name(i), err)
		}
	}
	return nil
}

// filter is what an input subscribes to.
func (in inputConfig) filter() string {
	tenant := in.Tenant
	if tenant == "" {
		tenant = "+"
	}
	filter := "ea/v1/" + tenant + "/+/d/+"
	if in.Group != "" {
		return "$share/" + in.Group + "/" + filter
	}
	return filter
}

func (a *assembly) addMQTT(name string, c mqtt.ReceiverConfig) error {
	c.Logger = a.log.With("input", name)
	r, err := mqtt.NewReceiver(c)
	if err != nil {
		return err
	}
	a.source.inputs = append(a.source.inputs, &feed{name, r, func() web.Input {
		st := r.Stats()
		return web.Input{Name: name, Connected: st.Connected, Delivered: st.Delivered, Dropped: st.Dropped, Depth: st.Depth, Error: st.LastError}
	}})
	return nil
}

func (a *assembly) addWeb(context.Context) (err error) {
	c := a.cfg.HTTP
	c.TLS.Cert, c.TLS.Key, c.TLS.ClientCA = a.cfg.file(c.TLS.Cert), a.cfg.file(c.TLS.Key), a.cfg.file(c.TLS.ClientCA)
	if c.Socket == "" {
		c.Socket = filepath.Join(a.state, socketName)
	}
	o := web.Options{Source: a.source, Logger: a.log}
	if a.sink.reader != nil {
		o.Store = archive{a.sink.reader}
	}
	a.web, err = web.New(c, o)
	return err
}

// run runs everything until ctx ends. ready, if set, is called with the addresses once
// all is up.
func (a *assembly) run(ctx context.Context, ready func(page string)) error {
	g, ctx := errgroup.WithContext(ctx)
	a.web.OnListening(func(_, address string) {
		page := ""
		if address != "" {
			page = "http://" + address + "/"
			if a.cfg.HTTP.TLS.Cert != "" {
				page = "https://" + address + "/"
			}
		}
		// The socket is held: no other hub works on this state. Only now is it read.
		g.Go(func() error { return a.receive(ctx, g, page, ready) })
	})
	g.Go(func() error { return a.web.Run(ctx) })
	return g.Wait()
}

// receive takes up what is stored and then lets messages in.
func (a *assembly) receive(ctx context.Context, g *errgroup.Group, page string, ready func(page string)) error {
	if err := a.hub.Restore(ctx); err != nil {
		return fmt.Errorf("take up what is stored: %w", err)
	}
	if a.broker != nil {
		g.Go(func() error { return a.broker.Run(ctx) })
	}
	for _, in := range a.source.inputs {
		g.Go(func() error {
			if err := a.hub.Run(ctx, in); err != nil {
				return fmt.Errorf("input %s: %w", in.name, err)
			}
			return nil
		})
	}
	if ready != nil {
		ready(page)
	}
	return nil
}
