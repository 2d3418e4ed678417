package api

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func scrape(t *testing.T, status Status) string {
	t.Helper()
	s, err := New(Config{}, fixed(status), Options{})
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	s.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	return rec.Body.String()
}

// ours returns the lines of our own families: the rest differs from run to run.
func ours(page string) string {
	var b strings.Builder
	for line := range strings.Lines(page) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "edgeagent_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestMetricsPage(t *testing.T) {
	golden(t, "metrics-degraded.txt", []byte(ours(scrape(t, degradedStatus()))))
}

var (
	comment = regexp.MustCompile(`^# (HELP|TYPE) [a-zA-Z_:][a-zA-Z0-9_:]*( .*)?$`)
	label   = `[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"`
	sample  = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{` + label + `(?:, ?` + label + `)*\})? ([-+]?(?:[0-9.]+(?:e[-+]?[0-9]+)?|Inf)|NaN)$`)
)

// TestMetricsSyntax: every line is valid text format and no series stands twice,
// whatever sensors are called.
func TestMetricsSyntax(t *testing.T) {
	s := degradedStatus()
	s.Sensors[0].Name = "a\"b\\c\nd\xff{}"
	s.Sensors[1].Name = s.Sensors[0].Name // must not happen, must not break the page
	s.Uplinks[0].Name = ""
	seen := map[string]bool{}
	for line := range strings.Lines(scrape(t, s)) {
		line = strings.TrimSuffix(line, "\n")
		if comment.MatchString(line) {
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("not a sample: %q", line)
			continue
		}
		if seen[m[1]+m[2]] {
			t.Errorf("twice: %s%s", m[1], m[2])
		}
		seen[m[1]+m[2]] = true
	}
	if !seen[`edgeagent_sensor_errors_total{sensor="a\"b\\c\nd`+"\uFFFD"+`{}"}`] {
		t.Error("the escaped name is missing")
	}
}

const (
	docPath  = "../../docs/reference/metrics.md"
	docBegin = "<!-- begin: written by go test ./internal/api -update -->\n"
	docEnd   = "<!-- end -->\n"
)

// TestMetricsReference holds the reference page against the table, both ways.
func TestMetricsReference(t *testing.T) {
	s, err := New(Config{}, fixed(Status{}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	want.WriteString("| name | type | labels | meaning |\n|---|---|---|---|\n")
	for _, m := range slices.Concat(statusMetrics(), s.ownMetrics()) {
		var labels []string
		for _, l := range m.labels {
			labels = append(labels, "`"+l+"`")
		}
		want.WriteString("| `" + m.name + "` | " + m.kind + " | " + strings.Join(labels, ", ") + " | " + m.help + " |\n")
	}
	page, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), docBegin)
	old, tail, ok2 := strings.Cut(rest, docEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has lost its marks", docPath)
	}
	if *update {
		if err := os.WriteFile(docPath, []byte(head+docBegin+want.String()+docEnd+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want.String(), old); diff != "" {
		t.Errorf("%s differs from the table (run with -update):\n%s", docPath, diff)
	}
}

// TestMetricsTable: names follow the conventions, and the fullest status shows
// every family of the table.
func TestMetricsTable(t *testing.T) {
	page := scrape(t, degradedStatus())
	seen := map[string]bool{}
	for _, m := range statusMetrics() {
		if seen[m.name] {
			t.Errorf("%s stands twice in the table", m.name)
		}
		seen[m.name] = true
		if counter := strings.HasSuffix(m.name, "_total"); counter != (m.kind == "counter") {
			t.Errorf("%s is a %s", m.name, m.kind)
		}
		if !strings.Contains(page, "# TYPE "+m.name+" "+m.kind+"\n"+m.name) {
			t.Errorf("%s is not on the page", m.name)
		}
	}
}

func BenchmarkMetricsPage(b *testing.B) {
	s := degradedStatus()
	b.ReportAllocs()
	for b.Loop() {
		var page bytes.Buffer
		for _, m := range statusMetrics() {
			m.write(&page, &s)
		}
	}
}
