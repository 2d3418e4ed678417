package mqtt_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// authority makes certificates that are valid for a day around now.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key = a.issue(t, "ca", template, nil, nil)
	return a
}

// issue writes name.pem and name.key.
func (a *authority) issue(t *testing.T, name string, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der},
		name + ".key": {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// leaf issues a certificate for localhost and clients.
func (a *authority) leaf(t *testing.T, name string) (cert *x509.Certificate, pair tls.Certificate) {
	t.Helper()
	cert, _ = a.issue(t, name, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, a.key)
	pair, err := tls.LoadX509KeyPair(filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return cert, pair
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func pinOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return "sha256/" + base64.StdEncoding.EncodeToString(sum[:])
}

// front accepts connections in front of the broker, as accept makes them, and
// returns its port.
func front(t *testing.T, brokerURL string, accept func(net.Conn) (net.Conn, string, error)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	backend := strings.TrimPrefix(strings.TrimPrefix(brokerURL, "tcp://"), "mqtt://")
	background(t, func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
		defer stop()
		var wg sync.WaitGroup
		defer wg.Wait()
		for {
			raw, err := ln.Accept()
			if err != nil {
				return ctx.Err()
			}
			wg.Go(func() {
				end := context.AfterFunc(ctx, func() { _ = raw.Close() })
				defer end()
				defer raw.Close()
				c, to, err := accept(raw)
				if err != nil {
					return
				}
				if to == "" {
					to = backend
				}
				splice(c, to)
			})
		}
	})
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func splice(c net.Conn, addr string) {
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, server}, {server, c}} {
		wg.Go(func() {
			_, _ = io.Copy(way[1], way[0])
			_, _ = c.Close(), server.Close()
		})
	}
	wg.Wait()
}

func terminateTLS(cfg *tls.Config) func(net.Conn) (net.Conn, string, error) {
	return func(raw net.Conn) (net.Conn, string, error) {
		c := tls.Server(raw, cfg)
		return c, "", c.Handshake()
	}
}

// oneMessage sends a message over a link and returns how the session ended.
func oneMessage(t *testing.T, cfg uplink.LinkConfig, o mqtt.Options) error {
	t.Helper()
	o.Device = "gw"
	tr, err := mqtt.New(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	h := &oneResult{done: cancel}
	err = tr.Session(ctx, h, func(ctx context.Context, s uplink.Session) {
		_ = s.Send(ctx, uplink.Message{ID: 1, Lane: uplink.LaneLive, Payload: make([]byte, 30_000)})
	})
	if h.accepted && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

type oneResult struct {
	done     context.CancelFunc
	accepted bool
}

func (*oneResult) Up(uplink.Caps) {}
func (*oneResult) Ack([]byte)     {}
func (h *oneResult) Result(r uplink.Result) {
	h.accepted = r.Class == uplink.Accepted
	h.done()
}

func TestTLS(t *testing.T) {
	b, _ := startBroker(t, broker.Options{})
	ca, other := newAuthority(t), newAuthority(t)
	cert, pair := ca.leaf(t, "server")
	ca.leaf(t, "gateway")
	other.leaf(t, "gateway")
	plain := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"mqtt"}}
	mutual := plain.Clone()
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool()
	old := plain.Clone()
	old.MaxVersion = tls.VersionTLS12

	mqtts := front(t, b.URL(), terminateTLS(plain))
	with := func(port string, c uplink.TLSConfig) uplink.LinkConfig {
		return uplink.LinkConfig{URL: "mqtts://localhost:" + port, TLS: c}
	}
	for _, c := range []struct {
		name string
		link uplink.LinkConfig
		o    mqtt.Options
		want string // part of the error, "" for none
		hint string
	}{
		{"trusted", with(mqtts, uplink.TLSConfig{CA: "ca.pem"}), mqtt.Options{}, "", ""},
		{"pinned and ALPN", with(mqtts, uplink.TLSConfig{CA: "ca.pem", Pins: []string{pinOf(other.cert), pinOf(cert)}, ALPN: []string{"mqtt"}}), mqtt.Options{}, "", ""},
		{"not pinned", with(mqtts, uplink.TLSConfig{CA: "ca.pem", Pins: []string{pinOf(other.cert)}}), mqtt.Options{}, pinOf(cert) + " is not pinned", "tls.pins"},
		{"unknown authority", with(mqtts, uplink.TLSConfig{CA: filepath.Join(other.dir, "ca.pem")}), mqtt.Options{}, "unknown authority", "tls.ca"},
		{"another name", with(mqtts, uplink.TLSConfig{CA: "ca.pem", ServerName: "cloud.example"}), mqtt.Options{}, "cloud.example", "server_name"},
		{"a clock of 1970", with(mqtts, uplink.TLSConfig{CA: "ca.pem"}), mqtt.Options{Now: func() time.Time { return time.Unix(0, 0) }}, "not yet valid", "the clock"},
		{"no such file", with(mqtts, uplink.TLSConfig{CA: "nowhere.pem"}), mqtt.Options{}, "nowhere.pem", "tls.ca"},
		{"a file of something else", with(mqtts, uplink.TLSConfig{CA: "ca.key"}), mqtt.Options{}, "no certificate in", "PEM"},
		{"a plain port", with(strings.TrimPrefix(b.URL()[strings.LastIndex(b.URL(), ":"):], ":"), uplink.TLSConfig{CA: "ca.pem"}), mqtt.Options{}, "secure the connection", "tls"},
		{"client certificate", with(front(t, b.URL(), terminateTLS(mutual)), uplink.TLSConfig{CA: "ca.pem", Cert: "gateway.pem", Key: "gateway.key"}), mqtt.Options{}, "", ""},
		{"TLS 1.2 refused", with(front(t, b.URL(), terminateTLS(old)), uplink.TLSConfig{CA: "ca.pem"}), mqtt.Options{}, "protocol version", "min_version"},
		{"TLS 1.2 allowed", with(front(t, b.URL(), terminateTLS(old)), uplink.TLSConfig{CA: "ca.pem", MinVersion: "1.2"}), mqtt.Options{}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Dir = ca.dir
			checkError(t, oneMessage(t, c.link, c.o), c.want, c.hint)
		})
	}
}

