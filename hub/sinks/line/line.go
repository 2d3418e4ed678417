package line

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/sync/wire"
)

// Bounds of a [Sink].
const (
	maxBody      = 512 << 10
	maxRetry     = 30 * time.Second
	requestLimit = 30 * time.Second
	maxSeries    = 1 << 18 // whose last time is remembered, to count what overwrites
)

// Options configure a [Sink].
type Options struct {
	// URL takes the lines by POST: http://localhost:8428/write of VictoriaMetrics,
	// http://localhost:8086/api/v2/write?org=ORG&bucket=BUCKET of InfluxDB 2,
	// http://localhost:9000/write of QuestDB. Times are in nanoseconds.
	URL string
	// Token is sent as "Authorization: Token …", or User and Password by basic login.
	Token, User, Password string
	// Refused gets lines that the server does not want; default nowhere.
	Refused io.Writer
	Client  *http.Client // default one with a limit of 30 s a request
	Logger  *slog.Logger
}

// Stats counts what a sink has done.
type Stats struct {
	Points   uint64 // written, those that came again included
	Requests uint64
	Retries  uint64 // requests that the server could not take, and that come again
	Refused  uint64 // lines that it does not want
	// Repeated are readings with the time of the one before in their series, Backward
	// those with an earlier one: they may have overwritten others.
	Repeated, Backward uint64
}

// Sink sends lines to a server. Create one with [New].
type Sink struct {
	opts   Options
	form   *wire.Line
	text   []byte
	last   map[seriesKey]int64
	paused time.Time // until then the server wants nothing

	mu    sync.Mutex // guards stats
	stats Stats
}

type seriesKey struct {
	tenant, device string
	series         edgeagent.Series
}

var _ hub.Sink = (*Sink)(nil)

// New returns a sink that has sent nothing.
func New(o Options) (*Sink, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, edgeagent.WithHint(fmt.Errorf("line sink: bad address %q", o.URL), `write "sink.url" like http://localhost:8428/write`)
	}
	if o.Client == nil {
		o.Client = &http.Client{Timeout: requestLimit}
	}
	own := *o.Client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // would lose the body
	o.Client = &own
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Sink{opts: o, form: wire.NewLine(), last: map[seriesKey]int64{}}, nil
}

// Stats returns the counters.
func (s *Sink) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Commit implements [hub.Sink].
func (s *Sink) Commit(ctx context.Context, c hub.Cut) error {
	if wait := time.Until(s.paused); wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("line sink: %w", context.Cause(ctx))
		}
	}
	var err error
	if s.text, err = s.lines(s.text[:0], c); err != nil {
		return fmt.Errorf("line sink: %w", err)
	}
	for rest := s.text; len(rest) > 0; {
		var part []byte
		part, rest = split(rest, maxBody)
		if err := s.send(ctx, part); err != nil {
			return fmt.Errorf("line sink: %w", err)
		}
	}
	s.count(c)
	return nil
}

// lines appends the cut as text.
func (s *Sink) lines(dst []byte, c hub.Cut) (_ []byte, err error) {
	from := len(dst)
	for b := range c.Batches() {
		if dst, err = s.form.Encode(dst, b, c.Device); err != nil {
			return dst, err
		}
	}
	if c.Tenant == "default" {
		return dst, nil
	}
	return tagged(dst[:from], bytes.Clone(dst[from:]), c.Tenant), nil
}

var tagEscaper = strings.NewReplacer(",", `\,`, "=", `\=`, " ", `\ `, `\`, "/")

// tagged appends lines with a tag for the tenant: before the first comma that divides.
func tagged(dst, lines []byte, tenant string) []byte {
	tag := ",tenant=" + tagEscaper.Replace(tenant)
	for line := range bytes.Lines(lines) {
		i := 0
		for i < len(line) && (line[i] != ',' || i > 0 && line[i-1] == '\\') {
			i++
		}
		dst = append(append(append(dst, line[:i]...), tag...), line[i:]...)
	}
	return dst
}

// split cuts whole lines of at most n bytes off text, one at least.
func split(text []byte, n int) (part, rest []byte) {
	if len(text) <= n {
		return text, nil
	}
	end := bytes.LastIndexByte(text[:n], '\n') + 1
	if end == 0 {
		end = bytes.IndexByte(text, '\n') + 1
	}
	return text[:end], text[end:]
}

// send has the server take the lines, or leaves out those that it does not want.
func (s *Sink) send(ctx context.Context, lines []byte) error {
	why, err := s.post(ctx, lines)
	if err != nil || why == nil {
		return err
	}
	if first, rest := split(lines, len(lines)/2); len(rest) > 0 {
		if err := s.send(ctx, first); err != nil {
			return err
		}
		return s.send(ctx, rest)
	}
	return s.refuse(lines, why)
}

// refuse keeps a line that the server does not want. The first is logged, and each
// thousandth.
func (s *Sink) refuse(line []byte, why error) error {
	if s.opts.Refused != nil {
		if _, err := s.opts.Refused.Write(line); err != nil {
			return fmt.Errorf("keep a refused line: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stats.Refused%1000 == 0 {
		s.opts.Logger.Warn("server does not want a line", "reason", why, "refused", s.stats.Refused+1)
	}
	s.stats.Refused++
	return nil
}

// post sends one request. refused is why the server will never take these lines.
func (s *Sink) post(ctx context.Context, lines []byte) (refused, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.opts.URL, bytes.NewReader(lines))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", s.form.ContentType())
	switch {
	case s.opts.Token != "":
		req.Header.Set("Authorization", "Token "+s.opts.Token)
	case s.opts.User != "":
		req.SetBasicAuth(s.opts.User, s.opts.Password)
	}
	s.add(func(st *Stats) { st.Requests++ })
	resp, err := s.opts.Client.Do(req)
	if err != nil {
		s.add(func(st *Stats) { st.Retries++ })
		return nil, err
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	if resp.StatusCode/100 == 2 {
		return nil, nil
	}
	why := fmt.Errorf("server answers %s: %s", resp.Status, bytes.TrimSpace(said))
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return why, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		why = edgeagent.WithHint(why, `set "sink.token", or "sink.username" and "sink.password"`)
	case http.StatusNotFound, http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		why = edgeagent.WithHint(why, `"sink.url" is not where the server takes lines, see docs/reference/edgehub.md`)
	}
	s.add(func(st *Stats) { st.Retries++ })
	s.paused = time.Now().Add(retryAfter(resp.Header.Get("Retry-After")))
	return nil, why
}

// retryAfter reads how many seconds a server wants to be left alone.
func retryAfter(text string) time.Duration {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, maxRetry)
}

func (s *Sink) add(f func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.stats)
}

// count notes what was written, and what of it may have overwritten something.
func (s *Sink) count(c hub.Cut) {
	var repeated, backward uint64
	for _, r := range c.Rows {
		key := seriesKey{c.Tenant, c.Device, r.Series}
		last, known := s.last[key]
		switch {
		case known && r.Time == last:
			repeated++
		case known && r.Time < last:
			backward++
		}
		if !known && len(s.last) >= maxSeries {
			clear(s.last)
		}
		s.last[key] = r.Time
	}
	s.add(func(st *Stats) {
		st.Points += uint64(c.Len())
		st.Repeated += repeated
		st.Backward += backward
	})
}
