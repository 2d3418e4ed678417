package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/edgeagent/edgeagent"
)

// BufferSurvey asks what there is in the buffer.
func (c *Client) BufferSurvey(ctx context.Context) (v BufferSurvey, err error) {
	err = c.ask(ctx, "/v1/buffer", &v)
	return v, err
}

// BufferVerify has the agent read every block, which takes as long as its disk
// does.
func (c *Client) BufferVerify(ctx context.Context) (v BufferVerification, err error) {
	err = c.ask(ctx, "/v1/buffer/verify", &v)
	return v, err
}

func (c *Client) ask(ctx context.Context, path string, v any) error {
	body, err := c.open(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("ask %s for %s: %w", c.socket, path, err)
	}
	return nil
}

// BufferBlocks asks for records: whole blocks back to back, for each epoch its
// series blocks first. Reading fails if the answer breaks off.
func (c *Client) BufferBlocks(ctx context.Context, q BlockQuery) (io.ReadCloser, error) {
	query := url.Values{"stream": {q.Stream.String()}, "since_ns": {strconv.FormatInt(q.Since, 10)}}
	if q.Dead {
		query.Set("dead", "1")
		query.Set("destination", q.Destination)
	}
	return c.open(ctx, "/v1/buffer/blocks?"+query.Encode())
}

// open asks for path and returns the answer's body; the caller closes it.
func (c *Client) open(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.socket, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 500))
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return nil, edgeagent.WithHint(fmt.Errorf("the agent on %s does not show its buffer", c.socket),
			`it is of an earlier version: stop it ("edgeagent service stop") and name the directory with --dir`)
	case err != nil:
		return nil, fmt.Errorf("ask %s for %s: %s: %w", c.socket, path, resp.Status, err)
	}
	return nil, fmt.Errorf("ask %s: %s", c.socket, bytes.TrimSpace(text))
}
