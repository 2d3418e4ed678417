package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// sample returns a series block and a readings block of epoch 9.
func sample(t *testing.T) (names, readings []byte) {
	t.Helper()
	var e block.Encoder
	names, err := e.Series(nil, "gw-7", 9, []block.SeriesEntry{{ID: 1, Key: edgeagent.SeriesKey{Sensor: "boiler", Metric: "t", Resolution: 6}}})
	if err == nil {
		id := block.ID{Stream: edgeagent.StreamTelemetry, Epoch: 9, First: 1, Run: 3, Resolution: 6}
		readings, err = e.Readings(nil, id, []block.Row{{Series: 1, Time: 1772323200_000000000, Value: 21.5}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return names, readings
}

func decodeCommand(t *testing.T, in []byte, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	root := newRoot()
	root.SetIn(bytes.NewReader(in))
	code = execute(t.Context(), root, append([]string{"decode"}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

func TestDecode(t *testing.T) {
	names, readings := sample(t)
	damaged := bytes.Clone(readings)
	damaged[len(damaged)-1] ^= 1
	both := append(bytes.Clone(names), readings...)
	const line = "boiler,device=gw-7 t=21.5 1772323200000000000\n"
	for name, tt := range map[string]struct {
		in     []byte
		args   []string
		code   int
		stdout string
		stderr string // part of it
	}{
		"line":           {both, nil, 0, line, ""},
		"csv":            {both, []string{"--format", "csv"}, 0, "time_ns,device,series,value,quality\n1772323200000000000,gw-7,boiler/t,21.5,good\n", ""},
		"damaged":        {append(bytes.Clone(both), damaged...), nil, 1, line, "1 block could not be decoded"},
		"nameless":       {readings, nil, 1, "", "hint: a gateway sends names once in a session"},
		"encrypted":      {[]byte("EX\x01\x00"), nil, 1, "", `hint: blocks are encrypted on the gateway's disk only: print them there with "edgeagent buffer export"`},
		"text":           {[]byte("hello"), nil, 1, "", "hint: nothing after it can be found again"},
		"a wrong format": {nil, []string{"--format", "xml"}, 2, "", "unknown format"},
		"a wrong frame":  {nil, []string{"--framing", "lines"}, 2, "", "unknown framing"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := decodeCommand(t, tt.in, tt.args...)
			if code != tt.code || out != tt.stdout || !strings.Contains(errs, tt.stderr) || tt.stderr == "" && errs != "" {
				t.Errorf("exit %d, printed %q and %q; want %d, %q, %q", code, out, errs, tt.code, tt.stdout, tt.stderr)
			}
		})
	}
}

// TestDecodeKeepsNames: names outlive a start, and a crash while they were written.
func TestDecodeKeepsNames(t *testing.T) {
	names, readings := sample(t)
	file := filepath.Join(t.TempDir(), "names")
	if code, _, errs := decodeCommand(t, names, "--names", file); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	kept, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(kept, names) {
		t.Fatalf("kept %d bytes, want %d: %v", len(kept), len(names), err)
	}
	if err := os.WriteFile(file, append(kept, names[:70]...), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		code, out, errs := decodeCommand(t, append(bytes.Clone(names), readings...), "--names", file)
		if code != 0 || out != "boiler,device=gw-7 t=21.5 1772323200000000000\n" {
			t.Fatalf("exit %d, printed %q: %s", code, out, errs)
		}
		if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, names) {
			t.Fatalf("kept %d bytes, want %d: %v", len(now), len(names), err)
		}
	}
	if err := os.WriteFile(file, []byte("precious text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := decodeCommand(t, readings, "--names", file); code != 1 || !strings.Contains(errs, "not a file of names") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if now, _ := os.ReadFile(file); string(now) != "precious text" {
		t.Errorf("a file that is something else is now %q", now)
	}
}
