package push

import (
	"compress/gzip"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxBody bounds a request, unpacked.
const maxBody = 1 << 20

var errTooLarge = fmt.Errorf("more than %d bytes", maxBody)

// handler answers requests.
func (s *source) handler() http.Handler {
	mux := http.NewServeMux()
	write := s.answer(func(body []byte, r *http.Request) ([]pushed, error) {
		unit, err := precision(r.URL.Query().Get("precision"))
		if err != nil {
			return nil, err
		}
		return parseLines(body, unit)
	})
	mux.HandleFunc("POST /write", write)
	mux.HandleFunc("POST /api/v2/write", write)
	mux.HandleFunc("POST /json", s.answer(func(body []byte, _ *http.Request) ([]pushed, error) { return parseJSON(body) }))
	return http.NewCrossOriginProtection().Handler(s.guard(mux))
}

// precision returns what a time counts, in ns.
func precision(name string) (int64, error) {
	switch name {
	case "", "ns", "n":
		return 1, nil
	case "us", "u", "µ":
		return 1e3, nil
	case "ms":
		return 1e6, nil
	case "s":
		return 1e9, nil
	}
	return 0, fmt.Errorf("unknown precision %.20q, want ns, us, ms or s", name)
}

// guard lets in who knows the token, and nobody whom a browser was tricked into
// sending to loopback under another name.
func (s *source) guard(next http.Handler) http.Handler {
	token := s.cfg.Token.Reveal()
	host, _, err := net.SplitHostPort(s.cfg.Listen)
	loopback := err == nil && isLoopback(host)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name := r.Host; loopback {
			if h, _, err := net.SplitHostPort(name); err == nil {
				name = h
			}
			if !isLoopback(strings.Trim(name, "[]")) {
				http.Error(w, "this is not the host's name", http.StatusForbidden)
				return
			}
		}
		if !s.cfg.Token.IsZero() && !knows(r.Header.Get("Authorization"), token) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "the token is missing or wrong", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// knows compares in a time that tells nothing. An empty token, of a file that is
// empty, is known to nobody.
func knows(header, token string) bool {
	scheme, given, _ := strings.Cut(header, " ")
	ok := strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "Token")
	return subtle.ConstantTimeCompare([]byte(given), []byte(token)) == 1 && ok && token != ""
}

// answer makes a handler of a parser.
func (s *source) answer(parse func(body []byte, r *http.Request) ([]pushed, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := read(w, r)
		if err != nil {
			status := http.StatusBadRequest
			if errors.Is(err, errTooLarge) {
				status = http.StatusRequestEntityTooLarge
			}
			http.Error(w, err.Error(), status)
			return
		}
		list, err := parse(body, r)
		if errors.Is(err, errTooMany) {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.store(w, r, list)
	}
}

func (s *source) store(w http.ResponseWriter, r *http.Request, list []pushed) {
	if len(list) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if wait, ok := s.rate.allow(len(list), time.Now()); !ok {
		retry(w, wait, http.StatusTooManyRequests, fmt.Sprintf("more than %d readings a second", s.cfg.MaxRate))
		return
	}
	rs, err := s.readings(list)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.submit(r.Context(), rs); err != nil {
		retry(w, 5*time.Second, http.StatusServiceUnavailable, err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func retry(w http.ResponseWriter, after time.Duration, status int, text string) {
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(after.Seconds())))))
	http.Error(w, text, status)
}

// read reads the body, unpacked if it is gzip.
func read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var in io.Reader = http.MaxBytesReader(w, r.Body, maxBody)
	switch r.Header.Get("Content-Encoding") {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
		defer func() { _ = z.Close() }() // it holds nothing of the system
		in = z
	default:
		return nil, errors.New("unknown Content-Encoding, want gzip or none")
	}
	body, err := io.ReadAll(io.LimitReader(in, maxBody+1))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong) || len(body) > maxBody:
		return nil, errTooLarge
	case err != nil:
		return nil, fmt.Errorf("read the request: %w", err)
	}
	return body, nil
}
