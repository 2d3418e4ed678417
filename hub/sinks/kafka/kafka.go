package kafka

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/sync/wire"
)

// commitLimit bounds one commit: beyond it the hub is told, and tries again.
const commitLimit = 60 * time.Second

// Options configure a [Sink].
type Options struct {
	Brokers []string // host:port of some
	Topic   string   // it must be there, or the cluster makes topics by itself
	// User and Password log in by SASL PLAIN, over TLS only.
	User, Password string
	TLS            *tls.Config // nil: none
}

// Sink produces to a topic. Create one with [New].
type Sink struct {
	client *kgo.Client
	topic  string
	form   *wire.JSON
}

var (
	_ hub.Sink      = (*Sink)(nil)
	_ hub.Corrector = (*Sink)(nil)
)

// New returns a sink; it connects when it is first used.
func New(o Options) (*Sink, error) {
	switch {
	case len(o.Brokers) == 0 || o.Topic == "":
		return nil, edgeagent.WithHint(errors.New("kafka sink: which brokers, which topic?"), `set "sink.url" to host:port of a broker and "sink.topic"`)
	case o.User != "" && o.TLS == nil:
		return nil, edgeagent.WithHint(errors.New("kafka sink: a password needs TLS"), `write "sink.url" like kafkas://broker:9093`)
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(o.Brokers...), kgo.ClientID("edgehub"), kgo.DefaultProduceTopic(o.Topic),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.AllowAutoTopicCreation(),
		// A commit must end: what could not be delivered in time fails, and comes again.
		kgo.RecordDeliveryTimeout(commitLimit),
	}
	if o.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(o.TLS))
	}
	if o.User != "" {
		opts = append(opts, kgo.SASL(plain.Auth{User: o.User, Pass: o.Password}.AsMechanism()))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("kafka sink: %w", err)
	}
	return &Sink{client: client, topic: o.Topic, form: wire.NewJSON()}, nil
}

// Close ends the connections.
func (s *Sink) Close() error {
	s.client.Close()
	return nil
}

// Commit implements [hub.Sink].
func (s *Sink) Commit(ctx context.Context, c hub.Cut) error {
	records, err := s.records(c)
	if err != nil {
		return fmt.Errorf("kafka sink: %w", err)
	}
	return s.produce(ctx, records...)
}

// Correct implements [hub.Corrector].
func (s *Sink) Correct(ctx context.Context, id hub.EpochID, c hub.Correction) error {
	value, err := json.Marshal(correction{id.Tenant, id.Device, id.Epoch, c.Run, int64(c.Add), int64(c.Err)})
	if err != nil {
		return fmt.Errorf("kafka sink: %w", err)
	}
	return s.produce(ctx, &kgo.Record{
		Key: key(id), Value: value, Headers: []kgo.RecordHeader{{Key: "type", Value: []byte("correction")}},
	})
}

// correction is what to add to the times of a run's unsynced records.
type correction struct {
	Tenant string          `json:"tenant"`
	Device string          `json:"device"`
	Epoch  edgeagent.Epoch `json:"epoch"`
	Run    edgeagent.Run   `json:"run"`
	Add    int64           `json:"add_ns"`
	Err    int64           `json:"err_ns"`
}

func key(id hub.EpochID) []byte { return []byte(id.Tenant + "/" + id.Device) }

// produce waits until all records are written. If one fails, those still on their way
// are given up or come through; the hub sends the same cut again either way.
func (s *Sink) produce(ctx context.Context, records ...*kgo.Record) error {
	ctx, cancel := context.WithTimeout(ctx, commitLimit)
	defer cancel()
	if err := s.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("kafka sink: produce to %s: %w", s.topic, err)
	}
	return nil
}

// records makes one message a record.
func (s *Sink) records(c hub.Cut) (out []*kgo.Record, err error) {
	k, cut := key(c.EpochID()), []byte(c.ID())
	for b := range c.Batches() {
		// Not scratch: the client keeps it for as long as it tries.
		text, err := s.form.Encode(nil, b, c.Device)
		if err != nil {
			return nil, err
		}
		seq := b.First
		for line := range bytes.Lines(text) {
			out = append(out, &kgo.Record{Key: k, Value: bytes.TrimSuffix(line, []byte("\n")), Headers: []kgo.RecordHeader{
				{Key: "tenant", Value: []byte(c.Tenant)},
				{Key: "device", Value: []byte(c.Device)},
				{Key: "epoch", Value: []byte(c.Epoch.String())},
				{Key: "run", Value: []byte(c.Run.String())},
				{Key: "stream", Value: []byte(c.Stream.String())},
				{Key: "seq", Value: strconv.AppendUint(nil, uint64(seq), 10)},
				{Key: "cut", Value: cut},
			}})
			seq++
		}
	}
	if len(out) != c.Len() {
		return nil, fmt.Errorf("%d records make %d messages", c.Len(), len(out))
	}
	return out, nil
}
