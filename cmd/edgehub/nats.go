package main

import (
	"fmt"

	"github.com/edgeagent/edgeagent/hub/inputs/nats"
	"github.com/edgeagent/edgeagent/hub/web"
)

// addNATS adds an input that takes messages from a JetStream stream.
func (a *assembly) addNATS(name string, in inputConfig) error {
	if in.TLS.CA != "" || in.TLS.Cert != "" || len(in.TLS.Pins) > 0 {
		return fmt.Errorf("input %s: write tls:// in place of nats:// for TLS with the system's authorities", name)
	}
	n, err := nats.Open(nats.Options{
		URL: in.URL, User: in.Username, Password: in.Password.Reveal(), Stream: in.Stream, Replicas: in.Replicas, Durable: in.Durable,
		Logger: a.log.With("input", name),
	})
	if err != nil {
		return fmt.Errorf("input %s: %w", name, err)
	}
	a.ends = append(a.ends, n.Close)
	a.source.inputs = append(a.source.inputs, &feed{name, n, func() web.Input {
		st := n.Stats()
		return web.Input{Name: name, Connected: st.Connected, Delivered: st.Delivered, Error: st.LastError}
	}})
	return nil
}
