package configs

import (
	"encoding"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/i2c"
)

// documented is a row of a table of keys. Cells that hold nothing but a value in
// backticks are values; all others are words.
type documented struct{ def, low, high string }

var (
	valueCell = regexp.MustCompile("^`([^`]+)`$")
	leastTo   = regexp.MustCompile("^`([^`]+)` to `([^`]+)`")
	atLeast   = regexp.MustCompile("^at least `([^`]+)`")
	atMost    = regexp.MustCompile("^at most `([^`]+)`")
)

func parseRow(def, bounds string) documented {
	var d documented
	if m := valueCell.FindStringSubmatch(def); m != nil {
		d.def = m[1]
	}
	if m := leastTo.FindStringSubmatch(bounds); m != nil {
		d.low, d.high = m[1], m[2]
	}
	if m := atLeast.FindStringSubmatch(bounds); m != nil {
		d.low = m[1]
	}
	if m := atMost.FindStringSubmatch(bounds); m != nil {
		d.high = m[1]
	}
	return d
}

// reference reads docs/reference/configuration.md: the rows of its tables of keys,
// by the full path of the key. The keys of rule files begin with "file."
func reference(t *testing.T) map[string]documented {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "reference", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{
		"## Top level": "", "## Sensors": "sensors[].", "### Drivers": "driver.", "## Buffer": "buffer.",
		"## Destinations": "destinations[].", "## Outputs": "outputs[].", "## Rule files": "file.",
	}
	rows, prefix := map[string]documented{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			prefix = sections[line]
		}
		cells := strings.Split(strings.ReplaceAll(strings.Trim(line, "|"), " | ", "\x00"), "\x00")
		if !strings.HasPrefix(line, "| `") || strings.Count(line, "|") != 5 {
			continue
		}
		// An empty cell at the end leaves less to split.
		cells = append(cells, "", "")
		key := valueCell.FindStringSubmatch(strings.TrimSpace(cells[0]))
		if key == nil {
			t.Errorf("row with another first cell than one key: %s", line)
			continue
		}
		path := prefix + key[1]
		if _, twice := rows[path]; twice {
			t.Errorf("key %s stands twice", path)
		}
		rows[path] = parseRow(strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3]))
	}
	return rows
}

// keysOf returns the paths of the keys below typ. A struct that other rows of the
// page describe one by one has a row itself only where the page wants one.
func keysOf(typ reflect.Type, prefix string) []string {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if reflect.PointerTo(typ).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return []string{prefix}
	}
	switch {
	case typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct:
		return append([]string{prefix}, keysOf(typ.Elem(), prefix+"[]")...)
	case typ.Kind() != reflect.Struct:
		return []string{prefix}
	}
	var keys []string
	for f := range typ.Fields() {
		if f.Anonymous && f.Tag.Get("yaml") == "" && f.Type.Kind() == reflect.Struct {
			keys = append(keys, keysOf(f.Type, prefix)...) // shares the mapping
			continue
		}
		if name := f.Tag.Get("yaml"); name != "" && name != "-" {
			keys = append(keys, keysOf(f.Type, join(prefix, name))...)
		}
	}
	return keys
}

func TestReferenceHasEveryKey(t *testing.T) {
	want := append(keysOf(reflect.TypeFor[Config](), ""), keysOf(reflect.TypeFor[rules.File](), "file")...)
	for _, d := range realDrivers() {
		want = append(want, "driver."+d.Name) // the table that says what drivers read has other columns
		want = append(want, keysOf(reflect.TypeOf(d.New()), "driver."+d.Name)...)
	}
	got := reference(t)
	for _, d := range realDrivers() {
		got["driver."+d.Name] = documented{}
	}
	// Parts with a section of their own have one row that points there.
	want = append(want, "buffer")
	slices.Sort(want)
	if diff := cmp.Diff(slices.Compact(want), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("keys of the program (-) and of docs/reference/configuration.md (+):\n%s", diff)
	}
}

func TestReferenceHasEveryDriver(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "reference", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range realDrivers() {
		if !strings.Contains(string(text), "\n| `"+d.Name+"` | ") {
			t.Errorf("driver %s has no row", d.Name)
		}
	}
}

// written builds a file in which the keys are set: mappings in flow style, so that
// any path can be added.
type written map[string]any

func (w written) set(path, value string) {
	head, rest, more := strings.Cut(path, ".")
	if !more {
		w[head] = value
		return
	}
	name, list := strings.CutSuffix(head, "[]")
	if !list {
		sub, ok := w[name].(written)
		if !ok {
			sub = written{}
			w[name] = sub
		}
		sub.set(rest, value)
		return
	}
	items, ok := w[name].([]written)
	if !ok {
		items = []written{{}}
		w[name] = items
	}
	items[0].set(rest, value)
}

