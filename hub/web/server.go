package web

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"github.com/edgeagent/edgeagent"
)

// Bounds of a server.
const (
	MaxConns    = 64
	MaxRequests = 16
	MaxRows     = 5_000_000 // read for one request

	queueTimeout   = time.Second
	answerTimeout  = 10 * time.Second
	requestTimeout = 60 * time.Second
	closeTimeout   = 2 * time.Second
	maxBody        = 4 << 10
)

// Options are what a server needs. Source is required.
type Options struct {
	Source Source
	Store  Store // nil: readings cannot be asked for
	Logger *slog.Logger
}

// Server answers questions about a running hub. Create one with [New].
type Server struct {
	cfg   Config
	opts  Options
	log   *slog.Logger
	tls   *tls.Config
	slots chan struct{} // holds a token per request in work
	count counters
	rates *rates

	listening func(socket, address string)
}

// New checks cfg and reads its certificates; it opens nothing.
func New(cfg Config, o Options) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	conf, err := cfg.TLS.Server()
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	return &Server{
		cfg: cfg, opts: o, log: o.Logger, tls: conf,
		slots: make(chan struct{}, MaxRequests), rates: newRates(),
	}, nil
}

// OnListening has f called once, when all listeners of Run are open, with the path of
// the socket and the address, "" where there is none. Call it before Run.
func (s *Server) OnListening(f func(socket, address string)) { s.listening = f }

// Server returns what secures a listener, nil if there are no certificates.
func (t TLS) Server() (*tls.Config, error) {
	if t.Cert == "" {
		return nil, nil //nolint:nilnil // no TLS
	}
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("read certificate: %w", err), `"tls.cert" and "tls.key" are PEM files that belong together`)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if t.ClientCA == "" {
		return out, nil
	}
	pem, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("read authorities of clients: %w", err)
	}
	out.ClientAuth, out.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !out.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, edgeagent.WithHint(fmt.Errorf("no certificate in %s", t.ClientCA), `"tls.client_ca" is a PEM file`)
	}
	return out, nil
}

// Run opens the socket and the listener and answers until ctx ends; requests in work
// then have two seconds. It returns nil after an orderly end.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if s.cfg.Socket != "" {
		l, err := listenSocket(ctx, s.cfg.Socket)
		if err != nil {
			return err
		}
		s.serve(ctx, g, l, s.Handler())
	}
	address := ""
	if s.cfg.Listen != "" && s.cfg.Listen != Off {
		l, err := s.listen(ctx)
		if err != nil {
			return errors.Join(err, stop(g))
		}
		address = l.Addr().String()
		s.serve(ctx, g, l, s.guarded(s.Handler()))
	}
	g.Go(func() error { s.rates.run(ctx, s.opts.Source); return nil })
	s.log.Info("page and api are up", "socket", s.cfg.Socket, "listen", address)
	if s.listening != nil {
		s.listening(s.cfg.Socket, address)
	}
	return g.Wait()
}

// stop ends a group that has only just begun.
func stop(g *errgroup.Group) error {
	g.Go(func() error { return context.Canceled })
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (s *Server) listen(ctx context.Context) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("listen for http: %w", err), `set "http.listen" or --listen to a free address`)
	}
	host, _, _ := net.SplitHostPort(s.cfg.Listen)
	if tcp, ok := l.Addr().(*net.TCPAddr); isLoopback(host) && (!ok || !tcp.IP.IsLoopback()) {
		return nil, errors.Join(fmt.Errorf("%s is not a loopback address", l.Addr()), l.Close())
	}
	if s.tls != nil {
		return tls.NewListener(l, s.tls), nil
	}
	return l, nil
}

// serve answers on l until ctx ends.
func (s *Server) serve(ctx context.Context, g *errgroup.Group, l net.Listener, h http.Handler) {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	g.Go(func() error {
		if err := srv.Serve(netutil.LimitListener(l, MaxConns)); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve http: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if err := srv.Shutdown(end); err != nil {
			return srv.Close() // whoever still reads has had its time
		}
		return nil
	})
}

// Handler returns what is served on the socket.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.servePage)
	mux.HandleFunc("GET /v1/status", s.serveStatus)
	mux.HandleFunc("GET /v1/devices", s.serveDevices)
	mux.HandleFunc("GET /v1/gaps", s.serveGaps)
	mux.HandleFunc("GET /v1/series", s.serveSeries)
	mux.HandleFunc("GET /v1/query", s.serveQuery)
	mux.HandleFunc("GET /v1/chart", s.serveChart)
	mux.HandleFunc("POST /v1/replay", s.serveReplay)
	mux.HandleFunc("GET /v1/health", s.serveHealth)
	mux.HandleFunc("GET /metrics", s.serveMetrics)
	h := http.NewCrossOriginProtection().Handler(mux)
	return http.MaxBytesHandler(s.bounded(secured(h)), maxBody)
}

// secured says what browsers may do with an answer: nothing but show it.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// bounded lets MaxRequests through at a time.
func (s *Server) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.count.requests.Add(1)
		wait := time.NewTimer(queueTimeout)
		defer wait.Stop()
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		case <-wait.C:
			s.count.rejected.Add(1)
			w.Header().Set("Retry-After", "1")
			http.Error(w, "busy", http.StatusServiceUnavailable)
		}
	})
}

// guarded refuses strangers on the listener. With client certificates TLS has done so.
// Without a token only loopback names are answered: a page from elsewhere whose name
// was made to point at this machine comes with that name.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !s.cfg.Token.IsZero():
			if !s.knows(r) {
				s.count.denied.Add(1)
				w.Header().Set("WWW-Authenticate", `Basic realm="edgehub", charset="UTF-8"`)
				http.Error(w, "show the token as a bearer token or as a password", http.StatusUnauthorized)
				return
			}
		case s.cfg.TLS.ClientCA == "" && !isLoopback(hostOf(r)):
			http.Error(w, "ask by 127.0.0.1, [::1] or localhost", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// knows reports whether r bears the token.
func (s *Server) knows(r *http.Request) bool {
	shown := ""
	if _, password, ok := r.BasicAuth(); ok {
		shown = password
	} else if auth := r.Header.Get("Authorization"); len(auth) > 7 && (auth[:7] == "Bearer " || auth[:7] == "bearer ") {
		shown = auth[7:]
	}
	want := s.cfg.Token.Reveal()
	return want != "" && subtle.ConstantTimeCompare([]byte(shown), []byte(want)) == 1
}

func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	return host
}
