package mqtt

import (
	"context"
	"errors"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent/sync/uplink"
)

// token is a publish that has ended, or never does.
type token struct {
	paho.Token
	done chan struct{}
	err  error
}

func (t *token) Done() <-chan struct{} { return t.done }
func (t *token) Error() error          { return t.err }

func ended(err error) *token {
	t := &token{done: make(chan struct{}), err: err}
	close(t.done)
	return t
}

// results is a handler that keeps the numbers of accepted messages.
type results struct{ accepted []uint64 }

func (r *results) Up(uplink.Caps)           {}
func (r *results) Ack([]byte)               {}
func (r *results) Result(res uplink.Result) { r.accepted = append(r.accepted, res.ID) }

// At the end of a session, what was acknowledged in time is reported, and nothing
// that the end itself completed.
func TestDrain(t *testing.T) {
	lost := errors.New("connection lost before Publish completed")
	tests := []struct {
		name   string
		tokens []*token
		want   []uint64
	}{
		{"nothing sent", nil, nil},
		{"all acknowledged", []*token{ended(nil), ended(nil)}, []uint64{1, 2}},
		{"failed by the end", []*token{ended(nil), ended(lost), ended(nil)}, []uint64{1}},
		{"still open", []*token{ended(nil), {done: make(chan struct{})}, ended(nil)}, []uint64{1}},
		{"first failed", []*token{ended(lost), ended(lost)}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			up, end := context.WithCancelCause(t.Context())
			end(errors.New("over"))
			c := &client3{lost: make(chan struct{})}
			s := &session3{client: c, end: end, over: up.Done(), cause: up.Err, slots: make(chan struct{}, window), pending: make(chan published, window)}
			for i, tok := range tt.tokens {
				s.slots <- struct{}{}
				s.pending <- published{uint64(i + 1), tok}
			}
			var got results
			s.drain(&got)
			if diff := cmp.Diff(tt.want, got.accepted); diff != "" {
				t.Errorf("accepted (-want +got):\n%s", diff)
			}
			got.accepted = nil
			if len(tt.tokens) > 0 && tt.tokens[0].err != nil {
				s.slots <- struct{}{}
				if s.await(published{9, ended(lost)}, &got, nil) || got.accepted != nil {
					t.Errorf("a publish that failed counts as accepted")
				}
			}
		})
	}
}