func flow(v any) string {
	switch v := v.(type) {
	case written:
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, k+": "+flow(v[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []written:
		return "[" + flow(v[0]) + "]"
	default:
		return fmt.Sprint(v)
	}
}

// minimal returns a file that is right and mentions the part that path is of.
func minimal(path string) written {
	w := written{}
	w.set("version", "1")
	switch {
	case strings.HasPrefix(path, "sensors[]."):
		w.set("sensors[].name", "s")
		w.set("sensors[].driver", "load")
	case strings.HasPrefix(path, "destinations[]."):
		w.set("destinations[].name", "d")
		w.set("destinations[].links[].url", `"mqtt://localhost:1883"`)
		switch {
		case path == "destinations[].links[].nstart":
			w.set("destinations[].links[].url", `"coap://localhost"`)
		case path == "destinations[].burst":
			w.set("destinations[].rate", "1000")
		case strings.HasPrefix(path, "destinations[].quota."):
			w.set("destinations[].quota.limit", "1GiB")
		case strings.HasPrefix(path, "destinations[].connect."):
			w.set("destinations[].connect.times", `["02:00-03:00"]`)
		}
	case strings.HasPrefix(path, "outputs[]."):
		w.set("outputs[].name", "o")
		w.set("outputs[].line", "GPIO17")
	case strings.HasPrefix(path, "driver."):
		name, _, _ := strings.Cut(strings.TrimPrefix(path, "driver."), ".")
		w.set("sensors[].name", "s")
		w.set("sensors[].driver", name)
		if slices.ContainsFunc(i2c.Drivers(), func(d sensors.Driver) bool { return d.Name == name }) {
			w.set("sensors[].bus", "1")
		}
		for _, required := range []string{"hwmon.chip a", "iio.device a", "w1.id 28-0123456789ab", "gpio.line GPIO17", "modbus.url tcp://h", "modbus.preset sdm120", "mqtt.topics [{filter: a/b}]", "exec.command [/bin/date]", "gps.port /dev/ttyACM0", "replay.file a.csv"} {
			if rest, ok := strings.CutPrefix(required, name+"."); ok {
				key, value, _ := strings.Cut(rest, " ")
				w.set("sensors[]."+key, value)
			}
		}
		if strings.HasPrefix(path, "driver.mqtt.topics[].") {
			delete(w["sensors"].([]written)[0], "topics")
			w.set("sensors[].topics[].filter", "a/b")
			if strings.Contains(path, ".metrics[].") {
				w.set("sensors[].topics[].metrics[].path", "a")
			}
		}
		if strings.Contains(path, ".registers[].") {
			w.set("sensors[].registers[].metric", "m")
		}
	case strings.HasPrefix(path, "file.rules[]."):
		w.set("rules[].id", "r")
		w.set("rules[].inputs", "{x: a/b}")
		w.set("rules[].when", "x > 1")
		w.set("rules[].do", "[{alert: {text: hot}}]")
	}
	return w
}

// loadWith reads the minimal file of path with value there; "" leaves it out.
func loadWith(path, value string) (any, error) {
	w := minimal(path)
	inFile := path
	if rest, ok := strings.CutPrefix(path, "driver."); ok {
		_, key, _ := strings.Cut(rest, ".")
		inFile = "sensors[]." + key
	}
	rest, isRules := strings.CutPrefix(path, "file.")
	if isRules {
		inFile = rest
	}
	if value != "" {
		w.set(inFile, value)
	}
	if isRules {
		var f rules.File
		err := Decode("rules.yaml", []byte(flow(w)), &f)
		return f, err
	}
	c, err := Parse("edge.yaml", []byte(flow(w)), Options{Drivers: realDrivers()})
	return c, err
}

// A default that is written out changes nothing.
func TestReferenceDefaults(t *testing.T) {
	checked := 0
	for path, row := range reference(t) {
		if row.def == "" || row.def == "warning" { // severity is a pointer: its absence is kept
			continue
		}
		without, err := loadWith(path, "")
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		with, err := loadWith(path, row.def)
		if err != nil {
			t.Errorf("%s: default %s is refused: %v", path, row.def, err)
			continue
		}
		if !reflect.DeepEqual(without, with) {
			t.Errorf("%s: %s is not the default", path, row.def)
		}
		checked++
	}
	if checked < 20 {
		t.Errorf("only %d defaults found", checked)
	}
}

// Bounds are accepted, and what is just beyond is not.
func TestReferenceBounds(t *testing.T) {
	checked := 0
	for path, row := range reference(t) {
		for _, b := range []struct {
			bound string
			step  int
		}{{row.low, -1}, {row.high, 1}} {
			if b.bound == "" {
				continue
			}
			checked++
			if _, err := loadWith(path, b.bound); err != nil {
				t.Errorf("%s: bound %s is refused: %v", path, b.bound, err)
			}
			over := beyond(t, b.bound, b.step)
			if _, err := loadWith(path, over); err == nil {
				t.Errorf("%s: %s is accepted, beyond %s", path, over, b.bound)
			}
		}
	}
	if checked < 30 {
		t.Errorf("only %d bounds found", checked)
	}
}

// beyond returns the value one unit beyond a bound.
func beyond(t *testing.T, bound string, step int) string {
	t.Helper()
	if n, err := strconv.ParseInt(bound, 0, 64); err == nil {
		return strconv.FormatInt(n+int64(step), 10)
	}
	if d, err := time.ParseDuration(bound); err == nil {
		return (d + time.Duration(step)).String()
	}
	size, err := edgeagent.ParseBytes(bound)
	if err != nil {
		t.Fatalf("bound %q is neither number nor duration nor size", bound)
	}
	return strconv.FormatInt(int64(size)+int64(step), 10)
}
