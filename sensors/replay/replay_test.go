package replay

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/sensortest"
)

// write puts a recording into a temporary directory and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	data := []byte(text)
	if strings.HasSuffix(name, ".gz") {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		data = b.Bytes()
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// seconds is a recording of n readings, a second apart, whose values count.
func seconds(n int) string {
	var b strings.Builder
	b.WriteString("time,value\n")
	for i := range n {
		fmt.Fprintf(&b, "%d,%d\n", 1_700_000_000+i, i)
	}
	return b.String()
}

// config is for a file, at the given pace.
func config(path, pace string) *Config {
	c := Default()
	c.File, c.Pace = path, pace
	return c
}

func open(t *testing.T, c *Config) *source {
	t.Helper()
	s, err := c.Open(t.Context(), sensortest.Env("machine"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	src, _ := s.(*source)
	return src
}

// all samples until the end and returns the readings and the errors on the way.
func all(t *testing.T, s *source) (rs []edgeagent.Reading, errs []string) {
	t.Helper()
	for {
		var err error
		rs, err = s.Sample(t.Context(), rs)
		if err != nil && err.Error() != sensors.ErrEnd.Error() {
			errs = append(errs, err.Error())
		}
		if errors.Is(err, sensors.ErrEnd) {
			return rs, errs
		}
		time.Sleep(s.Next())
	}
}

func TestConformance(t *testing.T) {
	tests := []struct {
		name, file, text, pace string
	}{
		{"one series, original", "a.csv", seconds(20), "original"},
		{"one series, rate", "a.csv.gz", seconds(5000), "100/s"},
		{"many series, max", "b.csv", "time_ns,series,value\n1,a/x,1\n1,a/y,2\n", "max"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.file, tt.text)
			sensortest.Run(t, func(t *testing.T, env sensors.Env) sensors.Source {
				s, err := config(path, tt.pace).Open(t.Context(), env)
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

type row struct {
	Series string
	Unit   string
	Value  float64
	Wall   int64
}

func TestForms(t *testing.T) {
	tests := []struct {
		name, file, text string
		want             []row
	}{
		{"one series", "a.csv", "time,value\n2014-02-14 14:27:00,1.5\n2014-02-14T14:32:00Z,2\n", []row{
			{"machine/heat", "Cel", 1.5, 1392388020e9}, {"machine/heat", "Cel", 2, 1392388320e9},
		}},
		{"NAB's header, CRLF, no last line end, empty lines", "a.csv", "timestamp,value\r\n\r\n2014-02-14 14:27:00,1\r\n\n2014-02-14 14:27:01.25,2", []row{
			{"machine/heat", "Cel", 1, 1392388020e9}, {"machine/heat", "Cel", 2, 1392388021.25e9},
		}},
		{"zipped, byte order mark, quotes, odd header", "a.csv.gz", "\xef\xbb\xbfTime, Value\n\"1392388020\", \"-3e2\"\n", []row{
			{"machine/heat", "Cel", -300, 1392388020e9},
		}},
		{"many series", "b.csv", "time_ns,series,value\n5,hall/bme280-00/temperature,21.5\n5,a,b/c,7\n6,flow,8\n", []row{
			{"hall/bme280-00/temperature", "Cel", 21.5, 5}, {"a,b/c", "Cel", 7, 5}, {"machine/flow", "Cel", 8, 6},
		}},
		{"time_ns means nanoseconds at any size", "c.csv", "time_ns,value\n1392388020,1\n", []row{{"machine/heat", "Cel", 1, 1392388020}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config(write(t, tt.file, tt.text), "max")
			c.Metric, c.Unit, c.Stamp = "heat", "Cel", StampRecorded
			rs, errs := all(t, open(t, c))
			var got []row
			for _, r := range rs {
				if !r.Recorded {
					t.Error("a recorded time is not marked as one")
				}
				got = append(got, row{r.Series.String(), r.Series.Key().Unit, r.Value, r.At.Wall})
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || errs != nil {
				t.Errorf("errors %q, rows (-want +got):\n%s", errs, diff)
			}
		})
	}
}

func TestParseTime(t *testing.T) {
	tests := []struct {
		in   string
		want int64
		ok   bool
	}{
		{"1700000000", 1_700_000_000e9, true},
		{"1700000000123", 1_700_000_000_123e6, true},
		{"1700000000123456", 1_700_000_000_123_456e3, true},
		{"1700000000123456789", 1_700_000_000_123_456_789, true},
		{"-86400", -86400e9, true},
		{"2023-11-14T22:13:20Z", 1_700_000_000e9, true},
		{"2023-11-14T22:13:20.5+01:00", 1_699_996_400.5e9, true},
		{"2023-11-14T22:13:20", 1_700_000_000e9, true},
		{"2023-11-14 22:13:20", 1_700_000_000e9, true},
		{"99999999999", 0, false}, // seconds in the year 5138
		{"9999-01-01 00:00:00", 0, false},
		{"-9223372036854775808", 0, false},
		{"yesterday", 0, false},
		{"", 0, false},
		{"17e8", 0, false},
	}
	for _, tt := range tests {
		if got, ok := parseTime([]byte(tt.in), false); ok != tt.ok || ok && got != tt.want {
			t.Errorf("parseTime(%q) = %d, %v, want %d, %v", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}

func TestBadLinesCostNothingButThemselves(t *testing.T) {
	long := strings.Repeat("x", 3*maxLine)
	text := "time,value\n1,1\nrubbish\n2,2\n3,\n4,4\n,5\n" + long + "\n5,1e999\n6,NaN\n7,-Inf\n8,8,8\n9,9"
	rs, errs := all(t, open(t, config(write(t, "bad.csv", text), "max")))
	var got []string
	for _, r := range rs {
		got = append(got, fmt.Sprint(r.Value))
	}
	if diff := cmp.Diff([]string{"1", "2", "4", "NaN", "-Inf", "9"}, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	want := []string{"bad.csv:3: wrong number of fields (and 5 more lines)"}
	if diff := cmp.Diff(want, errs); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
}

// A million lines of series that are too many must not hold up the good line behind
// them: an error for each would wait each time.
func TestMillionBadLinesInARow(t *testing.T) {
	text := "time_ns,series,value\n1,a/v,1\n" + strings.Repeat("1,b/,1\n", 1_000_000) + "2,a/v,2\n"
	s := open(t, config(write(t, "many.csv", text), "max"))
	rs, errs := all(t, s)
	if len(rs) != 2 || len(errs) > 1_000_000/maxBatch+1 {
		t.Errorf("%d readings, %d errors", len(rs), len(errs))
	}
}

// What the buffer cannot take is refused here, or it would take with it the readings
// of other series in the same batch.
func TestNamesThatNoBufferTakes(t *testing.T) {
	for name, bad := range map[string]string{"not UTF-8": "a\xff\xfe/v", "long": strings.Repeat("n", maxName) + "/v", "slash": "a/"} {
		t.Run(name, func(t *testing.T) {
			rs, errs := all(t, open(t, config(write(t, "a.csv", "time_ns,series,value\n1,a/v,1\n1,"+bad+",2\n1,b/v,3\n"), "max")))
			if len(rs) != 2 || len(errs) != 1 || !strings.HasPrefix(errs[0], "a.csv:3: series name") {
				t.Errorf("%d readings, errors %q", len(rs), errs)
			}
		})
	}
}

func TestTooManySeriesCostNothingButThemselves(t *testing.T) {
	var b strings.Builder
	b.WriteString("time_ns,series,value\n3,x/,3\n")
	for i := range maxSeries + 2 {
		fmt.Fprintf(&b, "1,s%d/v,1\n", i)
	}
	b.WriteString("2,s0/v,2\n")
	rs, errs := all(t, open(t, config(write(t, "many.csv", b.String()), "max")))
	if len(rs) != maxSeries+1 || len(errs) != 2 || !strings.HasSuffix(errs[0], "series name ends with a slash") {
		t.Errorf("%d readings, errors %q", len(rs), errs)
	}
}

func TestOpenErrors(t *testing.T) {
	tests := []struct {
		name, file, text, want string
	}{
		{"empty", "a.csv", "", "is empty"},
		{"no header", "a.csv", "1,2\n3,4\n", `a.csv:1: header is "1,2", want time,value or time_ns,series,value`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config(write(t, tt.file, tt.text), "max").Open(t.Context(), sensortest.Env("s"))
			var h edgeagent.Hinter
			if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.As(err, &h) {
				t.Errorf("error %v, want %q and a hint", err, tt.want)
			}
		})
	}
	if _, err := config("no-such.csv", "max").Open(t.Context(), sensortest.Env("s")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := config(t.TempDir(), "max").Open(t.Context(), sensortest.Env("s")); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("directory: %v", err)
	}
	path := write(t, "plain.csv", seconds(1))
	zipped := path + ".gz"
	if err := os.Rename(path, zipped); err != nil {
		t.Fatal(err)
	}
	if _, err := config(zipped, "max").Open(t.Context(), sensortest.Env("s")); !errors.Is(err, gzip.ErrHeader) {
		t.Errorf("not gzipped: %v", err)
	}
}

func TestBrokenArchiveGivesItsWholeLines(t *testing.T) {
	path := write(t, "cut.csv.gz", seconds(20000))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	rs, errs := all(t, open(t, config(path, "max")))
	for i, r := range rs {
		if r.Value != float64(i) {
			t.Fatalf("reading %d is %v: a number was cut", i, r.Value)
		}
	}
	if len(rs) < 1000 || len(errs) != 1 || !strings.Contains(errs[0], fmt.Sprintf("after line %d: unexpected EOF", len(rs)+1)) {
		t.Errorf("%d readings, errors %q", len(rs), errs)
	}
}

func TestOriginalPaceAndFactor(t *testing.T) {
	for pace, factor := range map[string]float64{"original": 1, "10x": 10, "0.5x": 0.5} {
		t.Run(pace, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rs, _ := all(t, open(t, config(write(t, "a.csv", seconds(50)), pace)))
				if len(rs) != 50 {
					t.Fatalf("%d readings", len(rs))
				}
				for i, r := range rs {
					if got, want := r.At.Run-rs[0].At.Run, int64(math.Round(float64(i)/factor*1e9)); got != want {
						t.Errorf("reading %d is stamped %d ns after the first, want %d", i, got, want)
					}
					if r.At.Wall-rs[0].At.Wall != r.At.Run-rs[0].At.Run || r.Recorded {
						t.Errorf("reading %d: wall and run time differ", i)
					}
				}
			})
		})
	}
}

func TestTimesThatGoBackAreDueAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := config(write(t, "a.csv", "time,value\n100,1\n110,2\n50,3\n112,4\n"), "original")
		c.Stamp = StampRecorded
		rs, _ := all(t, open(t, c))
		if len(rs) != 4 || time.Since(start) != 12*time.Second {
			t.Errorf("%d readings in %v, want 4 in 12s", len(rs), time.Since(start))
		}
	})
}

// counter is a sink that can be slow.
type counter struct {
	mu    sync.Mutex
	n     int
	delay func() time.Duration
}

func (c *counter) Put(_ context.Context, rs []edgeagent.Reading) error {
	if c.delay != nil {
		time.Sleep(c.delay())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += len(rs)
	return nil
}

func (c *counter) count() int { c.mu.Lock(); defer c.mu.Unlock(); return c.n }

// run plays a file through the real scheduler for a while.
func run(t *testing.T, c *Config, k *counter, do func(s *sensors.Scheduler)) {
	t.Helper()
	env := sensortest.Env("")
	spec := sensors.NewSpec(sensors.Config{Name: "machine", Driver: "replay", Options: c}, env)
	s := sensors.NewScheduler([]sensors.Spec{spec}, k, sensors.Options{Clock: env.Clock})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	do(s)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := s.Taken(); got != uint64(k.count()) {
		t.Errorf("taken %d, put %d", got, k.count())
	}
}

func TestRateIsExactInTheLongRun(t *testing.T) {
	tests := []struct {
		pace string
		took time.Duration
		want int
	}{
		{"10000/s", 20 * time.Second, 200_000},
		{"1/s", time.Minute, 60},
		{"0.1/s", time.Minute, 6},
		{"333.333/s", 10 * time.Minute, 199_999}, // floor(333.333 × 600)
		{"100000/s", 4 * time.Second, 400_000},
	}
	path := write(t, "a.csv", seconds(1000))
	for _, tt := range tests {
		t.Run(tt.pace, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := config(path, tt.pace)
				c.Loop = true
				k := &counter{}
				run(t, c, k, func(*sensors.Scheduler) {
					time.Sleep(tt.took + time.Millisecond)
					synctest.Wait()
					if got := k.count(); got != tt.want {
						t.Errorf("%d readings after %v, want %d", got, tt.took, tt.want)
					}
				})
			})
		})
	}
}

func TestRateCatchesUpWithASlowSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(write(t, "a.csv", seconds(1000)), "1000/s")
		c.Loop = true
		puts := 0
		k := &counter{delay: func() time.Duration {
			if puts++; puts == 10 {
				return 7 * time.Second
			}
			return 0
		}}
		run(t, c, k, func(*sensors.Scheduler) {
			time.Sleep(20*time.Second + time.Millisecond)
			synctest.Wait()
			if got := k.count(); got != 20_000 {
				t.Errorf("%d readings after 20s, want 20000", got)
			}
		})
	})
}

func TestStampsRiseAndStayNearNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(write(t, "a.csv", seconds(1000)), "500/s")
		c.Loop = true
		s := open(t, c)
		var last int64
		for i := range 100 {
			rs, err := s.Sample(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			now := s.env.Now()
			for j, r := range rs {
				if r.At.Run < last || (i < 51 || i > 52) && r.At.Run == last && j > 0 {
					t.Fatalf("sample %d: stamp %d after %d", i, r.At.Run, last)
				}
				if now.Run-r.At.Run > int64(maxLag) || now.Wall-r.At.Wall != now.Run-r.At.Run {
					t.Fatalf("sample %d: stamp %v at %v", i, r.At, now)
				}
				last = r.At.Run
			}
			time.Sleep(s.Next())
			if i == 50 {
				time.Sleep(10 * time.Second) // nobody asked for ten seconds
			}
		}
	})
}

func TestLoopAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(write(t, "a.csv", seconds(5)), "original")
		c.Loop = true
		k := &counter{}
		run(t, c, k, func(*sensors.Scheduler) {
			time.Sleep(49*time.Second + 500*time.Millisecond)
			synctest.Wait()
			if got := k.count(); got != 50 { // a second between passes, as within them
				t.Errorf("%d readings in 49.5s, want 50", got)
			}
		})
	})
	synctest.Test(t, func(t *testing.T) {
		k := &counter{}
		run(t, config(write(t, "a.csv", seconds(5)), "original"), k, func(s *sensors.Scheduler) {
			time.Sleep(time.Minute)
			synctest.Wait()
			if h := s.Stats()[0].Health; h.Code != sensors.CodeEnded || h.Level != edgeagent.OK || k.count() != 5 {
				t.Errorf("%d readings, health %+v", k.count(), h)
			}
		})
	})
}

func TestLoopAtFullPaceDoesNotPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(write(t, "a.csv", seconds(100)), "max")
		c.Loop = true
		rs, err := open(t, c).Sample(t.Context(), nil)
		if err != nil || len(rs) != maxBatch {
			t.Errorf("%d readings, %v, want %d from many passes", len(rs), err, maxBatch)
		}
	})
}

func TestLoopOverNothingEnds(t *testing.T) {
	c := config(write(t, "a.csv", "time,value\nrubbish\n"), "max")
	c.Loop = true
	rs, errs := all(t, open(t, c))
	if len(rs) != 0 || len(errs) != 2 || !strings.Contains(errs[1], "holds no reading") {
		t.Errorf("%d readings, errors %q", len(rs), errs)
	}
}

func TestBatchesAreBounded(t *testing.T) {
	s := open(t, config(write(t, "a.csv", seconds(10_000)), "max"))
	rs, err := s.Sample(t.Context(), nil)
	if err != nil || len(rs) != maxBatch {
		t.Errorf("%d readings, %v, want %d", len(rs), err, maxBatch)
	}
}

func TestBadLinesDegradeButDoNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := seconds(100) + strings.Repeat("rubbish\n", 50) + "1700000200,1\n"
		k := &counter{}
		run(t, config(write(t, "a.csv", text), "original"), k, func(s *sensors.Scheduler) {
			time.Sleep(150 * time.Second)
			synctest.Wait()
			st := s.Stats()[0]
			if st.Errors != 1 || !strings.HasSuffix(st.LastError, "(and 49 more lines)") || st.Health.Level != edgeagent.Degraded {
				t.Errorf("errors %d, health %+v", st.Errors, st.Health)
			}
			time.Sleep(51 * time.Second)
			synctest.Wait()
			if k.count() != 101 {
				t.Errorf("%d readings, want 101", k.count())
			}
		})
	})
}

