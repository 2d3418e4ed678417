package mqtt_test

import (
	"context"
	"fmt"
	"sync"

	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// printer is a handler for the example.
type printer struct{ done chan struct{} }

func (printer) Up(uplink.Caps) {}
func (p printer) Result(r uplink.Result) {
	fmt.Println("message", r.ID, r.Class)
	close(p.done)
}
func (printer) Ack([]byte) {}

// A session that sends one message and ends when its result is there.
func ExampleTransport_Session() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b := broker.New(broker.Options{})
	if err := b.Listen(); err != nil {
		fmt.Println(err)
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = b.Run(ctx) })

	t, err := mqtt.New(uplink.LinkConfig{URL: b.URL()}, mqtt.Options{Device: "gw1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	p := printer{make(chan struct{})}
	session, end := context.WithCancel(ctx)
	wg.Go(func() { <-p.done; end() })
	err = t.Session(session, p, func(ctx context.Context, s uplink.Session) {
		_ = s.Send(ctx, uplink.Message{ID: 1, Lane: uplink.LaneAlarm, Payload: []byte("door open")})
	})
	fmt.Println(err)
	cancel()
	// Output:
	// message 1 accepted
	// context canceled
}
