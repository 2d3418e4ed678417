package linkcheck_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/edgeagent/edgeagent/internal/linkcheck"
	"github.com/edgeagent/edgeagent/sync/coap"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// coapHub listens, answers everything and, if it is named, acknowledges marks.
func coapHub(t *testing.T, url, name string) string {
	t.Helper()
	l, err := coap.Listen(t.Context(), coap.ListenConfig{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	r, err := coap.NewReceiver(coap.ReceiverConfig{Listeners: []coap.Listener{l}, Authorize: func(_, _, device string) bool { return device == "gw" }})
	if err != nil {
		t.Fatal(err)
	}
	background(t, func(ctx context.Context) error {
		return r.Run(ctx, func(d coap.Delivery) {
			d.Ack()
			if name != "" && strings.HasSuffix(d.Topic, "/event") {
				_ = r.Publish(ctx, "ea/v1/default/gw/ack", []byte(`{"by":"`+name+`","e":"0000000000000000"}`))
			}
		})
	})
	return l.String()
}

func TestCoAP(t *testing.T) {
	unused, err := net.Dial("udp", "127.0.0.1:9") // takes nothing of others
	if err != nil {
		t.Fatal(err)
	}
	defer unused.Close()
	closed := "coap://" + unused.LocalAddr().String()
	hub := uplink.Config{Receiver: "hub"}
	for _, tt := range []struct {
		name, url string
		device    string
		dest      uplink.Config
		want      string
	}{
		{"a hub over UDP", coapHub(t, "coap://127.0.0.1:0", "hub"), "gw", hub, "subscribe ok, publish ok, ack ok, receiver ok"},
		{"a hub over TCP", coapHub(t, "coap+tcp://127.0.0.1:0", "hub"), "gw", hub, "tcp ok, subscribe ok, publish ok, ack ok, receiver ok"},
		{"another's name", coapHub(t, "coap://127.0.0.1:0", "other"), "gw", hub, "subscribe ok, publish ok, ack ok, receiver failed"},
		{"another device", coapHub(t, "coap://127.0.0.1:0", "hub"), "gw-8", hub, "subscribe failed, publish skipped, ack skipped, receiver skipped"},
		{"a format that it does not take", coapHub(t, "coap://127.0.0.1:0", ""), "gw", uplink.Config{}, "ping ok, publish ok, ack failed"},
		{"nobody there", closed, "gw", uplink.Config{}, "ping failed, publish skipped, ack skipped"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.dest.Name, tt.dest.Links = "cloud", []uplink.LinkConfig{{URL: tt.url}}
			to := target(tt.dest)
			to.Device = tt.device
			o := patient
			if strings.HasSuffix(tt.want, "receiver failed") {
				o = brief
			}
			r := check(t, to, o)
			var got []string
			for _, s := range r.Steps {
				got = append(got, s.Name+" "+string(s.State))
				if s.State == linkcheck.Failed && s.Hint == "" {
					t.Errorf("%s failed without a hint: %s", s.Name, s.Text)
				}
			}
			if all := strings.Join(got, ", "); all != tt.want {
				t.Errorf("steps: %s\nwant:  %s\n%+v", all, tt.want, r.Steps)
			}
		})
	}
}
