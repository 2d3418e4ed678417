package mqtt

import (
	"context"
	"errors"
	"fmt"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/edgeagent/edgeagent/sync/uplink"
)

// connection is one that is up, in either version of the protocol.
type connection interface {
	ended() <-chan struct{} // closed when it is lost
	why() error             // valid then
	close()
}

// publisher is a connection that sends and waits.
type publisher interface {
	connection
	// publish waits for the PUBACK.
	publish(ctx context.Context, topic string, payload []byte) error
}

var (
	_ publisher = (*client3)(nil)
	_ publisher = (*publisher5)(nil)
)

var errNoPuback = fmt.Errorf("no acknowledgement within %v", publishLimit)

// protocolName is the version as people and configurations write it.
func protocolName(five bool) string {
	if five {
		return uplink.ProtocolMQTT5
	}
	return uplink.ProtocolMQTT3
}

// connectPublisher makes the connection for acks, which finds out what the server
// speaks.
func (r *Receiver) connectPublisher(ctx context.Context) (p publisher, five bool, err error) {
	five = r.tongue.five(time.Now())
	if five {
		p, err = r.acks.publisher5(ctx)
		if err == nil || !r.tongue.fallBack(err) || ctx.Err() != nil {
			return p, true, err
		}
	}
	c, err := r.acks.connect3(ctx, func(paho.Message) {})
	if _, refused := errors.AsType[*uplink.RefusedError](err); five && (err == nil || refused) {
		r.tongue.settle(time.Now())
	}
	if err != nil {
		return nil, false, err
	}
	return c, false, nil
}

// connectData makes the connection for messages.
func (r *Receiver) connectData(ctx context.Context, five bool, in *inbox) (connection, error) {
	if five {
		c, err := r.data.connect5(ctx, opening{
			topics: r.subs, needed: len(r.subs), receive: r.receive, expiry: r.expiry,
			onMessage: in.put, onPuback: func(uint16, reason, string) {},
		})
		if err != nil {
			return nil, err
		}
		c.run()
		return c, nil
	}
	c, err := r.data.connect3(ctx, func(m paho.Message) { in.put(message{m.Topic(), m.Payload(), m.Ack}) })
	if err != nil {
		return nil, err
	}
	if err := c.subscribe(ctx, len(r.subs), r.subs...); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// publisher5 publishes in MQTT 5.
type publisher5 struct {
	*client5
	slots chan struct{} // one for each message without a PUBACK
	open  flights[chan<- error]
}

// publisher5 makes a connection that publishes. The caller must close it.
func (l *link) publisher5(ctx context.Context) (*publisher5, error) {
	p := &publisher5{}
	c, err := l.connect5(ctx, opening{receive: 1, onMessage: func(m message) { m.ack() }, onPuback: p.puback})
	if err != nil {
		return nil, err
	}
	p.client5, p.slots = c, make(chan struct{}, c.granted.inFlight)
	c.run()
	return p, nil
}

func (p *publisher5) puback(id uint16, r reason, said string) {
	result, ok := p.open.take(id)
	if !ok {
		return
	}
	<-p.slots
	if r.failed() {
		result <- errors.New(r.with(said))
		return
	}
	result <- nil
}

// publish implements publisher. Several goroutines may.
func (p *publisher5) publish(ctx context.Context, topic string, payload []byte) error {
	late := time.NewTimer(publishLimit)
	defer late.Stop()
	result := make(chan error, 1)
	sent := false
	for {
		var slots chan<- struct{}
		if !sent {
			slots = p.slots
		}
		select {
		case slots <- struct{}{}:
			sent = true
			if err := p.send(publication{topic: topic, id: p.open.add(result), payload: payload}); err != nil {
				p.fail(err)
				return p.why()
			}
		case err := <-result:
			return err
		case <-p.gone:
			if errors.Is(p.err, errClosed) {
				return ErrOffline
			}
			return p.why()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			p.lose(errNoPuback)
			return errNoPuback
		}
	}
}