func TestValidate(t *testing.T) {
	good := config("a.csv", "10x")
	if err := good.Validate(); err != nil {
		t.Errorf("good: %v", err)
	}
	bad := &Config{Metric: "a/b", Pace: "fast", Stamp: "then"}
	want := `file: missing key file
metric: "a/b" is not the name of a metric: it must not be empty or hold a slash
pace: pace "fast" is not possible, want original, a factor like 10x, a rate like 1000/s, or max
stamp: "then" is not possible, want now or recorded`
	if err := bad.Validate(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestParsePace(t *testing.T) {
	for _, bad := range []string{"", "x", "/s", "0x", "0/s", "-1/s", "NaNx", "Inf/s", "1e9x", "1e8/s", "0.0001x", "10", "10 per s"} {
		if p, err := parsePace(bad); err == nil {
			t.Errorf("parsePace(%q) = %+v, want an error", bad, p)
		}
	}
	if p, err := parsePace("2.5/s"); err != nil || p.due(4, 0) != 2*time.Second {
		t.Errorf("2.5/s: %v, due %v, want 2s for the fifth reading", err, p.due(4, 0))
	}
}

func TestDueDoesNotOverflow(t *testing.T) {
	slow := pace{milli: 1}
	if got := slow.due(0, math.MaxInt64); got <= 0 {
		t.Errorf("due %v", got)
	}
	rate := pace{milli: 1, perSecond: true}
	if got := rate.due(math.MaxUint64-1, 0); got <= 0 {
		t.Errorf("due %v", got)
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	var b strings.Builder
	b.WriteString("time_ns,series,value\n")
	for i := range 102 * maxBatch {
		fmt.Fprintf(&b, "%d,hall/bme280-%02d/temperature,21.%02d\n", int64(1_700_000_000_000_000_000)+int64(i), i%20, i%100)
	}
	s := open(t, config(write(t, "a.csv", b.String()), "max"))
	dst := make([]edgeagent.Reading, 0, maxBatch)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := s.Sample(t.Context(), dst); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a batch of %d", n, maxBatch)
	}
}

func FuzzParseLine(f *testing.F) {
	for _, seed := range []string{"1,2", "2014-02-14 14:27:00,1.5", "5,hall/x,1", "5,a,b,NaN", `"1","2"`, ",,", "\xff,1"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		for _, form := range []form{{}, {many: true}, {nanos: true}, {many: true, nanos: true}} {
			before := bytes.Clone(line)
			r, err := parseLine(line, form)
			if !bytes.Equal(before, line) {
				t.Fatal("the line was changed")
			}
			if err == nil && form.many != (len(r.series) > 0) {
				t.Fatalf("series %q in form %+v", r.series, form)
			}
		}
	})
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("time,value\n1,2\n\n3,x\n"))
	f.Add([]byte("time_ns,series,value\n1,a/b,2\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "f.csv")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c := config(path, "max")
		s, err := c.Open(t.Context(), sensortest.Env("s"))
		if err != nil {
			return
		}
		defer s.Close()
		lines := bytes.Count(data, []byte("\n")) + 2
		var rs []edgeagent.Reading
		for range 2 * lines {
			if rs, err = s.Sample(t.Context(), rs); errors.Is(err, sensors.ErrEnd) {
				if len(rs) > lines {
					t.Fatalf("%d readings from %d lines", len(rs), lines)
				}
				return
			}
		}
		t.Fatal("the file does not end")
	})
}

func BenchmarkSample(b *testing.B) {
	var text strings.Builder
	text.WriteString("time_ns,series,value\n")
	for i := range 100_000 {
		fmt.Fprintf(&text, "%d,hall/bme280-%02d/temperature,21.%02d\n", int64(1_700_000_000_000_000_000)+int64(i), i%20, i%100)
	}
	path := filepath.Join(b.TempDir(), "a.csv")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	c := config(path, "max")
	c.Loop = true
	s, err := c.Open(b.Context(), sensortest.Env("s"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var n int
	dst := make([]edgeagent.Reading, 0, maxBatch)
	for b.Loop() {
		rs, err := s.Sample(b.Context(), dst)
		if err != nil {
			b.Fatal(err)
		}
		n += len(rs)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "readings/s")
}