// Under TLS 1.3 a server refuses a client's certificate after the handshake.
func TestTLSClientRefused(t *testing.T) {
	b, _ := startBroker(t, broker.Options{})
	ca, other := newAuthority(t), newAuthority(t)
	_, pair := ca.leaf(t, "server")
	other.leaf(t, "gateway")
	port := front(t, b.URL(), terminateTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(),
	}))
	for name, c := range map[string]uplink.TLSConfig{
		"none": {CA: "ca.pem"},
		"of another authority": {
			CA: "ca.pem", Cert: filepath.Join(other.dir, "gateway.pem"), Key: filepath.Join(other.dir, "gateway.key"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := oneMessage(t, uplink.LinkConfig{URL: "mqtts://localhost:" + port, TLS: c}, mqtt.Options{Dir: ca.dir}); err == nil {
				t.Error("the server took it")
			}
		})
	}
}

func checkError(t *testing.T, err error, want, hint string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("session: %v", err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
	var h interface{ Hint() string }
	if hint != "" && (!errors.As(err, &h) || !strings.Contains(h.Hint(), hint)) {
		t.Errorf("hint of %v does not name %q", err, hint)
	}
}

// webSocketFront serves WebSockets at /mqtt.
func webSocketFront(t *testing.T, brokerURL string, cfg *tls.Config) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	if cfg != nil {
		ln = tls.NewListener(ln, cfg)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/mqtt", func(w http.ResponseWriter, r *http.Request) {
		up := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		server, err := net.Dial("tcp", strings.TrimPrefix(brokerURL, "mqtt://"))
		if err != nil {
			return
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			defer server.Close()
			for {
				kind, msg, err := ws.ReadMessage()
				if err != nil || kind != websocket.BinaryMessage {
					return
				}
				if _, err := server.Write(msg); err != nil {
					return
				}
			}
		})
		buf := make([]byte, 3) // packets must survive being cut anywhere
		for {
			n, err := server.Read(buf)
			if err != nil || ws.WriteMessage(websocket.BinaryMessage, buf[:n]) != nil {
				break
			}
		}
		_ = ws.Close()
		wg.Wait()
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	background(t, func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
		defer stop()
		_ = srv.Serve(ln)
		return nil
	})
	return port
}

