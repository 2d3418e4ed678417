package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
)

const (
	dialTimeout = 3 * time.Second
	// maxAnswer bounds what a client reads: 10,000 series are far below it.
	maxAnswer = 32 << 20
)

// Client asks an agent on this machine. It is safe for concurrent use.
type Client struct {
	socket string
	http   *http.Client
}

// Dial finds an agent: at socket if that is not empty, else at the first of
// [ClientSockets] that somebody answers on. It keeps no connection open.
func Dial(ctx context.Context, socket string) (*Client, error) {
	return dial(ctx, ClientSockets(socket))
}

func dial(ctx context.Context, sockets []string) (*Client, error) {
	var errs []error
	for _, path := range sockets {
		conn, err := connect(ctx, path)
		if err == nil {
			conn.Close()
			return newClient(path), nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("connect to %s: %w", path, err)
		}
		errs = append(errs, err)
	}
	return nil, nobody(sockets, errs)
}

// nobody explains why no socket could be used. A socket that is there and closed
// to us is the likelier reason than one that is not there.
func nobody(sockets []string, errs []error) error {
	for i, err := range errs {
		if errors.Is(err, fs.ErrPermission) {
			return edgeagent.WithHint(fmt.Errorf("connect to %s: permission denied", sockets[i]),
				`run it with sudo, or join the group: "sudo usermod -aG edgeagent $USER" and log in again`)
		}
	}
	return edgeagent.WithHint(fmt.Errorf("no agent answers on %s", strings.Join(sockets, ", ")),
		`is the agent running? start it with "edgeagent run -c FILE" or look at "edgeagent service status"`)
}

func connect(ctx context.Context, path string) (net.Conn, error) {
	return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
}

func newClient(path string) *Client {
	return &Client{socket: path, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return connect(ctx, path)
		},
		DisableKeepAlives: true,
	}}}
}

// Socket returns the path that was found.
func (c *Client) Socket() string { return c.socket }

// Close frees the client's connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Status asks for the state of the agent.
func (c *Client) Status(ctx context.Context) (Status, error) {
	body, err := c.get(ctx, "/v1/status")
	if err != nil {
		return Status{}, err
	}
	var s Status
	if err := json.Unmarshal(body, &s); err != nil {
		return Status{}, fmt.Errorf("read status: %w", err)
	}
	return s, nil
}

// Metrics asks for the metrics, in Prometheus text.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) { return c.get(ctx, "/metrics") }

func (c *Client) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.socket, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.socket, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s for %s: %s: %s", c.socket, path, resp.Status, bytes.TrimSpace(body[:min(len(body), 200)]))
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("ask %s for %s: an answer of over %d bytes", c.socket, path, maxAnswer)
	}
	return body, nil
}
