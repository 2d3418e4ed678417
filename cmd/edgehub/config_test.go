package main

import (
	"bytes"
	"encoding"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestConfigErrors: each mistake is named with its place, and all at once.
func TestConfigErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		file string
		want []string // parts of the output; nil is a good file
	}{
		"nothing but a version": {"version: 1", nil},
		"no version":            {"name: hub", []string{"version: must be 1"}},
		"unknown key":           {"version: 1\nbrokre: {}", []string{"2:1", "brokre"}},
		"unknown sink":          {"version: 1\nsink: {type: oracle}", []string{"sink.type: unknown sink \"oracle\""}},
		"an open broker":        {"version: 1\nbroker: {listen: ':1883'}", []string{"another address than loopback needs users", "broker.users"}},
		"a broker with users":   {"version: 1\nbroker: {listen: ':1883', users: [{name: a, password: 'env:A'}]}", nil},
		"a user without":        {"version: 1\nbroker: {users: [{name: a}, {name: a, password: 'env:A'}]}", []string{"users[0].password", "users[1].name"}},
		"a password in clear":   {"version: 1\nbroker: {users: [{name: a, password: secret}]}", []string{"a secret is named, not written here"}},
		"a device with a slash": {"version: 1\nbroker: {users: [{name: a, device: a/b, password: 'env:A'}]}", []string{"hold none of"}},
		"nothing to hear":       {"version: 1\nbroker: {listen: off}", []string{"needs inputs"}},
		"inputs alone":          {"version: 1\nbroker: {listen: off}\ninputs: [{url: 'mqtt://b'}]", nil},
		"bad input":             {"version: 1\ninputs: [{url: 'http://b'}, {url: b}, {url: 'nats://b'}]", []string{"unknown scheme", "bad address", "which JetStream stream"}},
		"CoAP for this machine": {"version: 1\ninputs: [{url: 'coap://127.0.0.1:5683'}]", nil},
		"CoAP for all":          {"version: 1\ninputs: [{url: 'coap://:5683'}, {url: 'coaps://:5684'}]", []string{"inputs[0].url: another address than loopback", "inputs[1].url: nothing says who may write"}},
		"CoAP with keys":        {"version: 1\nbroker: {users: [{name: a, password: 'env:A'}]}\ninputs: [{url: 'coaps://:5684'}]", nil},
		"CoAP keys by TCP":      {"version: 1\nbroker: {users: [{name: a, password: 'env:A'}]}\ninputs: [{url: 'coaps+tcp://:5684'}]", []string{"nothing says who may write"}},
		"CoAP in a group":       {"version: 1\ninputs: [{url: 'coap://[::1]:5683', group: g}]", []string{"inputs[0].group"}},
		"two of one name":       {"version: 1\ninputs: [{name: a, url: 'mqtt://b'}, {name: a, url: 'mqtt://c'}]", []string{"two inputs are called"}},
		"an open page":          {"version: 1\nhttp: {listen: ':80'}", []string{"needs TLS"}},
		"several":               {"version: 1\nname: ''\nreplay: {policy: never, after: 1ms}\nack_every: 1ms\nlog: {level: loud, format: xml}", []string{"name:", "replay.policy", "replay.after", "ack_every", "log.level", "log.format"}},
		"no YAML":               {"version: [", []string{"1:"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "edgehub.yaml")
			if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			code := run(t.Context(), []string{"config", "check", path}, &out, &errs)
			if (code == 0) != (tt.want == nil) {
				t.Fatalf("exit %d: %s%s", code, out.String(), errs.String())
			}
			for _, want := range tt.want {
				if !strings.Contains(errs.String(), want) {
					t.Errorf("%q is not in:\n%s", want, errs.String())
				}
			}
		})
	}
}

func TestConfigCheckJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edgehub.yaml")
	if err := os.WriteFile(path, []byte("version: 2"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"config", "check", path, "--json"}, &out, &errs); code != 1 || errs.Len() > 0 {
		t.Errorf("exit %d, %s", code, errs.String())
	}
	if !strings.Contains(out.String(), `"line": 1`) || !strings.Contains(out.String(), `"ok": false`) {
		t.Errorf("printed %s", out.String())
	}
}

// keys returns the paths of the keys below typ.
func keys(typ reflect.Type, prefix string) (out []string) {
	if reflect.PointerTo(typ).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return []string{prefix}
	}
	switch {
	case typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct:
		return append([]string{prefix}, keys(typ.Elem(), prefix+"[]")...)
	case typ.Kind() != reflect.Struct:
		return []string{prefix}
	}
	for f := range typ.Fields() {
		if name := f.Tag.Get("yaml"); name != "" && name != "-" {
			if prefix != "" {
				name = prefix + "." + name
			}
			out = append(out, keys(f.Type, name)...)
		}
	}
	return out
}

