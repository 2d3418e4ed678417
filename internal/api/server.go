package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"github.com/edgeagent/edgeagent"
)

// Bounds of the server.
const (
	// MaxConns is how many connections each listener holds open; more wait in the
	// kernel's queue.
	MaxConns = 64
	// MaxRequests is how many requests are answered at a time; one that waits
	// longer than a second is refused with 503 and counted.
	MaxRequests = 8

	queueTimeout  = time.Second
	statusTimeout = 5 * time.Second
	closeTimeout  = 2 * time.Second
	retryListen   = 30 * time.Second
	maxBody       = 4 << 10 // no request needs a body
)

// Options are what a server needs besides its configuration. The zero value works.
type Options struct {
	Logger *slog.Logger
	// Metrics, if set, adds to the end of /metrics, in Prometheus text.
	Metrics func(w io.Writer)
	// Listening, if set, is called once when all listeners are open, with the
	// path of the socket and the loopback address, "" when there is none.
	Listening func(socket, address string)
}

// Server answers questions about a running agent.
type Server struct {
	cfg    Config
	source Source
	opts   Options
	logger *slog.Logger
	retry  time.Duration // between attempts to listen on the loopback address

	slots    chan struct{} // holds a token per request in work
	requests atomic.Uint64
	rejected atomic.Uint64
	health   atomic.Pointer[edgeagent.Health] // nil while well
}

// New checks cfg and makes a server; it opens nothing.
func New(cfg Config, source Source, o Options) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{
		cfg: cfg, source: source, opts: o, logger: o.Logger,
		retry: retryListen,
		slots: make(chan struct{}, MaxRequests),
	}, nil
}

// Run opens the socket and, if configured, the loopback listener, and answers
// until ctx ends; requests in work then have two seconds. It returns nil after an
// orderly end. It fails, with a hint, when the socket cannot be had; a loopback
// address that cannot be had is tried again while the socket answers, and
// [Server.Health] says so.
func (s *Server) Run(ctx context.Context) error {
	path, err := ServerSocket(s.cfg.Socket)
	if err != nil {
		return err
	}
	socket, err := listenSocket(ctx, path)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	s.serve(ctx, g, socket, s.Handler())
	address := ""
	if s.cfg.Listen != "" {
		address = s.serveLoopback(ctx, g)
	}
	s.logger.Info("local api is up", "socket", path, "listen", address)
	if s.opts.Listening != nil {
		s.opts.Listening(path, address)
	}
	return g.Wait()
}

// Health is degraded while the configured loopback address cannot be had.
func (s *Server) Health() edgeagent.Health {
	if h := s.health.Load(); h != nil {
		return *h
	}
	return edgeagent.Health{}
}

// serveLoopback returns the address it listens on, or "" when it goes on trying.
func (s *Server) serveLoopback(ctx context.Context, g *errgroup.Group) string {
	h := onlyLocalHosts(onlyReading(s.Handler()))
	l, err := listenLoopback(ctx, s.cfg.Listen)
	if err == nil {
		s.serve(ctx, g, l, h)
		return l.Addr().String()
	}
	s.logger.Warn("loopback listener is not up, trying again", "error", err, "every", s.retry)
	s.health.Store(&edgeagent.Health{
		Level: edgeagent.Degraded, Code: "api-listen", Text: err.Error(),
		Hint: `set "api.listen" to a free loopback address, or remove it`, Since: time.Now(),
	})
	g.Go(func() error {
		tick := time.NewTicker(s.retry)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if l, err := listenLoopback(ctx, s.cfg.Listen); err == nil {
				s.health.Store(nil)
				s.logger.Info("loopback listener is up", "listen", l.Addr().String())
				s.serve(ctx, g, l, h)
				return nil
			}
		}
	})
	return ""
}

func listenLoopback(ctx context.Context, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the local api: %w", err)
	}
	// "localhost" was looked up just now: see what it became.
	if tcp, ok := l.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return nil, errors.Join(&listenError{l.Addr().String(), "not a loopback address"}, l.Close())
	}
	return l, nil
}

// serve answers on l until ctx ends.
func (s *Server) serve(ctx context.Context, g *errgroup.Group, l net.Listener, h http.Handler) {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn),
	}
	g.Go(func() error {
		if err := srv.Serve(netutil.LimitListener(l, MaxConns)); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the local api: %w", err)
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

// Handler returns what is served on the socket, for tests and for programs that
// embed an agent.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.serveStatus)
	mux.HandleFunc("GET /v1/health", s.serveHealth)
	mux.HandleFunc("GET /metrics", s.serveMetrics)
	s.bufferRoutes(mux)
	if f, ok := s.source.(FlushSource); ok {
		mux.HandleFunc("POST /v1/flush", s.serveFlush(f))
	}
	h := http.NewCrossOriginProtection().Handler(mux)
	return http.MaxBytesHandler(s.bounded(h), maxBody)
}

// bounded lets MaxRequests through at a time.
func (s *Server) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		ctx, cancel := context.WithTimeout(r.Context(), queueTimeout)
		defer cancel()
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
			next.ServeHTTP(w, r)
		case <-ctx.Done():
			s.rejected.Add(1)
			w.Header().Set("Retry-After", "1")
			http.Error(w, "busy", http.StatusServiceUnavailable)
		}
	})
}

// onlyLocalHosts refuses requests that were addressed to a name: a page from
// elsewhere whose name was made to point at this machine (DNS rebinding) comes
// with that name, and could read what it asked for.
func onlyLocalHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
			host = host[1 : len(host)-1]
		}
		if !isLoopback(host) {
			http.Error(w, "ask by 127.0.0.1, [::1] or localhost", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// onlyReading refuses what would make the agent do something: any user of this machine,
// and any page in its browser, can get to a loopback address.
func onlyReading(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "ask over the socket", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) status(r *http.Request) Status {
	ctx, cancel := context.WithTimeout(r.Context(), statusTimeout)
	defer cancel()
	return s.source.Status(ctx)
}

func (s *Server) serveStatus(w http.ResponseWriter, r *http.Request) {
	s.writeJSON(w, http.StatusOK, s.status(r))
}

func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	health := s.status(r).normal().Health
	code := http.StatusOK
	if health.Level >= edgeagent.Failed {
		code = http.StatusServiceUnavailable
	}
	s.writeJSON(w, code, health)
}

func (s *Server) writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		s.logger.Error("status has no json form", "error", err)
		http.Error(w, "status has no JSON form", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	// The reader may be gone by now; that is its own affair.
	_, _ = w.Write(append(body, '\n'))
}
