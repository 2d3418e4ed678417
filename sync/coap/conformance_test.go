package coap_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/coap"
	"github.com/edgeagent/edgeagent/sync/transporttest"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// TestConformance holds every kind of link against what the engine relies on, with our
// own receiver at the far end.
func TestConformance(t *testing.T) {
	for _, scheme := range []string{"coap", "coaps with a key", "coaps with certificates", "coap+tcp", "coaps+tcp"} {
		t.Run(scheme, func(t *testing.T) {
			transporttest.Run(t, func(t *testing.T) transporttest.Link { return openFar(t, scheme).link(t) })
		})
	}
}

// far is a receiver on loopback that can be cut off, and what it has received.
type far struct {
	t      *testing.T
	scheme string
	certs  *certificates

	mu       sync.Mutex
	addr     string
	arrived  []transporttest.Arrival
	withhold bool
	refuse   bool
	receiver *coap.Receiver
	stop     func()
}

func openFar(t *testing.T, scheme string) *far {
	f := &far{t: t, scheme: scheme, addr: "127.0.0.1:0", certs: newCertificates(t)}
	f.start()
	t.Cleanup(f.cut)
	return f
}

// start listens at the address of before.
func (f *far) start() {
	l, err := f.listen()
	if err != nil {
		f.t.Fatal(err)
	}
	r, err := coap.NewReceiver(coap.ReceiverConfig{Listeners: []coap.Listener{l}, Authorize: f.authorize})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx, f.take); err != nil {
			f.t.Error(err)
		}
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.receiver, f.stop = r, func() { cancel(); wg.Wait() }
}

func (f *far) listen() (coap.Listener, error) {
	if strings.Contains(f.scheme, "tcp") {
		ln, err := net.Listen("tcp", f.addr)
		if err != nil {
			return coap.Listener{}, err
		}
		f.addr = ln.Addr().String()
		if f.scheme == "coap+tcp" {
			return coap.ServeTCP(ln, nil), nil
		}
		return coap.ServeTCP(ln, &tls.Config{
			Certificates: []tls.Certificate{f.certs.server}, ClientCAs: f.certs.pool, ClientAuth: tls.RequireAndVerifyClientCert,
			NextProtos: []string{"coap"}, MinVersion: tls.VersionTLS13,
		}), nil
	}
	pc, err := net.ListenPacket("udp", f.addr)
	if err != nil {
		return coap.Listener{}, err
	}
	f.addr = pc.LocalAddr().String()
	switch f.scheme {
	case "coaps with a key":
		return coap.ServeDTLS(pc, coap.DTLSConfig{PSK: psk})
	case "coaps with certificates":
		return coap.ServeDTLS(pc, coap.DTLSConfig{Certificates: []tls.Certificate{f.certs.server}, ClientCAs: f.certs.pool})
	}
	return coap.ServeUDP(pc), nil
}

// psk knows one device.
func psk(identity string) []byte {
	if identity == "gw-7" {
		return []byte("secret")
	}
	return nil
}

func (f *far) authorize(identity, tenant, device string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	proves := strings.HasPrefix(f.scheme, "coaps")
	return !f.refuse && (identity == device || !proves)
}

func (f *far) take(d coap.Delivery) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lane := d.Topic[strings.LastIndexByte(d.Topic, '/')+1:]
	for l := range uplink.Lane(4) {
		if l.String() == lane {
			f.arrived = append(f.arrived, transporttest.Arrival{Lane: l, Payload: string(d.Payload)})
		}
	}
	if !f.withhold {
		go d.Ack()
	}
}

func (f *far) cut() {
	f.mu.Lock()
	stop := f.stop
	f.mu.Unlock()
	stop()
}

func (f *far) url() string { return strings.Fields(f.scheme)[0] + "://" + f.addr }

// config is how the agent reaches it.
func (f *far) config(t *testing.T) uplink.LinkConfig {
	cfg := uplink.LinkConfig{URL: f.url()}
	switch f.scheme {
	case "coaps with a key":
		cfg.Username, cfg.Password = "gw-7", secret(t, "secret")
	case "coaps with certificates", "coaps+tcp":
		cfg.TLS = uplink.TLSConfig{CA: f.certs.file("ca.pem"), Cert: f.certs.file("client.pem"), Key: f.certs.file("client.key")}
	}
	return cfg
}

func (f *far) link(t *testing.T) transporttest.Link {
	tr, err := coap.New(f.config(t), coap.Options{Device: "gw-7", Acks: true})
	if err != nil {
		t.Fatal(err)
	}
	set := func(what *bool, to bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		*what = to
	}
	return transporttest.Link{
		Transport: tr,
		Arrived: func() []transporttest.Arrival {
			f.mu.Lock()
			defer f.mu.Unlock()
			return append([]transporttest.Arrival(nil), f.arrived...)
		},
		Ack: func(b []byte) {
			f.mu.Lock()
			r := f.receiver
			f.mu.Unlock()
			if err := r.Publish(context.Background(), "ea/v1/default/gw-7/ack", b); err != nil {
				t.Error(err)
			}
		},
		Cut:      f.cut,
		Restore:  f.start,
		Refuse:   func(r bool) { set(&f.refuse, r) },
		Withhold: func() { set(&f.withhold, true) },
	}
}

func secret(t *testing.T, value string) (s edgeagent.Secret) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.UnmarshalText([]byte("file:" + path)); err != nil {
		t.Fatal(err)
	}
	if err := s.Resolve("/"); err != nil {
		t.Fatal(err)
	}
	return s
}

// certificates are an authority, a server and the client gw-7.
type certificates struct {
	dir    string
	pool   *x509.CertPool
	server tls.Certificate
}

func (c *certificates) file(name string) string { return filepath.Join(c.dir, name) }

func newCertificates(t *testing.T) *certificates {
	t.Helper()
	c := &certificates{dir: t.TempDir(), pool: x509.NewCertPool()}
	caKey, ca := issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	c.pool.AddCert(ca)
	c.write(t, "ca.pem", "CERTIFICATE", ca.Raw)
	serverKey, server := issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "hub"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, caKey)
	c.server = tls.Certificate{Certificate: [][]byte{server.Raw}, PrivateKey: serverKey}
	clientKey, client := issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "gw-7"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca, caKey)
	c.write(t, "client.pem", "CERTIFICATE", client.Raw)
	der, err := x509.MarshalPKCS8PrivateKey(clientKey)
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, "client.key", "PRIVATE KEY", der)
	return c
}

func (c *certificates) write(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(c.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func issue(t *testing.T, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}