func TestWebSocket(t *testing.T) {
	b, _ := startBroker(t, broker.Options{})
	ca := newAuthority(t)
	_, pair := ca.leaf(t, "server")
	brokerURL := "mqtt://" + b.URL()[strings.Index(b.URL(), "://")+3:]
	ws := webSocketFront(t, brokerURL, nil)
	wss := webSocketFront(t, brokerURL, &tls.Config{Certificates: []tls.Certificate{pair}})
	for _, c := range []struct{ name, url, want, hint string }{
		{"ws", "ws://localhost:" + ws, "", ""},
		{"ws with its path", "ws://localhost:" + ws + "/mqtt", "", ""},
		{"wss", "wss://localhost:" + wss + "/mqtt", "", ""},
		{"another path", "ws://localhost:" + ws + "/other", "404", "path"},
	} {
		t.Run(c.name, func(t *testing.T) {
			link := uplink.LinkConfig{URL: c.url}
			if strings.HasPrefix(c.url, "wss") {
				link.TLS.CA = "ca.pem"
			}
			checkError(t, oneMessage(t, link, mqtt.Options{Dir: ca.dir}), c.want, c.hint)
		})
	}
}

// httpProxy understands CONNECT and one login.
func httpProxy(raw net.Conn) (net.Conn, string, error) {
	req, err := http.ReadRequest(bufio.NewReader(raw))
	if err != nil {
		return nil, "", err
	}
	answer := "200 Connection established"
	switch {
	case req.Method != http.MethodConnect:
		answer = "405 Method Not Allowed"
	case req.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("user:pass")):
		answer = "407 Proxy Authentication Required"
	case strings.HasPrefix(req.Host, "forbidden"):
		answer = "403 Forbidden"
	}
	_, err = io.WriteString(raw, "HTTP/1.1 "+answer+"\r\n\r\n")
	if !strings.HasPrefix(answer, "200") {
		err = errors.New(answer)
	}
	return raw, req.Host, err
}

// socksProxy understands as much of SOCKS5 (RFC 1928, 1929) as one client needs.
func socksProxy(raw net.Conn) (net.Conn, string, error) {
	read := func(n int) []byte { b := make([]byte, n); _, _ = io.ReadFull(raw, b); return b }
	read(int(read(2)[1]))
	_, _ = raw.Write([]byte{5, 2}) // a password, please
	user := read(int(read(2)[1]))
	pass := read(int(read(1)[0]))
	if string(user) != "user" || string(pass) != "pass" {
		_, _ = raw.Write([]byte{1, 1})
		return nil, "", errors.New("login")
	}
	_, _ = raw.Write([]byte{1, 0})
	var host string
	switch head := read(4); head[3] {
	case 1:
		host = net.IP(read(4)).String()
	case 3:
		host = string(read(int(read(1)[0])))
	default:
		host = net.IP(read(16)).String()
	}
	port := binary.BigEndian.Uint16(read(2))
	_, err := raw.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	return raw, net.JoinHostPort(host, big.NewInt(int64(port)).String()), err
}

func TestProxies(t *testing.T) {
	b, _ := startBroker(t, broker.Options{})
	ca := newAuthority(t)
	_, pair := ca.leaf(t, "server")
	mqtts := "mqtts://localhost:" + front(t, b.URL(), terminateTLS(&tls.Config{Certificates: []tls.Certificate{pair}}))
	web := "http://127.0.0.1:" + front(t, "", httpProxy)
	socks := "socks5://127.0.0.1:" + front(t, "", socksProxy)
	for _, c := range []struct{ name, server, proxy, password, want, hint string }{
		{"http", b.URL(), web, "pass", "", ""},
		{"http and TLS", mqtts, web, "pass", "", ""},
		{"http, wrong password", b.URL(), web, "other", "wants a login", "proxy.username"},
		{"http, forbidden", "mqtt://forbidden.example", web, "pass", "403", "CONNECT"},
		{"socks5", b.URL(), socks, "pass", "", ""},
		{"socks5 and TLS", mqtts, socks, "pass", "", ""},
		{"socks5, wrong password", b.URL(), socks, "other", "through the proxy", ""},
		{"nobody there", b.URL(), "http://127.0.0.1:1", "pass", "reach the proxy", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			link := uplink.LinkConfig{URL: c.server, Proxy: uplink.ProxyConfig{URL: c.proxy, Username: "user", Password: edgeagent.NewSecret(c.password)}}
			if strings.HasPrefix(c.server, "mqtts") {
				link.TLS.CA = "ca.pem"
			}
			checkError(t, oneMessage(t, link, mqtt.Options{Dir: ca.dir}), c.want, c.hint)
		})
	}
}
