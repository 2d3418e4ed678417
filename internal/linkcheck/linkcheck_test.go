package linkcheck_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/internal/linkcheck"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// marks stands for a block of marks: the receivers in these tests look at the topic
// only.
var marks = []byte("marks")

const ackTopic = "ea/v1/default/gw/ack"

// runBroker serves until the test ends.
func runBroker(t *testing.T, o broker.Options) *broker.Broker {
	t.Helper()
	b := broker.New(o)
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	background(t, b.Run)
	return b
}

func background(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// answer runs a receiver that answers each message on d/event with acks.
func answer(t *testing.T, url string, acks ...string) {
	t.Helper()
	r, err := mqtt.NewReceiver(mqtt.ReceiverConfig{URL: url, ClientID: "receiver"})
	if err != nil {
		t.Fatal(err)
	}
	background(t, func(ctx context.Context) error {
		return r.Run(ctx, func(d mqtt.Delivery) {
			d.Ack()
			if strings.HasSuffix(d.Topic, "/d/event") {
				for _, a := range acks {
					_ = r.Publish(ctx, ackTopic, []byte(a))
				}
			}
		})
	})
	for !r.Stats().Connected {
		select {
		case <-time.After(time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the receiver does not connect")
		}
	}
}

func ackOf(by string, e edgeagent.Epoch) string {
	b, err := json.Marshal(edgeagent.Ack{By: by, Epoch: e})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func target(d uplink.Config) linkcheck.Target {
	d.Name = "cloud"
	d = d.WithDefaults()
	return linkcheck.Target{Tenant: "default", Device: "gw", Destination: d, Link: d.Links[0], Marks: marks}
}

func oneLink(url string) uplink.Config {
	return uplink.Config{Links: []uplink.LinkConfig{{URL: url}}}
}

var (
	// patient is for what comes for sure, however busy the machine is.
	patient = linkcheck.Options{Timeout: 2 * time.Minute, Answer: time.Minute}
	// brief is for an answer that never comes, behind some that do.
	brief = linkcheck.Options{Timeout: 2 * time.Minute, Answer: 3 * time.Second}
)

func check(t *testing.T, target linkcheck.Target, o linkcheck.Options) linkcheck.Result {
	t.Helper()
	r, err := linkcheck.Check(t.Context(), target, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func states(r linkcheck.Result) string {
	var out []string
	for _, s := range r.Steps {
		out = append(out, s.Name+" "+string(s.State))
	}
	return strings.Join(out, ", ")
}

func TestEveryFormatGetsThrough(t *testing.T) {
	for _, format := range []string{uplink.FormatLine, uplink.FormatJSON, uplink.FormatSenMLJSON, uplink.FormatSenMLCBOR} {
		t.Run(format, func(t *testing.T) {
			b := runBroker(t, broker.Options{})
			d := oneLink(b.URL())
			d.Format = format
			r := check(t, target(d), patient)
			if diff := cmp.Diff("tcp ok, login ok, publish ok, ack ok", states(r)); diff != "" || r.State != linkcheck.OK || r.EndToEnd {
				t.Errorf("%s end to end %t\n%s\n%+v", r.State, r.EndToEnd, diff, r.Steps)
			}
			if got := b.Stats().Received; got != 4 {
				t.Errorf("%d messages, want one for each lane", got)
			}
		})
	}
}

func TestReceiver(t *testing.T) {
	for name, tc := range map[string]struct {
		acks  []string
		state linkcheck.State
		text  string
		hint  string
	}{
		"answers":                {[]string{ackOf("hub", 0)}, linkcheck.OK, "hub answers", ""},
		"after a word to others": {[]string{ackOf("hub", 7), ackOf("hub", 0)}, linkcheck.OK, "hub answers", ""},
		"silent":                 {nil, linkcheck.Failed, `no answer of "hub"`, "destinations[].receiver"},
		"to the agent only":      {[]string{ackOf("hub", 7)}, linkcheck.Failed, `no answer of "hub"`, "destinations[].receiver"},
		"another name":           {[]string{ackOf("warehouse", 0)}, linkcheck.Failed, `"warehouse" answers, not "hub"`, "destinations[].receiver: warehouse"},
		"nonsense":               {[]string{"thank you"}, linkcheck.Failed, "not an acknowledgement", "destinations[].receiver"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := runBroker(t, broker.Options{})
			answer(t, b.URL(), tc.acks...)
			d := oneLink(b.URL())
			d.Receiver = "hub"
			o := brief
			if tc.state == linkcheck.OK {
				o = patient
			}
			r := check(t, target(d), o)
			last := r.Steps[len(r.Steps)-1]
			if last.Name != linkcheck.StepReceiver || last.State != tc.state || !strings.Contains(last.Text, tc.text) || !strings.Contains(last.Hint, tc.hint) {
				t.Errorf("%+v", last)
			}
			if r.State != tc.state || r.EndToEnd != (tc.state == linkcheck.OK) {
				t.Errorf("%s, end to end %t", r.State, r.EndToEnd)
			}
		})
	}
}

// Each way in which a link can be broken: the step that is to blame, and what to do.
func TestFailures(t *testing.T) {
	a := newAuthority(t)
	other := newAuthority(t)
	good := runBroker(t, broker.Options{Users: map[string]string{"gw": "secret"}})
	_, at, _ := strings.Cut(good.URL(), "://")
	fronts := map[string]string{
		"good":    a.front(t, at, a.issue(t, "good", "localhost", time.Hour)),
		"expired": a.front(t, at, a.issue(t, "expired", "localhost", -time.Hour)),
		"named":   a.front(t, at, a.issue(t, "named", "elsewhere.example", time.Hour)),
	}
	secure := func(front string) uplink.LinkConfig {
		return uplink.LinkConfig{URL: "mqtts://localhost:" + fronts[front], TLS: uplink.TLSConfig{CA: a.path("ca.pem")}}
	}
	for name, tc := range map[string]struct {
		link uplink.LinkConfig
		opts func(*linkcheck.Options)
		step string
		text string
		hint string
	}{
		"wrong name": {
			uplink.LinkConfig{URL: "mqtt://broker.invalid:1883"},
			func(o *linkcheck.Options) {
				o.Resolve = func(context.Context, string) ([]string, error) {
					return nil, &net.DNSError{Err: "no such host", Name: "broker.invalid", IsNotFound: true}
				}
			},
			linkcheck.StepDNS, "no such host", "destinations[].links[].url",
		},
		"refused port": {uplink.LinkConfig{URL: "mqtt://" + closedPort(t)}, nil, linkcheck.StepTCP, "refused", "nothing listens on port"},
		"black hole": {
			uplink.LinkConfig{URL: "mqtt://192.0.2.1"},
			func(o *linkcheck.Options) {
				o.Timeout = 5 * time.Second
				o.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
			},
			linkcheck.StepTCP, "ran out of time", "firewall",
		},
		"no answer to the login": {
			uplink.LinkConfig{URL: "mqtt://192.0.2.1"},
			func(o *linkcheck.Options) { o.Timeout, o.Dial = 5*time.Second, silent },
			linkcheck.StepLogin, "ran out of time", "names an MQTT port",
		},
		"expired certificate": {secure("expired"), nil, linkcheck.StepTLS, "was valid from", "renew the broker's certificate"},
		"clock in the past": {
			secure("good"), func(o *linkcheck.Options) { o.Now = func() time.Time { return time.Unix(0, 0) } },
			linkcheck.StepTLS, "was valid from", "clock of this machine",
		},
		"wrong authority": {
			uplink.LinkConfig{URL: "mqtts://localhost:" + fronts["good"], TLS: uplink.TLSConfig{CA: other.path("ca.pem")}},
			nil,
			linkcheck.StepTLS, "unknown authority", "destinations[].links[].tls.ca",
		},
		"wrong name in the certificate": {secure("named"), nil, linkcheck.StepTLS, "elsewhere.example", "destinations[].links[].tls.server_name"},
		"wrong pin": {
			func() uplink.LinkConfig {
				l := secure("good")
				l.TLS.Pins = []string{"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
				return l
			}(), nil,
			linkcheck.StepTLS, "is not pinned", "destinations[].links[].tls.pins",
		},
		"no TLS there": {
			uplink.LinkConfig{URL: "mqtts://" + at, TLS: uplink.TLSConfig{CA: a.path("ca.pem")}},
			nil,
			linkcheck.StepTLS, "", "mqtt://",
		},
		"bad password": {
			uplink.LinkConfig{URL: good.URL(), Username: "gw", Password: edgeagent.NewSecret("wrong")},
			nil,
			linkcheck.StepLogin, "refused", "username and password",
		},
		"no proxy": {
			uplink.LinkConfig{URL: good.URL(), Proxy: uplink.ProxyConfig{URL: "http://" + closedPort(t)}},
			nil,
			linkcheck.StepTCP, "refused", "",
		},
		"proxy that is none": {
			uplink.LinkConfig{URL: "mqtt://192.0.2.1", Proxy: uplink.ProxyConfig{URL: "http://192.0.2.2:3128"}},
			func(o *linkcheck.Options) { o.Timeout, o.Dial = 5*time.Second, silent },
			linkcheck.StepProxy, "", "destinations[].links[].proxy.url",
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := patient
			if tc.opts != nil {
				tc.opts(&o)
			}
			var r linkcheck.Result
			try := func(t *testing.T) { r = check(t, target(uplink.Config{Links: []uplink.LinkConfig{tc.link}}), o) }
			if o.Dial != nil { // what takes all the time there is, takes virtual time
				synctest.Test(t, try)
			} else {
				try(t)
			}
			i := slices.IndexFunc(r.Steps, func(s linkcheck.Step) bool { return s.State != linkcheck.OK })
			if r.State != linkcheck.Failed || i < 0 {
				t.Fatalf("%s: %s", r.State, states(r))
			}
			got := r.Steps[i]
			if got.Name != tc.step || got.State != linkcheck.Failed || !strings.Contains(got.Text, tc.text) || got.Hint == "" || !strings.Contains(got.Hint, tc.hint) {
				t.Errorf("%+v", got)
			}
			for _, s := range r.Steps[i+1:] {
				if s.State != linkcheck.Skipped {
					t.Errorf("%s is %s after a failure", s.Name, s.State)
				}
			}
		})
	}
}

func TestSoonExpired(t *testing.T) {
	a := newAuthority(t)
	b := runBroker(t, broker.Options{})
	_, at, _ := strings.Cut(b.URL(), "://")
	port := a.front(t, at, a.issue(t, "good", "localhost", time.Hour))
	d := uplink.Config{Links: []uplink.LinkConfig{{URL: "mqtts://localhost:" + port, TLS: uplink.TLSConfig{CA: a.path("ca.pem")}}}}
	r := check(t, target(d), patient)
	if diff := cmp.Diff("dns ok, tcp ok, tls warning, login ok, publish ok, ack ok", states(r)); diff != "" || r.State != linkcheck.Warning {
		t.Errorf("%s\n%s", r.State, diff)
	}
}

// A topic that is forbidden: the broker hangs up after its acknowledgement, or says so
// in it.
func TestForbiddenTopic(t *testing.T) {
	d := oneLink("mqtt://" + scripted(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		for n := range byte(5) {
			if readPacket(in) != nil {
				return
			}
			reply := []byte{0x40, 2, 0, n} // a PUBACK: the library counts from 1
			if n == 0 {
				reply = []byte{0x20, 2, 0, 0}
			}
			_, _ = c.Write(reply)
		}
	}))
	r := check(t, target(d), patient)
	if diff := cmp.Diff("tcp ok, login ok, publish ok, ack failed", states(r)); diff != "" {
		t.Errorf("%s\n%+v", diff, r.Steps)
	}
	if got := r.Steps[3].Hint; !strings.Contains(got, "access list") {
		t.Errorf("hint %q", got)
	}
}

func TestBrokerNeverAcknowledges(t *testing.T) {
	b := runBroker(t, broker.Options{})
	b.WithholdAcks(true)
	o := patient
	o.Answer = 100 * time.Millisecond
	r := check(t, target(oneLink(b.URL())), o)
	if diff := cmp.Diff("tcp ok, login ok, publish ok, ack failed", states(r)); diff != "" {
		t.Errorf("%s\n%+v", diff, r.Steps)
	}
}

// The agent's own session goes on beside a check, and ends only when the check is told
// to use its id.
func TestRunningAgentIsLeftAlone(t *testing.T) {
	b := runBroker(t, broker.Options{})
	agent, err := mqtt.New(uplink.LinkConfig{URL: b.URL()}, mqtt.Options{Device: "gw"})
	if err != nil {
		t.Fatal(err)
	}
	up, over := make(chan struct{}), make(chan error, 1)
	background(t, func(ctx context.Context) error {
		err := agent.Session(ctx, deaf{}, func(context.Context, uplink.Session) { close(up) })
		over <- err
		return err
	})
	<-up
	if r := check(t, target(oneLink(b.URL())), patient); r.State != linkcheck.OK || r.ClientID != "edgeagent-default-gw-check" {
		t.Fatalf("%s as %s", states(r), r.ClientID)
	}
	select {
	case err := <-over:
		t.Fatalf("the agent's session ended: %v", err)
	default:
	}
	o := patient
	o.ClientID = "edgeagent-default-gw"
	if r := check(t, target(oneLink(b.URL())), o); r.State != linkcheck.OK {
		t.Fatal(states(r))
	}
	if err := <-over; err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("the session ended with %v", err)
	}
}

type deaf struct{}

func (deaf) Up(uplink.Caps)       {}
func (deaf) Result(uplink.Result) {}
func (deaf) Ack([]byte)           {}

func Example() {
	b := broker.New(broker.Options{})
	if err := b.Listen(); err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.Run(ctx) })
	defer wg.Wait()
	defer stop()

	d := uplink.Config{Name: "cloud", Links: []uplink.LinkConfig{{URL: b.URL()}}}.WithDefaults()
	r, err := linkcheck.Check(ctx, linkcheck.Target{Tenant: "default", Device: "gw", Destination: d, Link: d.Links[0]}, linkcheck.Options{})
	if err != nil {
		panic(err)
	}
	for _, s := range r.Steps {
		fmt.Println(s.Name, s.State)
	}
	// Output:
	// tcp ok
	// login ok
	// publish ok
	// ack ok
}

