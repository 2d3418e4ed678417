package transporttest

import (
	"errors"
	"strings"
	"testing"

	"github.com/edgeagent/edgeagent/sync/uplink"
)

// The recorder is what finds a transport guilty, so it is tried itself.
func TestRecorderFindsFaults(t *testing.T) {
	accepted := uplink.Result{ID: 1}
	for _, tt := range []struct {
		name string
		do   func(*recorder)
		want string
	}{
		{"nothing wrong", func(r *recorder) { r.Up(uplink.Caps{}); r.sending(1); r.Result(accepted); r.Ack(nil) }, ""},
		{"a reasoned refusal", func(r *recorder) {
			r.Up(uplink.Caps{})
			r.sending(1)
			r.Result(uplink.Result{ID: 1, Class: uplink.Poison, Err: errors.New("too large")})
		}, ""},
		{"up twice", func(r *recorder) { r.Up(uplink.Caps{}); r.Up(uplink.Caps{}) }, "Up was called 2 times"},
		{"result before up", func(r *recorder) { r.sending(1); r.Result(accepted) }, "before Up"},
		{"result of nothing", func(r *recorder) { r.Up(uplink.Caps{}); r.Result(accepted) }, "was not sent"},
		{"two results", func(r *recorder) { r.Up(uplink.Caps{}); r.sending(1); r.Result(accepted); r.Result(accepted) }, "two results"},
		{"refusal without a reason", func(r *recorder) {
			r.Up(uplink.Caps{})
			r.sending(1)
			r.Result(uplink.Result{ID: 1, Class: uplink.Unknown})
		}, "without an error"},
		{"late", func(r *recorder) { r.Up(uplink.Caps{}); r.over = true; r.Ack(nil) }, "after Session had returned"},
		{"two at once", func(r *recorder) { r.busy.Store(true); r.Ack(nil) }, "another call"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRecorder()
			tt.do(r)
			got := strings.Join(r.problems, "; ")
			if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("problems %q, want %q", got, tt.want)
			}
		})
	}
}
