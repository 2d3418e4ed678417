package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rulesCommand runs a command and returns all that it printed, and its exit code.
func rulesCommand(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	code := run(t.Context(), append([]string{"rules"}, args...), &out, &out)
	return fmt.Sprintf("$ rules %s\n%sexit %d\n", strings.Join(args, " "), out.String(), code)
}

// TestRulesCommands prints what the commands say of the documented rules.
func TestRulesCommands(t *testing.T) {
	abs, err := filepath.Abs(filepath.Join("testdata", "rules"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for _, name := range []string{"rules.yaml", "rules_test.yaml"} {
		text, err := os.ReadFile(filepath.Join(abs, name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, name, string(text))
		if name == "rules.yaml" {
			write(t, "bad.yaml", strings.Replace(string(text), "avg(temp", "avgg(temp", 1))
			write(t, "old.yaml", strings.Replace(string(text), "for: 30s", "for: 60s", 1))
		} else {
			write(t, "failing_test.yaml", strings.Replace(string(text), "alerts: 1", "alerts: 3", 1))
		}
	}
	var csv strings.Builder
	csv.WriteString("time_ns,series,value\n")
	for i := range 400 {
		fmt.Fprintf(&csv, "%d,boiler/temp,%d\n", int64(1700000000+i)*1e9, 70+25*min(1, i/100))
	}
	write(t, "data.csv", csv.String())
	var out strings.Builder
	for _, args := range [][]string{
		{"check", "rules.yaml"},
		{"check", "bad.yaml"},
		{"list", "rules.yaml"},
		{"test", "rules_test.yaml", "--junit", "report.xml"},
		{"test", "failing_test.yaml"},
		{"backtest", "rules.yaml", "--data", "data.csv", "--against", "old.yaml"},
		{"backtest", "rules.yaml"},
		{"explain", "boiler-overheat", "rules.yaml", "--data", "data.csv", "--at", "2023-11-14T22:15:20Z"},
		{"explain", "boiler", "rules.yaml", "--data", "data.csv"},
		{"check", "rules.yaml", "--json"},
		{"check", "bad.yaml", "--json"},
		{"list", "rules.yaml", "--json"},
		{"test", "rules_test.yaml", "--json"},
		{"test", "rules_test.yaml", "failing_test.yaml", "--json"},
		{"backtest", "rules.yaml", "--data", "data.csv", "--json"},
		{"backtest", "rules.yaml", "--data", "data.csv", "--against", "old.yaml", "--json"},
		{"explain", "boiler-overheat", "rules.yaml", "--data", "data.csv", "--at", "2023-11-14T22:15:20Z", "--json"},
	} {
		out.WriteString(rulesCommand(t, args...))
	}
	path := filepath.Join(abs, "commands.golden")
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("-update writes it anew:\n%s", diff)
	}
	if report, err := os.ReadFile("report.xml"); err != nil || !bytes.Contains(report, []byte(`failures="0"`)) {
		t.Errorf("JUnit: %s, %v", report, err)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