// closedPort returns an address at which nobody listens, nor will: the port belongs to
// a connection.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.LocalAddr().String()
}

// silent connects to somebody who listens and says nothing.
func silent(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, far) }()
	return near, nil
}

// scripted accepts connections and ends each when f returns.
func scripted(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, f)
	return l.Addr().String()
}

func serve(t *testing.T, l net.Listener, f func(net.Conn)) {
	t.Helper()
	background(t, func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = l.Close() })
		defer stop()
		var wg sync.WaitGroup
		defer wg.Wait()
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			end := context.AfterFunc(ctx, func() { _ = c.Close() })
			wg.Go(func() {
				defer end()
				defer c.Close()
				f(c)
			})
		}
	})
}

// readPacket skips an MQTT packet that is shorter than 16 KiB.
func readPacket(in *bufio.Reader) error {
	if _, err := in.ReadByte(); err != nil {
		return err
	}
	n := 0
	for shift := 0; ; shift += 7 {
		b, err := in.ReadByte()
		if err != nil {
			return err
		}
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
	}
	_, err := in.Discard(n)
	return err
}

// front puts TLS in front of the broker at backend and returns its port.
func (a *authority) front(t *testing.T, backend string, pair tls.Certificate) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, func(raw net.Conn) {
		c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{pair}})
		to, err := net.Dial("tcp", backend)
		if err != nil || c.Handshake() != nil {
			return
		}
		defer to.Close()
		var wg sync.WaitGroup
		wg.Go(func() { pipe(to, c) })
		wg.Go(func() { pipe(c, to) })
		wg.Wait()
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(a.path(name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}
