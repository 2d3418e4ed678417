package api

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

// flusher ends a flush when it is told to, or when ctx does.
type flusher struct {
	fixed
	begun, end chan struct{}
}

func (f flusher) Flush(ctx context.Context) Flush {
	f.begun <- struct{}{}
	select {
	case <-f.end:
		return Flush{OK: true, Destinations: []FlushDestination{{Name: "cloud", OK: true, ByStream: map[edgeagent.Stream]uint64{}}}}
	case <-ctx.Done():
		return Flush{Destinations: []FlushDestination{{Name: "cloud", Left: 7, ByStream: map[edgeagent.Stream]uint64{edgeagent.StreamTelemetry: 7}}}}
	}
}

func TestFlush(t *testing.T) {
	f := flusher{fixed(goodStatus()), make(chan struct{}, 1), make(chan struct{})}
	socket, address, stop := running(t, Config{Socket: filepath.Join(socketDir(t), "a.sock"), Listen: "127.0.0.1:0"}, f, Options{})
	c, err := Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	late, err := c.Flush(t.Context(), 10*time.Millisecond)
	if want := (flusher{begun: make(chan struct{}, 1)}).late(); err != nil || cmp.Diff(want, late) != "" {
		t.Errorf("%+v, %v", late, err)
	}
	<-f.begun

	done := make(chan Flush)
	go func() {
		v, err := c.Flush(t.Context(), time.Minute)
		if err != nil {
			t.Error(err)
		}
		done <- v
	}()
	<-f.begun
	if _, err := c.Flush(t.Context(), time.Minute); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("a second one at the same time: %v", err)
	}
	close(f.end)
	if v := <-done; !v.OK {
		t.Errorf("%+v", v)
	}

	for _, query := range []string{"", "?timeout_s=0", "?timeout_s=NaN", "?timeout_s=1e9"} {
		resp, err := c.http.Post("http://agent/v1/flush"+query, "", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %s", query, resp.Status)
		}
	}
	resp, err := http.Post("http://"+address+"/v1/flush?timeout_s=1", "", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("on the loopback address: %s", resp.Status)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func (f flusher) late() Flush {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return f.Flush(ctx)
}

func TestFlushOfAnEarlierAgent(t *testing.T) {
	socket, _, _ := running(t, Config{Socket: filepath.Join(socketDir(t), "a.sock")}, fixed(goodStatus()), Options{})
	c, err := Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Flush(t.Context(), time.Second)
	var hint edgeagent.Hinter
	if !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "service restart") {
		t.Errorf("%v", err)
	}
}
