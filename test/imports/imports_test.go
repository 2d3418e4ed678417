package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/edgeagent/edgeagent"

// goPackage is what go list says of one package.
type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

// table is ARCHITECTURE.md as rules.
type table struct {
	levels map[string]int      // pattern → level
	homes  map[string][]string // module → patterns that may import it
}

func TestImportsFollowArchitecture(t *testing.T) {
	tab := readTable(t, filepath.Join("..", "..", "ARCHITECTURE.md"))
	for _, p := range goList(t, "-e", "./...") {
		pkg := local(p.ImportPath)
		for _, imp := range p.Imports {
			if why := tab.refuse(pkg, imp, false); why != "" {
				t.Errorf("%s imports %s: %s", pkg, imp, why)
			}
		}
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			if why := tab.refuse(pkg, imp, true); why != "" {
				t.Errorf("tests of %s import %s: %s", pkg, imp, why)
			}
		}
	}
}

func TestEveryPackageHasALevel(t *testing.T) {
	tab := readTable(t, filepath.Join("..", "..", "ARCHITECTURE.md"))
	for _, p := range goList(t, "-e", "./...") {
		if _, ok := tab.level(local(p.ImportPath)); !ok {
			t.Errorf("%s stands in no row of the levels table", local(p.ImportPath))
		}
	}
}

func TestAgentLinksNoSinks(t *testing.T) {
	barred := regexp.MustCompile(`/hub/(sinks|inputs)(/|$)|jackc/pgx|twmb/franz-go|nats-io/|modernc\.org/sqlite`)
	for _, p := range goList(t, "-e", "./cmd/edgeagent") {
		for _, dep := range p.Deps {
			if barred.MatchString(dep) {
				t.Errorf("cmd/edgeagent links %s", dep)
			}
		}
	}
}

// TestNothingLinksTheOracle: expr is held against our own expression language in
// a test, and would cost every program 3.5 MB.
func TestNothingLinksTheOracle(t *testing.T) {
	for _, p := range goList(t, "-e", "./cmd/...", "./rules/...") {
		for _, dep := range p.Deps {
			if strings.HasPrefix(dep, "github.com/expr-lang/") {
				t.Errorf("%s links %s", p.ImportPath, dep)
			}
		}
	}
}

// TestRefusals proves that the rules can fail: each line is an arrow that must
// be refused, or allowed, under the real table.
func TestRefusals(t *testing.T) {
	tab := readTable(t, filepath.Join("..", "..", "ARCHITECTURE.md"))
	tests := []struct {
		name, from, to string
		inTest, refuse bool
	}{
		{"down is allowed", "internal/agent", module + "/buffer", false, false},
		{"own child is allowed", "buffer", module + "/buffer/segment", false, false},
		{"own parent of a working folder is allowed", "sensors/i2c", module + "/sensors", false, false},
		{"a sibling is refused", "sensors/i2c", module + "/sensors/replay", false, true},
		{"up is refused", "buffer", module + "/internal/agent", false, true},
		{"same level is refused", "internal/clock", module, false, true},
		{"sideways is refused", "rules", module + "/buffer", false, true},
		{"sync to buffer is refused across levels", "sync/mqtt", module + "/buffer", false, true},
		{"sync to sync is allowed downwards", "sync/mqtt", module + "/sync/uplink", false, false},
		{"hub to agent is refused", "hub", module + "/internal/agent", false, true},
		{"codec from configs is refused", "configs", module + "/buffer/block", false, true},
		{"codec from the hub is allowed", "hub", module + "/buffer/block", false, false},
		{"api looks at root only", "internal/api", module + "/sensors", false, true},
		{"bbolt outside its home is refused", "buffer", "go.etcd.io/bbolt", false, true},
		{"bbolt at home is allowed", "buffer/segment", "go.etcd.io/bbolt", false, false},
		{"yaml outside its home is refused", "rules", "github.com/goccy/go-yaml/ast", false, true},
		{"tests may use the broker", "sync/mqtt", module + "/internal/broker", true, false},
		{"programs of level 1 may not", "sync/uplink", module + "/internal/broker", false, true},
		{"tests may not use the agent", "sync/mqtt", module + "/internal/agent", true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			why := tab.refuse(tt.from, tt.to, tt.inTest)
			if (why != "") != tt.refuse {
				t.Errorf("%s → %s: refused = %q, want refused = %v", tt.from, tt.to, why, tt.refuse)
			}
		})
	}
}

