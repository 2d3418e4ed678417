package agent

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent/sensors"
)

var update = flag.Bool("update", false, "write docs/reference/sensors.md anew")

// TestSensorsReference holds docs/reference/sensors.md against the drivers.
func TestSensorsReference(t *testing.T) {
	const begin, end = "<!-- begin: written by go test ./internal/agent -run SensorsReference -update -->\n", "<!-- end -->"
	path := filepath.Join("..", "..", "docs", "reference", "sensors.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	was, after, okEnd := strings.Cut(rest, end)
	if !ok || !okEnd {
		t.Fatalf("%s has no place for the drivers", path)
	}
	var w strings.Builder
	for _, d := range Drivers() {
		writeDriver(&w, d)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+w.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(was, w.String()); diff != "" {
		t.Errorf("%s (-) and the drivers (+):\n%s", path, diff)
	}
}

func writeDriver(w *strings.Builder, d sensors.Driver) {
	fmt.Fprintf(w, "### %s\n\n%s.\n\n", d.Name, strings.ToUpper(d.Summary[:1])+d.Summary[1:])
	s := d.Datasheet
	if s == nil {
		return
	}
	fmt.Fprintf(w, "Chips: %s. Data sheets: %s.", s.Chips, s.Documents)
	if s.Conversion > 0 {
		fmt.Fprintf(w, " A measurement takes up to %s.", s.Conversion)
	}
	fmt.Fprint(w, "\n\n| metric | unit | range | step | accuracy | fastest change |\n|---|---|---|---|---|---|\n")
	for _, m := range s.Metrics {
		rate := "none"
		if m.MaxRate > 0 {
			rate = number(m.MaxRate) + " a second"
		}
		fmt.Fprintf(w, "| `%s` | %s | %s to %s | %s | %s | %s |\n",
			m.Name, m.Unit, number(m.Min), number(m.Max), number(m.Step), m.Accuracy, rate)
	}
	fmt.Fprintf(w, "\n%s\n\n", s.Doubts)
}

// number writes a number for people: at most four digits behind the first.
func number(v float64) string {
	if v == float64(int64(v)) {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