// TestReferenceHasEveryKey holds docs/reference/edgehub.md against the program: keys,
// and sinks with their guarantees.
func TestReferenceHasEveryKey(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "edgehub.md"))
	if err != nil {
		t.Fatal(err)
	}
	section, _, _ := strings.Cut(string(text), "## Sinks")
	var got []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(section, -1) {
		got = append(got, m[1])
	}
	want := keys(reflect.TypeFor[config](), "")
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("keys of the program (-) and of the page (+):\n%s", d)
	}
	_, rest, _ := strings.Cut(string(text), "<!-- begin: sinks, held against the program by a test -->\n")
	table, _, _ := strings.Cut(rest, "<!-- end: sinks -->")
	var wanted strings.Builder
	wanted.WriteString("| type | a record in format `block` is there |\n|---|---|\n")
	for _, name := range sinkNames() {
		fmt.Fprintf(&wanted, "| `%s` | %s |\n", name, sinks()[name].guarantee)
	}
	if d := cmp.Diff(wanted.String(), table); d != "" {
		t.Errorf("sinks of the program (-) and of the page (+):\n%s", d)
	}
}

func TestPermitted(t *testing.T) {
	const tree = "ea/v1/default/gw-1/"
	for _, tt := range []struct {
		topic       string
		write, read bool
	}{
		{tree + "d/live", true, false},
		{tree + "ack", false, true},
		{tree + "cfg/desired", false, true},
		{tree + "cfg/reported", true, true},
		{tree + "cmd/17/st", true, true},
		{tree + "#", false, false},
		{tree, false, false},
		{"ea/v1/default/gw-2/d/live", false, false},
		{"ea/v1/default/+/ack", false, false},
		{"#", false, false},
		{"ea/v1/default/gw-10/ack", false, false},
	} {
		if w, r := permitted(tree, tt.topic, true), permitted(tree, tt.topic, false); w != tt.write || r != tt.read {
			t.Errorf("%s: write %v, read %v; want %v, %v", tt.topic, w, r, tt.write, tt.read)
		}
	}
}

func TestShare(t *testing.T) {
	c := defaultConfig()
	c.Inputs = []inputConfig{{URL: "mqtt://b", Group: "g"}, {URL: "mqtt://c", Group: "g", ClientID: "x"}, {URL: "nats://d"}}
	if err := c.share("w1"); err != nil {
		t.Fatal(err)
	}
	if a, b := c.Inputs[0].ClientID, c.Inputs[1].ClientID; a != "edgehub-g-w1" || b != "x-w1" {
		t.Errorf("sessions %s and %s", a, b)
	}
	if c.Inputs[0].filter() != "$share/g/ea/v1/+/+/d/+" {
		t.Errorf("filter %s", c.Inputs[0].filter())
	}
	if filepath.Base(c.State) != "worker-w1" {
		t.Errorf("state in %s", c.State)
	}
	c.Inputs[0].Group = ""
	if err := c.share("w1"); err == nil || !strings.Contains(err.Error(), "not shared") {
		t.Errorf("an input that is not shared: %v", err)
	}
}

// TestWriters: who has proved to be a gateway writes for that gateway only.
func TestWriters(t *testing.T) {
	users := map[string]userConfig{"pump": {Name: "pump", Device: "gw-1", Tenant: "acme"}}
	for _, tt := range []struct {
		name                     string
		in                       inputConfig
		identity, tenant, device string
		want                     bool
	}{
		{"user's device", inputConfig{}, "pump", "acme", "gw-1", true},
		{"user's name is no device", inputConfig{}, "pump", "default", "pump", false},
		{"user, another tenant", inputConfig{}, "pump", "default", "gw-1", false},
		{"certificate", inputConfig{}, "gw-2", "default", "gw-2", true},
		{"certificate, another device", inputConfig{}, "gw-2", "default", "gw-1", false},
		{"shared key", inputConfig{Username: "all"}, "all", "acme", "gw-9", true},
		{"another identity than the shared", inputConfig{Username: "all"}, "gw-2", "acme", "gw-9", false},
		{"nothing proved, on loopback", inputConfig{}, "", "acme", "gw-9", true},
		{"certificate without a name", inputConfig{URL: "coaps://:5684"}, "", "acme", "gw-9", false},
		{"tenant of the input", inputConfig{Tenant: "acme"}, "", "default", "gw-9", false},
	} {
		if got := tt.in.writers(users)(tt.identity, tt.tenant, tt.device); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