// refuse says why the import of path by our package pkg is not allowed, or "".
func (tab table) refuse(pkg, path string, inTest bool) string {
	if path != module && !strings.HasPrefix(path, module+"/") {
		return tab.refuseForeign(pkg, path)
	}
	to := local(path)
	if to == pkg || strings.HasPrefix(to, pkg+"/") {
		return ""
	}
	if inTest && usableInTests(to) {
		return ""
	}
	from, okFrom := tab.level(pkg)
	level, okTo := tab.level(to)
	switch {
	case !okFrom || !okTo:
		return "a package without a level"
	case level == from && strings.HasPrefix(pkg, to+"/") && part(pkg) != "":
		return "" // a driver folder implements its own parent's interfaces
	case to == "buffer/block" && first(pkg) == "buffer":
		return "" // the format stands below everything that stores it
	case level >= from:
		return "level " + strconv.Itoa(from) + " may not import level " + strconv.Itoa(level)
	case part(pkg) != "" && part(to) != "" && part(pkg) != part(to):
		return part(pkg) + " and " + part(to) + " never import one another"
	case to == "buffer/block" && !slices.Contains([]string{"buffer", "hub", "sim", "cmd", "test"}, first(pkg)):
		return "only buffer, hub, sim and cmd import the codec"
	case slices.Contains([]string{"internal/api", "internal/doctor", "internal/diag"}, pkg) && to != ".":
		return pkg + " imports only the root package of ours"
	}
	return ""
}

func (tab table) refuseForeign(pkg, path string) string {
	for mod, homes := range tab.homes {
		if path != mod && !strings.HasPrefix(path, mod+"/") {
			continue
		}
		for _, home := range homes {
			if match(home, pkg) {
				return ""
			}
		}
		return mod + " is imported from " + strings.Join(homes, " ") + " only"
	}
	return ""
}

func usableInTests(to string) bool {
	return slices.Contains([]string{"sim/bus", "internal/broker", "internal/faultnet"}, to) ||
		strings.HasSuffix(to, "test")
}

// part returns which of the five working folders pkg belongs to, or "".
func part(pkg string) string {
	if f := first(pkg); slices.Contains([]string{"sensors", "rules", "buffer", "sync", "ota"}, f) {
		return f
	}
	return ""
}

func first(pkg string) string { return strings.SplitN(pkg, "/", 2)[0] }

// level returns the level of pkg by the longest pattern that matches it.
func (tab table) level(pkg string) (level int, ok bool) {
	longest := -1
	for pattern, l := range tab.levels {
		if match(pattern, pkg) && len(pattern) > longest {
			level, ok, longest = l, true, len(pattern)
		}
	}
	return level, ok
}

func match(pattern, pkg string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == prefix || strings.HasPrefix(pkg, prefix+"/")
	}
	return pattern == pkg
}

// local turns an import path of ours into a folder: "." is the root.
func local(path string) string {
	path, _, _ = strings.Cut(path, " ") // "pkg [pkg.test]"
	path = strings.TrimSuffix(path, "_test")
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

var code = regexp.MustCompile("`([^`]+)`")

func readTable(t *testing.T, file string) table {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tab := table{levels: map[string]int{}, homes: map[string][]string{}}
	for _, row := range rows(t, string(text), "levels") {
		level, err := strconv.Atoi(strings.TrimSpace(row[0]))
		if err != nil {
			t.Fatalf("levels table: %v", err)
		}
		for _, m := range code.FindAllStringSubmatch(row[1], -1) {
			tab.levels[m[1]] = level
		}
	}
	for _, row := range rows(t, string(text), "homes") {
		mod := code.FindStringSubmatch(row[0])[1]
		for _, m := range code.FindAllStringSubmatch(row[1], -1) {
			tab.homes[mod] = append(tab.homes[mod], m[1])
		}
	}
	if len(tab.levels) < 15 || len(tab.homes) < 10 {
		t.Fatalf("read %d levels and %d homes from %s: the tables have moved", len(tab.levels), len(tab.homes), file)
	}
	return tab
}

// rows returns the cells of the table between the markers of name.
func rows(t *testing.T, text, name string) [][]string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "<!-- "+name+":")
	body, _, okEnd := strings.Cut(rest, "<!-- end -->")
	if !ok || !okEnd {
		t.Fatalf("no %s table", name)
	}
	var out [][]string
	for line := range strings.Lines(body) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) == 2 && code.MatchString(line) {
			out = append(out, cells)
		}
	}
	return out
}

func goList(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-deps=false", "-json=ImportPath,Imports,TestImports,XTestImports,Deps"}, args...)...)
	cmd.Dir = filepath.Join("..", "..")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var pkgs []goPackage
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}
