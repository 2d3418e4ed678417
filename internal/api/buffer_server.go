package api

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/edgeagent/edgeagent"
)

const (
	// blockContentType is the media type of blocks back to back.
	blockContentType = "application/vnd.edgeagent.blocks"
	// stallTimeout is how long a reader of blocks may take for one write.
	stallTimeout = 30 * time.Second
	// verifyTimeout bounds a verification: 1 GiB at 2 MiB/s.
	verifyTimeout = 10 * time.Minute
)

// bufferRoutes adds what a source that is a [BufferSource] can answer. One at a
// time reads records for others; the next is turned away with 503: the disk is the
// agent's first of all.
func (s *Server) bufferRoutes(mux *http.ServeMux) {
	source, ok := s.source.(BufferSource)
	if !ok {
		return
	}
	reading := make(chan struct{}, 1)
	alone := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			select {
			case reading <- struct{}{}:
				defer func() { <-reading }()
				next(w, r)
			default:
				s.rejected.Add(1)
				w.Header().Set("Retry-After", "10")
				http.Error(w, "somebody else reads the buffer now, try again later", http.StatusServiceUnavailable)
			}
		}
	}
	mux.HandleFunc("GET /v1/buffer", func(w http.ResponseWriter, r *http.Request) {
		v, err := source.BufferSurvey(r.Context())
		s.answer(w, v, err)
	})
	mux.HandleFunc("GET /v1/buffer/verify", alone(func(w http.ResponseWriter, r *http.Request) {
		extend(w, verifyTimeout)
		v, err := source.BufferVerify(r.Context())
		s.answer(w, v, err)
	}))
	mux.HandleFunc("GET /v1/buffer/blocks", alone(func(w http.ResponseWriter, r *http.Request) {
		s.serveBlocks(w, r, source)
	}))
}

// answer writes v, or the error.
func (s *Server) answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.writeJSON(w, http.StatusOK, v)
}

// extend moves the deadlines of a connection: those of the server are made for
// short answers. The one for reading ends a request that is being answered, too.
func extend(w http.ResponseWriter, d time.Duration) {
	c := http.NewResponseController(w)
	// A writer without deadlines, as in tests, needs none moved.
	_ = c.SetReadDeadline(time.Time{})
	_ = c.SetWriteDeadline(time.Now().Add(d))
}

func (s *Server) serveBlocks(w http.ResponseWriter, r *http.Request, source BufferSource) {
	q, err := parseBlockQuery(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", blockContentType)
	w.Header().Set("Cache-Control", "no-store")
	out := &patient{w: w}
	err = source.BufferBlocks(r.Context(), q, out)
	switch {
	case err == nil:
	case r.Context().Err() != nil: // the reader is gone
	case !out.begun:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		s.logger.Error("blocks break off", "error", err)
		// The answer must not look whole: this cuts the connection.
		panic(http.ErrAbortHandler)
	}
}

func parseBlockQuery(r *http.Request) (q BlockQuery, err error) {
	if q.Stream, err = edgeagent.ParseStream(r.FormValue("stream")); err != nil {
		return q, err
	}
	if since := r.FormValue("since_ns"); since != "" {
		if q.Since, err = strconv.ParseInt(since, 10, 64); err != nil {
			return q, errors.New("since_ns is not a number of nanoseconds")
		}
	}
	q.Dead, q.Destination = r.FormValue("dead") != "", r.FormValue("destination")
	return q, nil
}

// patient gives every write its own time.
type patient struct {
	w     http.ResponseWriter
	begun bool
}

var _ io.Writer = (*patient)(nil)

func (p *patient) Write(b []byte) (int, error) {
	extend(p.w, stallTimeout)
	p.begun = true
	return p.w.Write(b)
}
