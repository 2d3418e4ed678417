package process

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestQueueModel: whatever is asked, answered and lost in whatever order, a score is
// that of features of the same call, not older than allowed, and nothing piles up.
func TestQueueModel(t *testing.T) {
	const maxAge, timeout = 10 * time.Second, time.Second
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue(timeout, maxAge)
		now := time.Unix(1000, 0)
		calls := make([]*question, 12)
		asked := make([]map[float64]time.Time, len(calls)) // by feature, when last asked
		for i := range calls {
			calls[i] = &question{x: make([]float64, 1)}
			asked[i] = map[float64]time.Time{}
		}
		sent := map[uint64]float64{} // what the model has before it
		t.Repeat(map[string]func(*rapid.T){
			"ask": func(t *rapid.T) {
				i := rapid.IntRange(0, len(calls)-1).Draw(t, "call")
				x := float64(i*1000 + rapid.IntRange(0, 3).Draw(t, "x"))
				asked[i][x] = now
				if v, _ := q.ask(calls[i], []float64{x}, now); !math.IsNaN(v) {
					at, known := asked[i][v/2] // the model doubles
					if !known || now.Sub(at) > maxAge && x != v/2 {
						t.Fatalf("call %d got %v, asked %v ago", i, v, now.Sub(at))
					}
				}
			},
			"send": func(t *rapid.T) {
				if f, ok := q.next(now); ok {
					sent[f.id] = f.q.x[0]
				} else if len(q.waiting) > 0 && len(q.flights) < window {
					t.Fatal("something waits and there is room")
				}
			},
			"ping": func(*rapid.T) {
				if f, ok := q.ping(now); ok {
					if _, err := q.answer(answer{kind: pong, id: f.id}, now); err != nil {
						t.Fatal(err)
					}
				}
			},
			"answer": func(t *rapid.T) {
				if len(q.flights) == 0 {
					t.Skip("nothing in flight")
				}
				f := q.flights[rapid.IntRange(0, len(q.flights)-1).Draw(t, "flight")]
				a := answer{kind: score, id: f.id, score: 2 * sent[f.id]}
				if rapid.Bool().Draw(t, "error") {
					a = answer{kind: failure, id: f.id}
				}
				if _, err := q.answer(a, now); err != nil {
					t.Fatal(err)
				}
				if _, err := q.answer(a, now); err == nil {
					t.Fatal("a second answer is taken")
				}
			},
			"lose": func(*rapid.T) { q.lost() },
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 7000).Draw(t, "ms")) * time.Millisecond)
			},
			"": func(t *rapid.T) { checkQueue(t, &q, calls) },
		})
	})
}

func checkQueue(t *rapid.T, q *queue, calls []*question) {
	if len(q.flights) > window || len(q.waiting) > len(calls) {
		t.Fatalf("%d in flight, %d waiting", len(q.flights), len(q.waiting))
	}
	count := map[*question]int{}
	for _, c := range q.waiting {
		count[c]++
		if c.state != waiting {
			t.Fatal("what waits does not know it")
		}
	}
	for _, f := range q.flights {
		count[f.q]++
		if f.q.state != flying {
			t.Fatal("what flies does not know it")
		}
	}
	for _, c := range calls {
		if count[c] > 1 || count[c] == 1 != (c.state != idle) || c.again && c.state != flying {
			t.Fatalf("state %v, in %d places, again %v", c.state, count[c], c.again)
		}
	}
	if s := q.stats; s.Asked != s.Answered+s.Errors+s.Lost+uint64(len(q.flights)) {
		t.Fatalf("%+v, %d in flight", s, len(q.flights))
	}
	if at, ok := q.deadline(); ok {
		if limit := q.flights[0].sent.Add(window * q.timeout); at.After(limit) || at.Before(q.flights[0].sent.Add(q.timeout)) {
			t.Fatal("the deadline is out of bounds")
		}
	}
}

func TestParseAnswer(t *testing.T) {
	for line, want := range map[string]answer{
		"score 17 0.5":        {kind: score, id: 17, score: 0.5},
		"score 1 -1e-300":     {kind: score, id: 1, score: -1e-300},
		"score 1 inf":         {kind: score, id: 1, score: math.Inf(1)},
		"score 1 1e999":       {kind: score, id: 1, score: math.Inf(1)},
		"error 18 too hot":    {kind: failure, id: 18, text: "too hot"},
		"error 18":            {kind: failure, id: 18},
		"error 18 \x1b[2Jbad": {kind: failure, id: 18, text: " [2Jbad"},
		"pong 19":             {kind: pong, id: 19},
	} {
		if got, err := parseAnswer(line); err != nil || got != want {
			t.Errorf("%q: %+v, %v", line, got, err)
		}
	}
	if a, err := parseAnswer("score 1 nan"); err != nil || !math.IsNaN(a.score) {
		t.Errorf("nan: %+v, %v", a, err)
	}
	for _, line := range []string{"", "score", "score 1", "score 1 ", "score x 1", "score 1 1 2", "score -1 1", "pong 1 2", "Score 1 2", "hello", "score 99999999999999999999 1"} {
		if got, err := parseAnswer(line); err == nil {
			t.Errorf("%q is taken as %+v", line, got)
		}
	}
}

func TestParseHello(t *testing.T) {
	for line, want := range map[string]int{"edgeagent-model 1 features=3": 3, "edgeagent-model 1 name=pump features=12 x": 12} {
		if got, err := parseHello(line); err != nil || got != want {
			t.Errorf("%q: %v, %v", line, got, err)
		}
	}
	for _, line := range []string{"", "edgeagent-model 2 features=3", "edgeagent-model 1", "edgeagent-model 1 features=x", "edgeagent-model 1 features=0", "edgeagent-model 12 features=3", "error only version 2", "error"} {
		if got, err := parseHello(line); err == nil {
			t.Errorf("%q is taken: %d", line, got)
		}
	}
}

func FuzzLines(f *testing.F) {
	for _, s := range []string{"score 17 0.5", "error 18 too hot", "pong 19", "edgeagent-model 1 features=3", "error \xff\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if a, err := parseAnswer(line); err == nil && (len(a.text) > 3*maxText || a.kind == score && len(line) < len("score 1 1")) {
			t.Fatalf("%q: %+v", line, a)
		}
		if n, err := parseHello(line); err == nil && n < 1 {
			t.Fatalf("%q: %d", line, n)
		}
	})
}

func TestScoreLine(t *testing.T) {
	got := string(appendScore(nil, 17, []float64{20.5, math.NaN(), 3, math.Inf(1), math.Inf(-1), 1e-7, 0}))
	if want := "score 17 20.5 nan 3 inf -inf 1e-07 0\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
