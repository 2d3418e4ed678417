package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/edgeagent/edgeagent/sync/uplink"
)

// rawWait bounds each wait for the broker outside of what is measured.
const rawWait = 15 * time.Second

// rawClient connects the MQTT library alone: a clean session, no reconnect, no store on
// disk. It goes straight to the broker.
func rawClient(link uplink.LinkConfig, id string) (paho.Client, error) {
	u, err := url.Parse(link.URL)
	if err != nil {
		return nil, err
	}
	o := paho.NewClientOptions().
		AddBroker(strings.Replace(link.URL, "mqtts://", "ssl://", 1)).
		SetClientID(id).SetUsername(link.Username).SetPassword(link.Password.Reveal()).
		SetCleanSession(true).SetAutoReconnect(false).SetConnectRetry(false).
		SetConnectTimeout(rawWait).SetProtocolVersion(4)
	if secure := map[string]bool{"mqtts": true, "ssl": true, "tls": true, "wss": true}; secure[u.Scheme] {
		var cfg *tls.Config
		if cfg, err = link.TLS.Client(u.Hostname(), "", time.Now); err != nil {
			return nil, err
		}
		o.SetTLSConfig(cfg)
	}
	c := paho.NewClient(o)
	if err := rawDone(c.Connect()); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", u.Redacted(), err)
	}
	return c, nil
}

func rawDone(t paho.Token) error {
	if !t.WaitTimeout(rawWait) {
		return errors.New("no answer")
	}
	return t.Error()
}

// rawLoop publishes messages of the given sizes at QoS 1, window of them in flight, as
// fast as the library can, and returns how many a second were acknowledged.
func rawLoop(ctx context.Context, link uplink.LinkConfig, id, topic string, sizes []int, window int) (rate float64, err error) {
	c, err := rawClient(link, id)
	if err != nil {
		return 0, err
	}
	defer c.Disconnect(100)
	largest := 0
	for _, n := range sizes {
		largest = max(largest, n)
	}
	payload := make([]byte, largest)
	flight := make(chan paho.Token, window-1) // and the one that is being waited for
	var failed error
	var waiting sync.WaitGroup
	began := time.Now()
	waiting.Go(func() {
		for t := range flight {
			select {
			case <-t.Done():
			case <-ctx.Done():
			}
			if failed == nil {
				failed = errors.Join(ctx.Err(), t.Error())
			}
		}
	})
	for _, n := range sizes {
		if ctx.Err() != nil {
			break
		}
		flight <- c.Publish(topic, 1, false, payload[:n])
	}
	close(flight)
	waiting.Wait()
	took := time.Since(began)
	if failed != nil {
		return 0, fmt.Errorf("raw loop: %w", failed)
	}
	return float64(len(sizes)) / took.Seconds(), nil
}

// listen subscribes to topics and calls heard for each message until the returned
// function is called.
func listen(link uplink.LinkConfig, id string, heard func(topic string, payload []byte), topics ...string) (stop func(), err error) {
	c, err := rawClient(link, id)
	if err != nil {
		return nil, err
	}
	filters := map[string]byte{}
	for _, t := range topics {
		filters[t] = 1
	}
	token := c.SubscribeMultiple(filters, func(_ paho.Client, m paho.Message) { heard(m.Topic(), m.Payload()) }).(*paho.SubscribeToken)
	err = rawDone(token)
	for topic, granted := range token.Result() {
		if granted > 2 && err == nil {
			err = fmt.Errorf("may not subscribe to %s", topic)
		}
	}
	if err != nil {
		c.Disconnect(100)
		return nil, err
	}
	return func() { c.Disconnect(100) }, nil
}
