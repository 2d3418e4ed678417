package coap_test

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/edgeagent/edgeagent/sync/coap"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// printer is what an engine would be.
type printer struct{ done chan struct{} }

func (printer) Up(uplink.Caps) { fmt.Println("up") }
func (p printer) Result(r uplink.Result) {
	fmt.Println("message", r.ID, r.Class)
	close(p.done)
}
func (printer) Ack([]byte) {}

// A gateway sends a message to a hub over UDP.
func Example() {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	url := "coap://" + socket.LocalAddr().String()
	hub, err := coap.NewReceiver(coap.ReceiverConfig{Listeners: []coap.Listener{coap.ServeUDP(socket)}})
	if err != nil {
		fmt.Println(err)
		return
	}
	gateway, err := coap.New(uplink.LinkConfig{URL: url}, coap.Options{Device: "gw-7"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = hub.Run(ctx, func(d coap.Delivery) {
			fmt.Println(d.Topic, string(d.Payload))
			d.Ack() // once it is stored
		})
	})
	h := printer{make(chan struct{})}
	wg.Go(func() {
		_ = gateway.Session(ctx, h, func(ctx context.Context, s uplink.Session) {
			_ = s.Send(ctx, uplink.Message{ID: 1, Lane: uplink.LaneLive, Payload: []byte("21.5"), ContentType: uplink.FormatBlock})
		})
	})
	<-h.done
	cancel()
	wg.Wait()
	// Output:
	// up
	// ea/v1/default/gw-7/d/live 21.5
	// message 1 accepted
}
