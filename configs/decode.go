package configs

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/edgeagent/edgeagent/sensors"
)

// Decode reads YAML into the struct that v points to. Keys are the yaml tags of
// exported fields; a field without a tag is not configurable. Fields whose key is
// absent keep their value, so defaults are set before the call. A type with
// UnmarshalText is read through it; durations are written as Go writes them.
// Text fields take any single value as it is written ("bus: 1" is the text 1).
//
// If everything was read and v has a method Validate() error, its errors are
// placed at the keys that [edgeagent.FieldError] names.
//
// The error is of type [Errors]. name appears in it as the file's name. What v
// holds after an error is unspecified.
func Decode(name string, source []byte, v any) error {
	dst := reflect.ValueOf(v)
	if dst.Kind() != reflect.Pointer || dst.IsNil() || dst.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("configs: Decode into %T, want a pointer to a struct", v))
	}
	d, root := open(name, source)
	d.into(root, v)
	return asError(d.problems)
}

// into reads a file into the struct that v points to and validates it. A file
// without a tree has been reported.
func (d *decoder) into(root *node, v any) {
	if root == nil {
		return
	}
	d.value(root, "", reflect.ValueOf(v).Elem())
	if x, ok := v.(interface{ Validate() error }); ok {
		d.invalid(root, x.Validate())
	}
}

// open parses a file. The problems found so far stand in the decoder.
func open(name string, text []byte) (*decoder, *node) {
	d := &decoder{failed: map[string]bool{}, misspelt: map[string][]string{}}
	src, problem := readSource(name, text)
	if problem != nil {
		d.problems = []*Problem{problem}
		return d, nil
	}
	d.src = src
	root, problems := parseTree(src)
	d.problems = problems
	if root == nil && problems == nil {
		root = &node{kind: mappingNode, pos: pos{1, 1}, size: 1, height: 1}
	}
	return d, root
}

// decoder reads one file and collects what is wrong with it.
type decoder struct {
	src      *source
	problems []*Problem
	failed   map[string]bool // paths of values that could not be read
	// misspelt holds, by mapping, what its unknown keys were probably meant to be;
	// "" stands for anything. Such a key is not missing as well.
	misspelt map[string][]string
	drivers  []sensors.Driver // what a sensor may name
}

// report adds a problem. A file full of mistakes is not worth unbounded memory.
func (d *decoder) report(at pos, cause error, message, hint string) {
	if len(d.problems) >= 10*maxProblems {
		return
	}
	p := d.src.problem(at, message, hint)
	p.Err = cause
	d.problems = append(d.problems, p)
}

// fail reports that the value at path cannot be read.
func (d *decoder) fail(n *node, path, message, hint string) {
	d.failed[path] = true
	d.report(n.pos, nil, inPath(path, message), hint)
}

// inPath puts the key in front of a message.
func inPath(path, message string) string {
	if path == "" {
		return message
	}
	return path + ": " + message
}

// join returns the path of a key of the mapping at path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// value reads n into v, which is settable.
func (d *decoder) value(n *node, path string, v reflect.Value) {
	if n.kind == refusedNode {
		d.failed[path] = true
		return
	}
	if v.Kind() == reflect.Pointer {
		// A mapping behind a pointer may be left empty, a single value may not.
		if fresh := reflect.New(v.Type().Elem()); n.kind != nullNode || isScalar(fresh.Elem()) {
			d.value(n, path, fresh.Elem())
			v.Set(fresh)
		}
		return
	}
	if s, ok := reflect.TypeAssert[*sensors.Config](v.Addr()); ok {
		d.sensor(n, path, s)
		return
	}
	if isScalar(v) {
		d.scalar(n, path, v)
		return
	}
	if n.kind == nullNode {
		return // "sensors:" with every line below commented out
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(n, path, v)
	case reflect.Map:
		d.table(n, path, v)
	case reflect.Slice:
		d.list(n, path, v)
	default:
		panic(fmt.Sprintf("configs: cannot read into %s (%s)", v.Type(), path))
	}
}

// mapping reads a mapping into one or more structs that share it.
func (d *decoder) mapping(n *node, path string, dsts ...reflect.Value) {
	if n.kind != mappingNode {
		d.fail(n, path, "want a mapping, got "+n.kind.describe(), "write key: value, one a line")
		return
	}
	if n.partial {
		d.misspelt[path] = append(d.misspelt[path], "")
	}
	var names []string
	fields := map[string]reflect.Value{}
	for _, dst := range dsts {
		names = collectFields(dst, fields, names)
	}
	for _, e := range n.entries {
		if field, ok := fields[e.key]; ok {
			d.value(e.value, join(path, e.key), field)
		} else if path != "" || !strings.HasPrefix(e.key, "x-") {
			d.unknown(e, path, names)
			if f, ok := fields[nearest(e.key, names)]; ok && f.Type() == secretType {
				d.src.mask(e.value)
			}
		}
	}
}

// unknown reports a key that nobody reads. Keys at the top level that begin with
// "x-" are for anchors and never get here.
func (d *decoder) unknown(e entry, path string, names []string) {
	d.misspelt[path] = append(d.misspelt[path], nearest(e.key, names))
	where := " at the top level"
	if path != "" {
		where = " in " + path
	}
	d.report(e.at, nil, "unknown field "+quote(e.key)+where, didYouMean(e.key, "fields", names))
}

// collectFields maps the keys of a struct to its fields. Embedded structs without
// a tag share their parent's mapping.
func collectFields(v reflect.Value, fields map[string]reflect.Value, names []string) []string {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case tag == "-":
		case f.Anonymous && tag == "" && f.Type.Kind() == reflect.Struct:
			names = collectFields(v.Field(i), fields, names)
		case tag != "" && f.IsExported():
			if _, shared := fields[tag]; !shared {
				fields[tag], names = v.Field(i), append(names, tag)
			}
		}
	}
	return names
}

// table reads a mapping with free keys.
func (d *decoder) table(n *node, path string, v reflect.Value) {
	if v.Type().Key().Kind() != reflect.String {
		panic(fmt.Sprintf("configs: %s has keys that are not text (%s)", v.Type(), path))
	}
	if n.kind != mappingNode {
		d.fail(n, path, "want a mapping, got "+n.kind.describe(), "write key: value, one a line")
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(n.entries))
	for _, e := range n.entries {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(e.value, join(path, e.key), item)
		out.SetMapIndex(reflect.ValueOf(e.key).Convert(v.Type().Key()), item)
	}
	v.Set(out)
}

// list reads a sequence.
func (d *decoder) list(n *node, path string, v reflect.Value) {
	if n.kind != sequenceNode {
		d.fail(n, path, "want a list, got "+n.kind.describe(), `begin each item with "- "`)
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		d.value(item, indexed(path, i), out.Index(i))
	}
	v.Set(out)
}

func indexed(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// quote quotes text of a file for a message, cut to what fits.
func quote(s string) string {
	const fits = 60
	if r := []rune(s); len(r) > fits {
		s = string(slices.Concat(r[:fits], []rune("…")))
	}
	return strconv.Quote(s)
}
