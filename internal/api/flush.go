package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/edgeagent/edgeagent"
)

// MaxFlush bounds how long a request to flush may wait.
const MaxFlush = time.Hour

// FlushSource is a [Source] that can be asked to send what it holds at once.
type FlushSource interface {
	// Flush returns when everything that was stored before the call is confirmed by
	// all destinations, or what is left when ctx ends.
	Flush(ctx context.Context) Flush
}

// Flush is what became of a request to send everything.
type Flush struct {
	OK           bool               `json:"ok"` // nothing is left
	Took         Seconds            `json:"took_s"`
	Destinations []FlushDestination `json:"destinations"`
}

// FlushDestination is one destination after a flush.
type FlushDestination struct {
	Name      string `json:"name"`
	OK        bool   `json:"ok"`
	State     string `json:"state"` // of the uplink, as in [Uplink]
	Held      uint64 `json:"held"`  // records that were unconfirmed before
	Confirmed uint64 `json:"confirmed"`
	// Left counts records that are unconfirmed now, newer ones included.
	Left     uint64                      `json:"left"`
	ByStream map[edgeagent.Stream]uint64 `json:"left_by_stream"`
	Error    string                      `json:"error,omitempty"`
	Hint     string                      `json:"hint,omitempty"`
}

// serveFlush waits as long as the caller says, for one caller at a time: there are
// [MaxRequests] in all.
func (s *Server) serveFlush(source FlushSource) http.HandlerFunc {
	flushing := make(chan struct{}, 1)
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case flushing <- struct{}{}:
			defer func() { <-flushing }()
		default:
			s.rejected.Add(1)
			w.Header().Set("Retry-After", "10")
			http.Error(w, "somebody else waits for a flush already", http.StatusServiceUnavailable)
			return
		}
		seconds, err := strconv.ParseFloat(r.FormValue("timeout_s"), 64)
		if err != nil || !(seconds > 0 && seconds <= MaxFlush.Seconds()) {
			http.Error(w, "timeout_s wants a number of seconds up to 3600", http.StatusBadRequest)
			return
		}
		wait := Seconds(seconds).Duration()
		extend(w, wait+queueTimeout+statusTimeout)
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		defer cancel()
		s.writeJSON(w, http.StatusOK, source.Flush(ctx))
	}
}

// Flush asks the agent to send what it holds and waits until everything is confirmed,
// for at most timeout.
func (c *Client) Flush(ctx context.Context, timeout time.Duration) (v Flush, err error) {
	query := url.Values{"timeout_s": {strconv.FormatFloat(timeout.Seconds(), 'f', 3, 64)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/v1/flush?"+query.Encode(), http.NoBody)
	if err != nil {
		return v, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return v, fmt.Errorf("ask %s: %w", c.socket, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return v, fmt.Errorf("ask %s: %w", c.socket, err)
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusMethodNotAllowed:
		return v, edgeagent.WithHint(errors.New("the agent cannot be asked to flush"), `it is of an earlier version: restart it with "edgeagent service restart"`)
	case resp.StatusCode != http.StatusOK:
		return v, fmt.Errorf("ask %s to flush: %s: %s", c.socket, resp.Status, body[:min(len(body), 200)])
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, fmt.Errorf("read the answer to flush: %w", err)
	}
	return v, nil
}
