package mqtt_test

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// A trace hears of every step, in order, and of none that did not happen.
func TestTrace(t *testing.T) {
	a := newAuthority(t)
	cert, pair := a.leaf(t, "server")
	server := &tls.Config{Certificates: []tls.Certificate{pair}}
	tlsFront := func(c net.Conn) (net.Conn, string, error) {
		s := tls.Server(c, server)
		return s, "", s.Handshake()
	}
	b, _ := startBroker(t, broker.Options{})
	port := front(t, b.URL(), tlsFront)
	_, plain, _ := strings.Cut(b.URL(), "://")
	for name, tc := range map[string]struct {
		url  string
		tls  uplink.TLSConfig
		want []string
	}{
		"plain":    {"mqtt://" + plain, uplink.TLSConfig{}, []string{"reached", "login MQTT 5", "subscribed ea/v1/default/gw/ack"}},
		"secured":  {"mqtts://localhost:" + port, uplink.TLSConfig{CA: a.dir + "/ca.pem"}, []string{"reached", "secured " + cert.Subject.CommonName, "login MQTT 5", "subscribed ea/v1/default/gw/ack"}},
		"no trust": {"mqtts://localhost:" + port, uplink.TLSConfig{}, []string{"reached"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			tr, err := mqtt.New(uplink.LinkConfig{URL: tc.url, TLS: tc.tls}, mqtt.Options{
				Device: "gw", Acks: true, Trace: &mqtt.Trace{
					Reached:    func() { got = append(got, "reached") },
					Secured:    func(s tls.ConnectionState) { got = append(got, "secured "+s.PeerCertificates[0].Subject.CommonName) },
					LoggedIn:   func(p string) { got = append(got, "login "+p) },
					Subscribed: func(topic string) { got = append(got, "subscribed "+topic) },
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			err = tr.Session(ctx, quiet{}, func(context.Context, uplink.Session) { cancel() })
			if up := slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "login") }); up == (ctx.Err() == nil) {
				t.Errorf("session ended with %v", err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

type quiet struct{}

func (quiet) Up(uplink.Caps)       {}
func (quiet) Result(uplink.Result) {}
func (quiet) Ack([]byte)           {}
