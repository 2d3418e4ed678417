package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
)

func (s *Server) status(ctx context.Context) Status {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	st := s.opts.Source.Status(ctx)
	st.PerS, st.History = s.rates.total()
	if st.Warnings == nil {
		st.Warnings = []edgeagent.Health{}
	}
	return st
}

func (s *Server) serveStatus(w http.ResponseWriter, r *http.Request) {
	s.writeJSON(w, http.StatusOK, s.status(r.Context()))
}

func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	st := s.status(r.Context())
	code := http.StatusOK
	if st.Health >= edgeagent.Failed {
		code = http.StatusServiceUnavailable
	}
	s.writeJSON(w, code, struct {
		Level    edgeagent.Level    `json:"level"`
		Warnings []edgeagent.Health `json:"warnings"`
	}{st.Health, st.Warnings})
}

func (s *Server) devices(ctx context.Context) ([]Device, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	list, err := s.opts.Source.Devices(ctx)
	if err != nil {
		return nil, err
	}
	perS := s.rates.device()
	for i := range list {
		d := &list[i]
		d.PerS = perS(d.Tenant, d.Device)
		if d.Streams == nil {
			d.Streams = []Stream{}
		}
	}
	return list, nil
}

func (s *Server) serveDevices(w http.ResponseWriter, r *http.Request) {
	list, err := s.devices(r.Context())
	s.writeList(w, list, err)
}

func (s *Server) serveGaps(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	list, err := s.opts.Source.Gaps(ctx)
	q := r.URL.Query()
	out := []Gap{}
	for _, g := range list {
		if (q.Get("tenant") == "" || g.Tenant == q.Get("tenant")) && (q.Get("device") == "" || g.Device == q.Get("device")) {
			out = append(out, g)
		}
	}
	s.writeList(w, out, err)
}

func (s *Server) serveSeries(w http.ResponseWriter, r *http.Request) {
	q, ok := s.wantsStore(w, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	list, err := s.opts.Store.Series(ctx, q.Tenant, q.Device)
	if list == nil {
		list = []Series{}
	}
	s.writeList(w, list, err)
}

// serveQuery streams rows. Once the first has gone out an error can only end the
// answer early; the connection is cut then, so that nobody takes it for whole.
func (s *Server) serveQuery(w http.ResponseWriter, r *http.Request) {
	q, ok := s.wantsStore(w, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	out := bufio.NewWriterSize(w, 32<<10)
	csv := r.URL.Query().Get("format") == "csv"
	if csv {
		w.Header().Set("Content-Type", "text/csv; charset=utf-8")
		_, _ = out.WriteString("time_ns,series,value,quality,tags\n")
	} else {
		w.Header().Set("Content-Type", "application/x-ndjson")
	}
	rows := 0
	var line []byte
	err := s.opts.Store.Query(ctx, q, func(row Row) error {
		if rows++; rows > MaxRows {
			return errTooMany
		}
		if csv {
			line = appendCSV(line[:0], q.Series, row)
		} else {
			line = row.appendJSON(line[:0])
		}
		_, err := out.Write(line)
		return err
	})
	if err == nil {
		_ = out.Flush() // the reader may be gone; that is its own affair
		return
	}
	if rows <= 1 { // nothing has gone out: one row does not fill the buffer
		s.fail(w, err)
		return
	}
	s.log.Warn("query ended early", "error", err)
	panic(http.ErrAbortHandler)
}

var errTooMany = edgeagent.WithHint(fmt.Errorf("over %d rows", MaxRows), "ask for less with --since and --until")

// serveReplay asks a device for what is missing.
func (s *Server) serveReplay(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	got, err := s.opts.Source.Replay(ctx, tenantOf(q), q.Get("device"), q.Get("all") == "true")
	s.writeList(w, got, err)
}

func tenantOf(q url.Values) string {
	if t := q.Get("tenant"); t != "" {
		return t
	}
	return "default"
}

// wantsStore reads which readings are asked for.
func (s *Server) wantsStore(w http.ResponseWriter, r *http.Request) (Query, bool) {
	if s.opts.Store == nil {
		s.fail(w, ErrNoStore)
		return Query{}, false
	}
	v := r.URL.Query()
	q := Query{Tenant: tenantOf(v), Device: v.Get("device"), Series: v.Get("series"), Since: math.MinInt64, Until: math.MaxInt64}
	for name, to := range map[string]*int64{"since": &q.Since, "until": &q.Until} {
		if text := v.Get(name); text != "" {
			t, err := ParseTime(text, time.Now())
			if err != nil {
				http.Error(w, fmt.Sprintf("bad %s: %v", name, err), http.StatusBadRequest)
				return Query{}, false
			}
			*to = t
		}
	}
	return q, true
}

// ErrNoStore is the answer of a hub whose records go where they cannot be asked for.
var ErrNoStore = edgeagent.WithHint(errors.New("this hub's sink cannot be asked for readings"),
	`ask the database itself, or use "sink: sqlite" or "sink: postgres"`)

// ErrUnknown is what a [Source] wraps for a device that it does not know.
var ErrUnknown = errors.New("no such device")

// ParseTime reads a duration before now, or a time; it returns Unix ns.
func ParseTime(text string, now time.Time) (int64, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d).UnixNano(), nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t.UnixNano(), nil
		}
	}
	return 0, fmt.Errorf("%q is neither a duration like 1h30m nor a time like 2026-11-23T09:00:00Z", text)
}

