package nats

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
)

const (
	// MaxPending is how many messages are fetched ahead.
	MaxPending = 64

	defaultAckWait = 30 * time.Second
	retryPause     = time.Second
	askLimit       = 10 * time.Second
)

// Options configure an [Input].
type Options struct {
	URL            string // nats://host:4222[,nats://…]
	User, Password string
	TLS            *tls.Config // nil: none
	Stream         string      // made on ea.v1.*.*.d.* if it is not there
	Replicas       int         // of a stream that is made; default 1
	Durable        string      // the consumer that workers share; default "edgehub"
	// AckWait is when a message goes to another worker if this one has neither
	// acknowledged it nor said that it still works on it. Default 30 s.
	AckWait time.Duration
	Logger  *slog.Logger
}

// Subjects are what a stream of gateways' messages is on.
const Subjects = "ea.v1.*.*.d.*"

// Stats is the state of an input.
type Stats struct {
	Connected bool
	Delivered uint64
	LastError string
}

// Input takes messages from a stream. Create one with [Open].
type Input struct {
	opts Options
	conn *nats.Conn

	mu     sync.Mutex // guards what follows
	stats  Stats
	taking bool // a stream is there
}

var _ hub.Input = (*Input)(nil)

// Open connects. The cluster may be away: then Run tries again.
func Open(o Options) (*Input, error) {
	if o.Stream == "" {
		return nil, edgeagent.WithHint(errors.New("nats input: which stream?"), `set "stream" of the input`)
	}
	if o.Durable == "" {
		o.Durable = "edgehub"
	}
	if o.AckWait <= 0 {
		o.AckWait = defaultAckWait
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	opts := []nats.Option{
		nats.Name("edgehub"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(retryPause), nats.PingInterval(5 * time.Second), nats.MaxPingsOutstanding(2),
	}
	if o.User != "" {
		opts = append(opts, nats.UserInfo(o.User, o.Password))
	}
	if o.TLS != nil {
		opts = append(opts, nats.Secure(o.TLS))
	}
	conn, err := nats.Connect(o.URL, opts...)
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("nats input: connect: %w", err), `write "url" of the input like nats://localhost:4222`)
	}
	return &Input{opts: o, conn: conn}, nil
}

// Close ends the connection. Call it after Run has returned.
func (in *Input) Close() error {
	in.conn.Close()
	return nil
}

// Stats returns the state of the input.
func (in *Input) Stats() Stats {
	in.mu.Lock()
	defer in.mu.Unlock()
	s := in.stats
	s.Connected = in.conn.IsConnected() && in.taking
	return s
}

// Run implements [hub.Input].
func (in *Input) Run(ctx context.Context, handle func(hub.Delivery)) error {
	for ctx.Err() == nil {
		err := in.session(ctx, handle)
		if ctx.Err() != nil {
			break
		}
		in.note(err)
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
	return nil
}

// note remembers and logs why there is nothing to take; the same again is worth nothing.
func (in *Input) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	in.mu.Lock()
	changed := in.stats.LastError != text || err == nil
	in.stats.LastError, in.taking = text, err == nil
	in.mu.Unlock()
	switch {
	case changed && err != nil:
		in.opts.Logger.Warn("input has no stream, trying again", "stream", in.opts.Stream, "error", err)
	case changed:
		in.opts.Logger.Info("input takes messages", "stream", in.opts.Stream, "durable", in.opts.Durable)
	}
}

// session takes messages until something breaks.
func (in *Input) session(ctx context.Context, handle func(hub.Delivery)) error {
	consumer, err := in.consumer(ctx)
	if err != nil {
		return err
	}
	list, err := consumer.Messages(jetstream.PullMaxMessages(MaxPending), jetstream.PullExpiry(5*time.Second))
	if err != nil {
		return fmt.Errorf("take from stream: %w", err)
	}
	defer list.Stop()
	stop := context.AfterFunc(ctx, list.Stop)
	defer stop()
	in.note(nil)
	for {
		msg, err := list.Next()
		if err != nil {
			return fmt.Errorf("take from stream: %w", err)
		}
		in.deliver(ctx, msg, handle)
	}
}

// patience is for how many times AckWait a message is waited for. Then it may go to another
// worker, and this one goes on with the next.
const patience = 10

// deliver hands a message over and waits until it is acknowledged, so that a worker takes no
// more than its share. Meanwhile the server is told that somebody works on it.
func (in *Input) deliver(ctx context.Context, msg jetstream.Msg, handle func(hub.Delivery)) {
	in.mu.Lock()
	in.stats.Delivered++
	in.mu.Unlock()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(in.opts.AckWait / 3)
		defer tick.Stop()
		enough := time.NewTimer(patience * in.opts.AckWait)
		defer enough.Stop()
		for {
			select {
			case <-tick.C:
				_ = msg.InProgress() // if it is not heard the message comes again
			case <-enough.C:
				in.opts.Logger.Warn("message is not acknowledged, going on", "subject", msg.Subject(), "bytes", len(msg.Data()))
				return
			case <-done:
				return
			case <-ctx.Done():
				return
			}
		}
	})
	handle(hub.Delivery{Topic: topicOf(msg.Subject()), Payload: msg.Data(), Ack: func() {
		_ = msg.Ack() // if it is not heard the message comes again
		close(done)
	}})
	wg.Wait()
}

// consumer finds or makes the stream and the consumer.
func (in *Input) consumer(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	js, err := jetstream.New(in.conn)
	if err != nil {
		return nil, err
	}
	_, err = js.Stream(ctx, in.opts.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{
			Name: in.opts.Stream, Subjects: []string{Subjects}, Replicas: max(in.opts.Replicas, 1),
			// What all workers have committed is of no use any more.
			Retention: jetstream.WorkQueuePolicy,
		})
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", in.opts.Stream, err)
	}
	c, err := js.CreateOrUpdateConsumer(ctx, in.opts.Stream, jetstream.ConsumerConfig{
		Durable: in.opts.Durable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: in.opts.AckWait, MaxAckPending: 10_000,
		FilterSubject: Subjects,
	})
	if err != nil {
		return nil, fmt.Errorf("consumer %s: %w", in.opts.Durable, err)
	}
	return c, nil
}

// Publish implements [hub.Input]. The message is with the server when it returns.
func (in *Input) Publish(ctx context.Context, topic string, payload []byte) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if err := in.conn.Publish(subjectOf(topic), payload); err != nil {
		return fmt.Errorf("publish ack: %w", err)
	}
	if err := in.conn.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("publish ack: %w", err)
	}
	return nil
}

// NATS's own mapping: levels are divided by dots, and a dot within one is two slashes.
var (
	toTopic   = strings.NewReplacer("//", ".", ".", "/")
	toSubject = strings.NewReplacer(".", "//", "/", ".")
)

// topicOf is an MQTT topic that NATS has as a subject.
func topicOf(subject string) string { return toTopic.Replace(subject) }

// subjectOf is the inverse of topicOf.
func subjectOf(topic string) string { return toSubject.Replace(topic) }
