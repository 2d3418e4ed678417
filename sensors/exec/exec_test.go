//go:build unix

package exec

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/sensortest"
)

func outputOf(c *Config, out string) (string, error) {
	var got []string
	err := parse(c, []byte(out), func(metric string, v float64) error {
		got = append(got, fmt.Sprintf("%s=%v", metric, v))
		return nil
	})
	return strings.Join(got, " "), err
}

func TestFormats(t *testing.T) {
	for _, tt := range []struct{ name, format, in, want, err string }{
		{"a value", FormatValue, " 21.5\n", "value=21.5", ""},
		{"no value", FormatValue, "", "", "not a number"},
		{"two values", FormatValue, "1 2", "", "not a number"},
		{"NaN", FormatValue, "nan", "", "not a number"},
		{"json", FormatJSON, `{"cpu":{"load":0.5,"hot":true},"name":"x"}`, "cpu_load=0.5 cpu_hot=1", ""},
		{"a json number", FormatJSON, `7`, "value=7", ""},
		{"json cut off", FormatJSON, `{"a":1,`, "a=1", "not JSON"},
		{"lines", FormatLines, "temp 21.5\n# c\n\nhum=40\nfan speed: 900\n", "temp=21.5 hum=40 fan_speed=900", ""},
		{"a line without a value", FormatLines, "a 1\ntemp\nb 2", "a=1", "no name and value"},
		{"a line with a text", FormatLines, "temp warm", "", "does not end with a number"},
		{"a line without a name", FormatLines, "= 3", "", "not the name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Default()
			c.Format = tt.format
			got, err := outputOf(c, tt.in)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func FuzzOutput(f *testing.F) {
	f.Add("lines", "a 1\nb=2")
	f.Add("json", `{"a":[1,{"b":2}]}`)
	f.Add("value", "-1e5")
	f.Fuzz(func(t *testing.T, format, out string) {
		c := Default()
		c.Format = format
		_ = parse(c, []byte(out), func(metric string, v float64) error {
			if metric == "" || strings.ContainsAny(metric, "/ ") || math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%q gives %q = %v", out, metric, v)
			}
			return nil
		})
	})
}

// script writes a program and returns its path.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProgram(t *testing.T) {
	t.Setenv("SECRET", "do not pass on")
	for _, tt := range []struct{ name, text, want, err string }{
		{"arguments are not a shell's", `printf '%s|' "$@"`, "a b|$HOME;rm|", ""},
		{"environment", `echo "$SECRET/$EXTRA/$PWD/$LANG"`, "/1///C.UTF-8\n", ""},
		{"input is empty", `cat; echo done`, "done\n", ""},
		{"failure", `echo half; echo "no sensor  here" >&2; exit 3`, "", "exit status 3: no sensor here"},
		{"too much", `while :; do echo 0123456789012345678901234567890123456789; done`, "", "printed too much"},
		{"deadline", `sleep 100 & sleep 100`, "", "killed: context deadline exceeded"},
		{"deadline with the output held open", `(sleep 100) & echo x; exec sleep 100`, "", "killed"},
		{"a child that stays behind", `sleep 100 & echo done`, "done\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			deadline := 30 * time.Second
			if strings.HasPrefix(tt.name, "deadline") {
				deadline = 700 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			p := Program{Path: script(t, tt.text), Args: []string{"a b", "$HOME;rm"}, Env: []string{"EXTRA=1"}, MaxOutput: 1000}
			out, err := p.Run(ctx)
			if string(out) != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %q, %v", out, err)
			}
		})
	}
	_, err := Program{Path: "/no/such/program"}.Run(t.Context())
	if h, ok := errors.AsType[edgeagent.Hinter](err); !ok || h.Hint() == "" {
		t.Errorf("got %v", err)
	}
	if _, err := (Program{Path: "/bin/sh", User: "no-such-user"}).Run(t.Context()); err == nil {
		t.Error("a user that is not there")
	}
}

func TestDriver(t *testing.T) {
	c := Default()
	path := script(t, `echo '{"a":1,"b":2}'`)
	c.Command, c.Format, c.Units = []string{"./" + filepath.Base(path)}, FormatJSON, map[string]string{"a": "V"}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	env := sensortest.Env("p")
	env.Dir = filepath.Dir(path)
	s, err := c.Open(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := s.Sample(t.Context(), nil)
	if err != nil || len(rs) != 2 || rs[0].Series.String() != "p/a" || rs[0].Series.Key().Unit != "V" || rs[1].Value != 2 {
		t.Errorf("got %v, %v", rs, err)
	}
}

func TestMetricsAreBounded(t *testing.T) {
	c := Default()
	c.Command, c.Format = []string{"/x"}, FormatLines
	s, err := c.Open(t.Context(), sensortest.Env("p"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	s.(*source).run = func(context.Context) ([]byte, error) {
		var b strings.Builder
		for range 100 {
			n++
			fmt.Fprintf(&b, "m%d 1\n", n)
		}
		return []byte(b.String()), nil
	}
	total := 0
	for range 5 {
		rs, _ := s.Sample(t.Context(), nil)
		total += len(rs)
	}
	if _, err := s.Sample(t.Context(), nil); total != maxMetrics || err == nil {
		t.Errorf("%d readings, %v", total, err)
	}
}

func TestConformance(t *testing.T) {
	sensortest.Run(t, func(t *testing.T, env sensors.Env) sensors.Source {
		c := Default()
		c.Command = []string{"/x"}
		s, err := c.Open(t.Context(), env)
		if err != nil {
			t.Fatal(err)
		}
		s.(*source).run = func(context.Context) ([]byte, error) { return []byte("1\n"), nil }
		return s
	})
}

func TestValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"nothing":     {func(c *Config) { c.Command = nil }, "command: missing key command"},
		"not a path":  {func(c *Config) { c.Command = []string{"date"} }, `command: "date" is not a path`},
		"format":      {func(c *Config) { c.Format = "xml" }, `format: "xml" is not possible`},
		"metric":      {func(c *Config) { c.Metric = "a/b" }, `metric: "a/b" is not`},
		"environment": {func(c *Config) { c.Env = map[string]string{"a=b": "c"} }, `env: "a=b" is not`},
	} {
		c := Default()
		c.Command = []string{"/bin/date"}
		tt.change(c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
