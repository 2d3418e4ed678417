package nats

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/sync/wire"
)

const (
	maxMessage  = 512 << 10
	leastWindow = time.Hour
	commitLimit = 30 * time.Second
)

// Options configure a [Sink].
type Options struct {
	URL            string // nats://host:4222[,nats://…]
	User, Password string
	TLS            *tls.Config // nil: none
	Stream         string      // made with a window of 2 h if it is not there
	Prefix         string      // of subjects; default "edgehub"
}

// Sink publishes to a stream. Create one with [Open].
type Sink struct {
	conn   *nats.Conn
	js     jetstream.JetStream
	prefix string
	form   *wire.JSON
	text   []byte
}

var (
	_ hub.Sink      = (*Sink)(nil)
	_ hub.Corrector = (*Sink)(nil)
)

// Open connects and looks at the stream.
func Open(ctx context.Context, o Options) (*Sink, error) {
	if o.Stream == "" {
		return nil, edgeagent.WithHint(errors.New("nats sink: which stream?"), `set "sink.stream"`)
	}
	if o.Prefix == "" {
		o.Prefix = "edgehub"
	}
	opts := []nats.Option{nats.Name("edgehub"), nats.MaxReconnects(-1)}
	if o.User != "" {
		opts = append(opts, nats.UserInfo(o.User, o.Password))
	}
	if o.TLS != nil {
		opts = append(opts, nats.Secure(o.TLS))
	}
	conn, err := nats.Connect(o.URL, opts...)
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("nats sink: connect to %s: %w", o.URL, err), `write "sink.url" like nats://localhost:4222`)
	}
	s := &Sink{conn: conn, prefix: o.Prefix, form: wire.NewJSON()}
	if err := s.prepare(ctx, o.Stream); err != nil {
		conn.Close()
		return nil, fmt.Errorf("nats sink: %w", err)
	}
	return s, nil
}

// prepare makes the stream, or checks that it keeps what the sink promises.
func (s *Sink) prepare(ctx context.Context, name string) (err error) {
	if s.js, err = jetstream.New(s.conn); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commitLimit)
	defer cancel()
	stream, err := s.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = s.js.CreateStream(ctx, jetstream.StreamConfig{
			Name: name, Subjects: []string{s.prefix + ".>"}, Duplicates: 2 * leastWindow, Description: "records of edgehub",
		})
		return err
	}
	if err != nil {
		return edgeagent.WithHint(fmt.Errorf("look at stream %s: %w", name, err), "is JetStream on, and may this user use it?")
	}
	c := stream.CachedInfo().Config
	if c.Duplicates < leastWindow {
		return edgeagent.WithHint(fmt.Errorf("stream %s forgets message ids after %v", name, c.Duplicates),
			"nats stream edit "+name+" --dupe-window=2h")
	}
	return nil
}

// Close ends the connection.
func (s *Sink) Close() error {
	s.conn.Close()
	return nil
}

// Commit implements [hub.Sink].
func (s *Sink) Commit(ctx context.Context, c hub.Cut) error {
	var err error
	s.text = s.text[:0]
	for b := range c.Batches() {
		if s.text, err = s.form.Encode(s.text, b, c.Device); err != nil {
			return fmt.Errorf("nats sink: %w", err)
		}
	}
	id := c.ID()
	for part, rest := 0, s.text; len(rest) > 0; part++ {
		var piece []byte
		piece, rest = split(rest, maxMessage)
		// Parts follow from the text, which follows from the cut.
		if err := s.publish(ctx, c.EpochID(), c.Stream.String(), id+"#"+strconv.Itoa(part), piece); err != nil {
			return err
		}
	}
	return nil
}

// split cuts whole lines of at most n bytes off text, one at least.
func split(text []byte, n int) (part, rest []byte) {
	if len(text) <= n {
		return text, nil
	}
	end := bytes.LastIndexByte(text[:n], '\n') + 1
	if end == 0 {
		end = bytes.IndexByte(text, '\n') + 1
	}
	return text[:end], text[end:]
}

// Correct implements [hub.Corrector].
func (s *Sink) Correct(ctx context.Context, id hub.EpochID, c hub.Correction) error {
	value, err := json.Marshal(correction{id.Tenant, id.Device, id.Epoch, c.Run, int64(c.Add), int64(c.Err)})
	if err != nil {
		return fmt.Errorf("nats sink: %w", err)
	}
	return s.publish(ctx, id, "correction", fmt.Sprintf("%s/%s/%s/correction/%s", id.Tenant, id.Device, id.Epoch, c.Run), value)
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

// publish returns when the stream has the message, now or already.
func (s *Sink) publish(ctx context.Context, id hub.EpochID, last, msgID string, payload []byte) error {
	ctx, cancel := context.WithTimeout(ctx, commitLimit)
	defer cancel()
	msg := nats.NewMsg(s.prefix + "." + token(id.Tenant) + "." + token(id.Device) + "." + last)
	msg.Data = payload
	msg.Header.Set(nats.MsgIdHdr, msgID)
	msg.Header.Set("edgehub-tenant", id.Tenant)
	msg.Header.Set("edgehub-device", id.Device)
	if _, err := s.js.PublishMsg(ctx, msg); err != nil {
		return fmt.Errorf("nats sink: publish: %w", err)
	}
	return nil
}

// token is a name as part of a subject.
func token(name string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(".*>", r) {
			return '_'
		}
		return r
	}, name)
}
