package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

// bufferSource is a Source that shows its buffer.
type bufferSource struct {
	fixed
	blocks func(ctx context.Context, q BlockQuery, w io.Writer) error
}

func (bufferSource) BufferSurvey(context.Context) (BufferSurvey, error) {
	return BufferSurvey{Stats: BufferStats{Dir: "/b", Records: 7}, Segments: []BufferSegment{{File: "x.seg", Stream: edgeagent.StreamAlarm, Newest: At(time.Unix(9, 0))}}}, nil
}

func (bufferSource) BufferVerify(context.Context) (BufferVerification, error) {
	return BufferVerification{}, errors.New("the disk is on fire")
}

func (s bufferSource) BufferBlocks(ctx context.Context, q BlockQuery, w io.Writer) error {
	return s.blocks(ctx, q, w)
}

func askBuffer(t *testing.T, s Source) *Client {
	t.Helper()
	path := filepath.Join(socketDir(t), "agent.sock")
	running(t, Config{Socket: path}, s, Options{})
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestBufferOverTheSocket(t *testing.T) {
	part := bytes.Repeat([]byte("block"), 20_000)
	var asked BlockQuery
	c := askBuffer(t, bufferSource{blocks: func(_ context.Context, q BlockQuery, w io.Writer) error {
		asked = q
		for range 30 {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		return nil
	}})
	s, err := c.BufferSurvey(t.Context())
	if err != nil || s.Stats.Records != 7 || s.Segments[0].Newest.Unix() != 9 || s.Gaps == nil {
		t.Errorf("survey %+v, %v", s, err)
	}
	if _, err := c.BufferVerify(t.Context()); err == nil || !strings.Contains(err.Error(), "the disk is on fire") {
		t.Errorf("verify: %v", err)
	}
	want := BlockQuery{edgeagent.StreamAlarm, math.MinInt64, true, "plant 2&"}
	body, err := c.BufferBlocks(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(got, bytes.Repeat(part, 30)) || asked != want {
		t.Errorf("%d bytes, %v, asked for %+v", len(got), err, asked)
	}
}

// TestBufferBlocksBreakOff: an answer that is not whole must not look so.
func TestBufferBlocksBreakOff(t *testing.T) {
	for name, first := range map[string]int{"at once": 0, "after some": 10, "after much": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			c := askBuffer(t, bufferSource{blocks: func(_ context.Context, _ BlockQuery, w io.Writer) error {
				if _, err := w.Write(make([]byte, first)); err != nil {
					return err
				}
				return errors.New("bad sector")
			}})
			body, err := c.BufferBlocks(t.Context(), BlockQuery{Stream: edgeagent.StreamTelemetry})
			if err == nil {
				_, err = io.ReadAll(body)
				body.Close()
			}
			if err == nil {
				t.Error("looks whole")
			}
		})
	}
}

// TestBufferReadersWaitOutside: one at a time, and status is not held up by it.
func TestBufferReadersWaitOutside(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	c := askBuffer(t, bufferSource{blocks: func(context.Context, BlockQuery, io.Writer) error {
		close(inside)
		<-leave
		return nil
	}})
	q := BlockQuery{Stream: edgeagent.StreamTelemetry}
	var wg sync.WaitGroup
	wg.Go(func() {
		body, err := c.BufferBlocks(t.Context(), q)
		if err != nil {
			t.Errorf("first: %v", err)
			return
		}
		body.Close()
	})
	<-inside
	if _, err := c.BufferBlocks(t.Context(), q); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("second: %v", err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("status beside it: %v", err)
	}
	if _, err := c.BufferSurvey(t.Context()); err != nil {
		t.Errorf("survey beside it: %v", err)
	}
	close(leave)
	wg.Wait()
}

func TestBufferQueriesAreChecked(t *testing.T) {
	c := askBuffer(t, bufferSource{})
	for _, path := range []string{"/v1/buffer/blocks", "/v1/buffer/blocks?stream=marks", "/v1/buffer/blocks?stream=alarm&since_ns=soon"} {
		if _, err := c.open(t.Context(), path); err == nil {
			t.Errorf("%s was answered", path)
		}
	}
}

func TestBufferOfAnEarlierAgent(t *testing.T) {
	c := askBuffer(t, fixed{})
	_, err := c.BufferSurvey(t.Context())
	var hint edgeagent.Hinter
	if !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "--dir") {
		t.Errorf("a source without a buffer: %v", err)
	}
}

// TestBufferReference holds the reference page against the types, both ways.
func TestBufferReference(t *testing.T) {
	page, err := os.ReadFile(cliPath)
	if err != nil {
		t.Fatal(err)
	}
	type lists struct {
		Dir      string          `json:"dir"`
		Segments []BufferSegment `json:"segments"`
		Gaps     []BufferGap     `json:"gaps"`
		Runs     []BufferRun     `json:"runs"`
		Series   []BufferSeries  `json:"series"`
	}
	for section, typ := range map[string]reflect.Type{
		"stats": reflect.TypeFor[BufferStats](), "ls": reflect.TypeFor[lists](), "verify": reflect.TypeFor[BufferVerification](),
	} {
		_, rest, _ := strings.Cut(string(page), "## edgeagent buffer "+section+" --json\n")
		text, _, _ := strings.Cut(rest, "\n## ")
		var documented, keys []string
		for line := range strings.Lines(text) {
			if cell, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|"); strings.HasPrefix(line, "| `") {
				for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
					documented = append(documented, m[1])
				}
			}
		}
		walkKeys(typ, "", func(path string) { keys = append(keys, path) })
		slices.Sort(keys)
		slices.Sort(documented)
		if diff := cmp.Diff(slices.Compact(keys), documented); diff != "" {
			t.Errorf("keys of buffer %s (-) and of %s (+):\n%s", section, cliPath, diff)
		}
	}
}

func TestBufferJSONIsNeverNull(t *testing.T) {
	for _, v := range []any{BufferSurvey{}, BufferStats{}, BufferVerification{}} {
		b, err := json.Marshal(v)
		if err != nil || bytes.Contains(b, []byte("null")) {
			t.Errorf("%T: %s, %v", v, b, err)
		}
	}
}
