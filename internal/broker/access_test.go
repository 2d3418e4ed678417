package broker_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/edgeagent/edgeagent/internal/broker"
)

// client speaks MQTT by hand.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func newClient(t testing.TB, c net.Conn) *client {
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) send(encode func(*bytes.Buffer) error) {
	c.t.Helper()
	var buf bytes.Buffer
	if err := encode(&buf); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.Write(buf.Bytes()); err != nil {
		c.t.Fatal(err)
	}
}

// answer returns the type of the next packet and what follows its length; 0 if the
// broker has hung up.
func (c *client) answer() (kind byte, rest []byte) {
	c.t.Helper()
	head := make([]byte, 2) // every packet of these tests is short
	if _, err := io.ReadFull(c.r, head); err != nil {
		return 0, nil
	}
	rest = make([]byte, head[1])
	if _, err := io.ReadFull(c.r, rest); err != nil {
		return 0, nil
	}
	return head[0] >> 4, rest
}

// connect returns the code of the CONNACK, 255 if there was none.
func (c *client) connect(id, user, password, will string) byte {
	c.t.Helper()
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4,
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), Keepalive: 30, ClientIdentifier: id,
			UsernameFlag: user != "", Username: []byte(user), PasswordFlag: password != "", Password: []byte(password),
			WillFlag: will != "", WillTopic: will, WillPayload: []byte("gone"),
		},
	}
	c.send(pk.ConnectEncode)
	kind, rest := c.answer()
	if kind != packets.Connack {
		return 255
	}
	return rest[1]
}

// subscribe returns the code of the SUBACK.
func (c *client) subscribe(filter string) byte {
	c.t.Helper()
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, ProtocolVersion: 4, PacketID: 1,
		Filters: packets.Subscriptions{{Filter: filter, Qos: 1}},
	}
	c.send(pk.SubscribeEncode)
	kind, rest := c.answer()
	if kind != packets.Suback {
		c.t.Fatalf("answer to SUBSCRIBE: type %d", kind)
	}
	return rest[2]
}

func (c *client) publish(topic string) {
	c.t.Helper()
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish}, ProtocolVersion: 4, TopicName: topic, Payload: []byte("x"),
	}
	c.send(pk.PublishEncode)
}

// ownTree lets each user use what begins with its name.
func ownTree(user, topic string, _ bool) bool { return strings.HasPrefix(topic, user+"/") }

func dial(t testing.TB, b *broker.Broker) *client {
	t.Helper()
	c, err := net.Dial("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, c)
}

func inside(t testing.TB, b *broker.Broker) *client {
	t.Helper()
	c, err := b.Dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, c)
}

// TestUsersKeepToTheirTopics: publish, subscribe, will, session.
func TestUsersKeepToTheirTopics(t *testing.T) {
	b, _ := start(t, broker.Options{Users: map[string]string{"a": "1", "b": "2"}, Allow: ownTree})
	hub := inside(t, b)
	if code := hub.connect("hub", "", "", ""); code != 0 {
		t.Fatalf("the program itself is refused: %d", code)
	}
	if code := hub.subscribe("#"); code > 2 {
		t.Fatalf("the program itself may not subscribe: %d", code)
	}
	a := dial(t, b)
	if code := a.connect("one", "a", "1", "a/will"); code != 0 {
		t.Fatalf("a is refused: %d", code)
	}
	if code := a.subscribe("b/#"); code < 0x80 {
		t.Errorf("a may read what is b's: %d", code)
	}
	if code := a.subscribe("#"); code < 0x80 {
		t.Errorf("a may read everything: %d", code)
	}
	if code := a.subscribe("a/#"); code > 2 {
		t.Errorf("a may not read its own: %d", code)
	}
	a.publish("b/x")
	a = dial(t, b) // the broker may hang up on who does what is not allowed
	if code := a.connect("one", "a", "1", ""); code != 0 {
		t.Fatalf("a is refused: %d", code)
	}
	a.publish("a/x")
	if kind, rest := hub.answer(); kind != packets.Publish || !bytes.Contains(rest, []byte("a/")) {
		t.Errorf("got type %d %q, want what a published in its own tree", kind, rest)
	}
	if code := dial(t, b).connect("two", "b", "2", "a/will"); code == 0 {
		t.Error("b may leave a will in a's tree")
	}
	for _, id := range []string{"one", "hub"} {
		if code := dial(t, b).connect(id, "b", "2", ""); code == 0 {
			t.Errorf("b may take over the session %q", id)
		}
	}
	if code := dial(t, b).connect("three", "b", "1", ""); code == 0 {
		t.Error("b may log in with a's password")
	}
}

// TestClientIDsAreBounded: a user that comes under ever new client ids is stopped, and
// stops nobody else.
func TestClientIDsAreBounded(t *testing.T) {
	b, _ := start(t, broker.Options{Users: map[string]string{"a": "1", "b": "2"}, Allow: ownTree})
	accepted := 0
	for i := range 100 {
		if dial(t, b).connect(fmt.Sprint("id", i), "a", "1", "") == 0 {
			accepted++
		}
	}
	if accepted != 64 {
		t.Errorf("%d client ids of one user, want 64", accepted)
	}
	if code := dial(t, b).connect("other", "b", "2", ""); code != 0 {
		t.Errorf("another user is refused: %d", code)
	}
	if code := dial(t, b).connect("id0", "a", "1", ""); code != 0 {
		t.Errorf("a known client id is refused: %d", code)
	}
}

// TestDialAfterTheEnd: nobody waits for a broker that is gone.
func TestDialAfterTheEnd(t *testing.T) {
	b, stop := start(t, broker.Options{})
	stop()
	if c, err := b.Dial(t.Context(), "", ""); err == nil {
		c.Close()
		t.Error("a broker that has ended answers")
	}
}

// TestCertificates: the name in a client's certificate is who it is.
func TestCertificates(t *testing.T) {
	pool := x509.NewCertPool()
	server, gw := certificate(t, pool, "localhost"), certificate(t, pool, "gw-1")
	stranger := certificate(t, x509.NewCertPool(), "gw-1")
	b, _ := start(t, broker.Options{
		TLS:   &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool},
		Users: map[string]string{"x": "1"}, Allow: ownTree,
	})
	if !strings.HasPrefix(b.URL(), "mqtts://") {
		t.Errorf("URL %s", b.URL())
	}
	secure := func(certs ...tls.Certificate) *client {
		raw, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		return newClient(t, tls.Client(raw, &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: certs}))
	}
	c := secure(gw)
	if code := c.connect("gw", "x", "wrong", ""); code != 0 {
		t.Fatalf("gw-1 is refused: %d", code)
	}
	if code := c.subscribe("gw-1/#"); code > 2 {
		t.Errorf("gw-1 may not read its own: %d", code)
	}
	if code := c.subscribe("x/#"); code < 0x80 {
		t.Errorf("gw-1 is who it says and not who it is: %d", code)
	}
	if code := secure().connect("none", "", "", ""); code == 0 {
		t.Error("without certificate and password")
	}
	if c := secure(stranger); c.Conn.(*tls.Conn).Handshake() == nil {
		var one [1]byte
		if _, err := c.Read(one[:]); err == nil {
			t.Error("a certificate of another authority is taken")
		}
	}
}

// certificate makes a certificate that vouches for itself, and puts it into pool.
func certificate(t testing.TB, pool *x509.CertPool, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
