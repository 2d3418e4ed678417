package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// switchable is a link that is there or not.
type switchable struct {
	name  string
	there bool
	err   error
	log   *[]string
	began time.Time
	drop  chan struct{} // ends the session that is up
}

func (s *switchable) String() string { return s.name }

func (s *switchable) Session(ctx context.Context, h Handler, start func(context.Context, Session)) error {
	note := func(what string) {
		*s.log = append(*s.log, fmt.Sprintf("%v %s %s", time.Since(s.began).Round(time.Second), s.name, what))
	}
	if !s.there {
		note("fails")
		if s.err != nil {
			return s.err
		}
		return errors.New("nobody there")
	}
	note("up")
	h.Up(Caps{})
	select {
	case <-ctx.Done():
		note("goodbye")
		return ctx.Err()
	case <-s.drop:
		note("lost")
		return errors.New("connection lost")
	}
}

func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		began := time.Now()
		one := &switchable{name: "one", log: &log, began: began, drop: make(chan struct{})}
		two := &switchable{name: "two", log: &log, began: began, drop: make(chan struct{}), there: true}
		f := NewFailover([]Transport{one, two}, nil)
		session := func(d time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			return f.Session(ctx, nopHandler{}, func(context.Context, Session) {})
		}
		// The first is away: the second at once, for ten minutes.
		if err := session(time.Hour); !errors.Is(err, errFailback) || f.String() != "two" {
			t.Errorf("ended with %v on %s", err, f)
		}
		// It still is: for twenty minutes.
		_ = session(time.Hour)
		// The second is lost meanwhile: it comes back without a detour over the first.
		_ = session(time.Minute)
		time.Sleep(time.Minute)
		_ = session(time.Minute)
		// The first is there again, and has its turn.
		one.there = true
		time.Sleep(time.Hour)
		_ = session(3 * time.Hour)
		// Both away, and both back: the first is not punished for it.
		one.there, two.there = false, false
		if err := session(time.Minute); err == nil {
			t.Error("no link, no error")
		}
		one.there, two.there = true, true
		_ = session(time.Minute)
		want := []string{
			"0s one fails", "0s two up", "10m0s two goodbye",
			"10m0s one fails", "10m0s two up", "30m0s two goodbye",
			"30m0s one fails", "30m0s two up", "31m0s two goodbye",
			"32m0s two up", "33m0s two goodbye",
			"1h33m0s one up", "4h33m0s one goodbye",
			"4h33m0s one fails", "4h33m0s two fails",
			"4h33m0s one up", "4h34m0s one goodbye",
		}
		if diff := cmp.Diff(want, log); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

type nopHandler struct{}

func (nopHandler) Up(Caps)       {}
func (nopHandler) Result(Result) {}
func (nopHandler) Ack([]byte)    {}

// A refusal makes the next attempt wait for a person; one link that is only away
// must not.
func TestFailoverRefusals(t *testing.T) {
	refused := Refused("bad password", "check it")
	for _, c := range []struct {
		name string
		errs []error
		want bool
	}{
		{"one", []error{refused}, true},
		{"all", []error{refused, refused}, true},
		{"some", []error{refused, errors.New("no route")}, false},
		{"none", []error{errors.New("no route"), errors.New("no route")}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log []string
			var links []Transport
			for _, err := range c.errs {
				links = append(links, &switchable{name: "x", err: err, log: &log, began: time.Now()})
			}
			err := NewFailover(links, nil).Session(t.Context(), nopHandler{}, nil)
			if _, got := errors.AsType[*RefusedError](err); got != c.want {
				t.Errorf("a refusal: %v, want %v: %v", got, c.want, err)
			}
		})
	}
}

// Whatever links do, a session is on one of them, those before it failed or rest, and
// when all have failed the next attempt begins with the first.
func TestFailoverModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 4).Draw(rt, "links")
		c := &handClock{}
		var log []string
		links := make([]Transport, n)
		made := make([]*switchable, n)
		for i := range links {
			made[i] = &switchable{name: strconv.Itoa(i), log: &log, drop: make(chan struct{})}
			links[i] = made[i]
		}
		f := NewFailover(links, c)
		restUntil := make([]time.Duration, n) // at the latest
		for range rapid.IntRange(1, 30).Draw(rt, "sessions") {
			c.run += time.Duration(rapid.Int64Range(0, int64(2*time.Hour)).Draw(rt, "pause"))
			first := -1
			for i := range made {
				made[i].there = rapid.Bool().Draw(rt, "there")
				made[i].drop = make(chan struct{})
				close(made[i].drop)
				if made[i].there && first < 0 {
					first = i
				}
			}
			log = log[:0]
			err := f.Session(context.Background(), nopHandler{}, nil)
			var up []string
			for _, line := range log {
				if strings.HasSuffix(line, " up") {
					up = append(up, strings.Fields(line)[1])
				}
			}
			switch {
			case first < 0 && (len(up) != 0 || err == nil || len(log) != n):
				rt.Fatalf("nobody is there: %v, %v", log, err)
			case first >= 0 && len(up) != 1:
				rt.Fatalf("%d sessions: %v", len(up), log)
			}
			if first < 0 {
				clear(restUntil)
				continue
			}
			at, _ := strconv.Atoi(up[0])
			for i := range at { // links before it that are there must be at rest
				if made[i].there && c.run >= restUntil[i] {
					rt.Fatalf("link %d is up, though %d is there and not at rest: %v", at, i, log)
				}
			}
			for i := range made {
				if slices.ContainsFunc(log, func(s string) bool { return strings.HasSuffix(s, " "+strconv.Itoa(i)+" fails") }) {
					restUntil[i] = c.run + longestFailback
				}
			}
			restUntil[at] = 0
		}
	})
}