func (s *Server) writeList(w http.ResponseWriter, v any, err error) {
	if err != nil {
		s.fail(w, err)
		return
	}
	s.writeJSON(w, http.StatusOK, v)
}

// fail answers with an error and its hint.
func (s *Server) fail(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrUnknown):
		code = http.StatusNotFound
	case errors.Is(err, ErrNoStore):
		code = http.StatusNotImplemented
	case errors.Is(err, errTooMany):
		code = http.StatusRequestEntityTooLarge
	}
	body := struct {
		Error string `json:"error"`
		Hint  string `json:"hint,omitempty"`
	}{Error: err.Error()}
	if h, ok := errors.AsType[edgeagent.Hinter](err); ok {
		body.Hint = h.Hint()
	}
	s.writeJSON(w, code, body)
}

func (s *Server) writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		s.log.Error("answer has no json form", "error", err)
		http.Error(w, "no JSON form", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n')) // the reader may be gone
}

// MarshalJSON writes {"t","value","q"[,"tags"]}; a value that JSON cannot say is null.
func (r Row) MarshalJSON() ([]byte, error) {
	b := r.appendJSON(nil)
	return b[:len(b)-1], nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Row) UnmarshalJSON(b []byte) error {
	var x struct {
		T     time.Time `json:"t"`
		Value *float64  `json:"value"`
		Q     string    `json:"q"`
		Tags  string    `json:"tags"`
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return fmt.Errorf("row: %w", err)
	}
	*r = Row{Time: x.T.UnixNano(), Value: math.NaN(), Quality: x.Q, Tags: x.Tags}
	if x.Value != nil {
		r.Value = *x.Value
	}
	return nil
}

func (r Row) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"t":"`...)
	dst = time.Unix(0, r.Time).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000000Z")
	dst = append(dst, `","value":`...)
	if math.IsNaN(r.Value) || math.IsInf(r.Value, 0) {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendFloat(dst, r.Value, 'g', -1, 64)
	}
	dst = append(dst, `,"q":`...)
	dst = appendString(dst, r.Quality)
	if r.Tags != "" {
		dst = append(dst, `,"tags":`...)
		dst = appendString(dst, r.Tags)
	}
	return append(dst, '}', '\n')
}

func appendString(dst []byte, s string) []byte {
	b, _ := json.Marshal(s) // a string always has a form
	return append(dst, b...)
}

func appendCSV(dst []byte, series string, r Row) []byte {
	dst = strconv.AppendInt(dst, r.Time, 10)
	dst = append(append(dst, ','), csvField(series)...)
	dst = strconv.AppendFloat(append(dst, ','), r.Value, 'g', -1, 64)
	dst = append(append(dst, ','), csvField(r.Quality)...)
	dst = append(append(dst, ','), csvField(r.Tags)...)
	return append(dst, '\n')
}

// csvField quotes what would not come back as it is.
func csvField(s string) string {
	if strings.ContainsAny(s, ",\"\r\n") || strings.TrimSpace(s) != s {
		return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
	}
	return s
}
