package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub/web"
)

// socketName is the hub's socket within its state directory.
const socketName = "hub.sock"

const (
	dialTimeout = 3 * time.Second
	maxAnswer   = 64 << 20
)

// place is where a hub is asked: by its socket, or by its address.
type place struct{ state, url, token string }

func (p *place) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.state, "state", "", "state directory, or socket, of the hub on this machine")
	cmd.Flags().StringVar(&p.url, "url", "", "address of a hub elsewhere, such as https://hub.example:8399")
	cmd.Flags().StringVar(&p.token, "token", "", "its token: file:/path or env:NAME")
}

// client asks a hub.
type client struct {
	base  string
	token string
	at    string // for people
	http  *http.Client
}

// dial finds the hub.
func (p *place) dial(ctx context.Context) (*client, error) {
	if p.url != "" {
		return p.remote()
	}
	path := p.state
	if path == "" {
		dir, err := defaultStateDir()
		if err != nil {
			return nil, err
		}
		path = dir
	}
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		path = filepath.Join(path, socketName)
	}
	connect := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
	}
	conn, err := connect(ctx, "", "")
	if errors.Is(err, fs.ErrPermission) {
		return nil, edgeagent.WithHint(fmt.Errorf("connect to %s: permission denied", path), "run it with sudo, or as a member of the socket's group")
	}
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("no hub answers on %s", path),
			`start one with "edgehub serve", or name its place with --state DIR or --url URL`)
	}
	conn.Close()
	return &client{base: "http://hub", at: path, http: &http.Client{Transport: &http.Transport{DialContext: connect, DisableKeepAlives: true}}}, nil
}

func (p *place) remote() (*client, error) {
	u, err := url.Parse(p.url)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, usageError{edgeagent.WithHint(fmt.Errorf("--url: bad address %q", p.url), "write it like https://hub.example:8399")}
	}
	c := &client{base: strings.TrimSuffix(p.url, "/"), at: u.Host, http: &http.Client{}}
	if p.token != "" {
		var s edgeagent.Secret
		if err := s.UnmarshalText([]byte(p.token)); err != nil {
			return nil, usageError{fmt.Errorf("--token: %w", err)}
		}
		if err := s.Resolve("."); err != nil {
			return nil, err
		}
		c.token = s.Reveal()
	}
	return c, nil
}

// ask sends a request and returns the answer, which the caller closes.
func (c *client) ask(ctx context.Context, method, path string, q url.Values) (io.ReadCloser, error) {
	target := c.base + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.at, err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.at, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	return nil, c.refused(resp)
}

// refused is what a hub said instead of an answer.
func (c *client) refused(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	var said struct{ Error, Hint string }
	if json.Unmarshal(text, &said) == nil && said.Error != "" {
		return edgeagent.WithHint(fmt.Errorf("%s: %s", c.at, said.Error), said.Hint)
	}
	err := fmt.Errorf("%s: %s: %s", c.at, resp.Status, strings.TrimSpace(string(text)))
	if resp.StatusCode == http.StatusUnauthorized {
		return edgeagent.WithHint(err, "show its token with --token file:/path")
	}
	return err
}

// get reads the answer to a question into v.
func (c *client) get(ctx context.Context, method, path string, q url.Values, v any) error {
	body, err := c.ask(ctx, method, path, q)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.at, err)
	}
	return nil
}

// rows calls f for each row of a query.
func (c *client) rows(ctx context.Context, q url.Values, f func(web.Row) error) error {
	body, err := c.ask(ctx, http.MethodGet, "/v1/query", q)
	if err != nil {
		return err
	}
	defer body.Close()
	sc := bufio.NewScanner(body)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var r web.Row
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			return fmt.Errorf("read the answer of %s: %w", c.at, err)
		}
		if err := f(r); err != nil {
			return err
		}
	}
	if err := sc.Err(); err != nil {
		return edgeagent.WithHint(fmt.Errorf("the answer of %s ended early: %w", c.at, err), "the hub's log says why; ask for less with --since and --until")
	}
	return nil
}
