package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/rules/model"
	"github.com/edgeagent/edgeagent/sensors"
)

// Options says what a configuration is checked against.
type Options struct {
	// Drivers are the sensor drivers of this build.
	Drivers []sensors.Driver
	// Secrets reads what the secrets name, which a run needs and a check on
	// another machine cannot do.
	Secrets bool
}

// Load reads the configuration at path and the rule files it names. The error is
// of type [Errors] when the files could be read and something in them is wrong;
// the Config is valid only when the error is nil.
func Load(path string, o Options) (*Config, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("read configuration: %w", err),
			`name the file with "edgeagent config check FILE" or "edgeagent run -c FILE"`)
	}
	return Parse(path, text, o)
}

// Parse is [Load] for a configuration that is in memory already. The rule files it
// names are read from disk; relative names start at the directory of name.
func Parse(name string, source []byte, o Options) (*Config, error) {
	d, root := open(name, source)
	if root == nil {
		return nil, asError(d.problems)
	}
	d.drivers = o.Drivers
	c := Default()
	c.Version, c.Dir = 0, filepath.Dir(name)
	d.value(root, "", reflect.ValueOf(c).Elem())
	templateErrors := c.loadTemplates(d, root)
	d.invalid(root, c.Validate())
	for i, s := range c.Sensors {
		c.Sensors[i] = s.WithDefaults()
	}
	for i, dst := range c.Destinations {
		c.Destinations[i] = dst.WithDefaults()
	}
	if o.Secrets {
		d.invalid(root, c.ResolveSecrets())
	}
	ruleErrors := c.loadRules(d, root)
	if err := joinErrors(joinErrors(asError(d.problems), templateErrors), ruleErrors); err != nil {
		return nil, err
	}
	return c, nil
}

// readFile reads a file that is meant to be text and small.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Size() > maxBytes {
		return nil, fmt.Errorf("%s has %d bytes, more than 1 MiB", path, info.Size())
	}
	return os.ReadFile(path)
}

// ruleSource is a rule file that was read, and where its errors go.
type ruleSource struct {
	RuleFile
	decoder *decoder
	root    *node
}

// loadRules reads the rule files. What is wrong with their names belongs to the
// configuration; the errors inside them are returned.
func (c *Config) loadRules(d *decoder, root *node) error {
	var sources []ruleSource
	seen := map[string]string{}
	for i, name := range c.Rules.Files {
		path := indexed("rules.files", i)
		if name == "" || d.reported(path) {
			continue
		}
		full := c.path(name)
		if first, twice := seen[full]; twice {
			d.invalid(root, &edgeagent.FieldError{Path: path, Err: &duplicate{name, first}})
			continue
		}
		seen[full] = path
		text, err := readFile(full)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("read rule file %s: %w", full, fs.ErrNotExist)
			}
			d.invalid(root, hinted(path, "rule files are looked up in the directory of the configuration", "%w", err))
			continue
		}
		src := ruleSource{RuleFile: RuleFile{Path: full}}
		src.decoder, src.root = open(full, text)
		src.decoder.into(src.root, &src.File)
		sources = append(sources, src)
		c.RuleFiles = append(c.RuleFiles, src.RuleFile)
	}
	return c.compileTogether(d, root, sources, c.loadModels(d, root))
}

// loadModels opens the models that rules may ask, to say what is wrong with them and
// with what rules ask of them; whoever runs the rules opens them again. It returns
// nil, which leaves rules unchecked, when something is wrong.
func (c *Config) loadModels(d *decoder, root *node) map[string]rules.Model {
	for name, m := range c.Rules.Models {
		if m.File != "" {
			m.File = c.path(m.File)
		}
		c.Rules.Models[name] = m
		if err := checkName(name, name); err != nil || strings.Contains(name, ".") {
			d.invalid(root, edgeagent.Field("rules.models", "the name %q: want 1 to %d letters, digits, - or _", name, maxName))
			return nil
		}
	}
	set, err := model.Load(c.Rules.Models, slog.New(slog.DiscardHandler))
	if err != nil {
		d.invalid(root, edgeagent.InField("rules.models", err))
		return nil
	}
	return set.Models()
}

// compileTogether finds what is wrong between rule files that are right by
// themselves, and returns what is wrong with any.
func (c *Config) compileTogether(d *decoder, root *node, sources []ruleSource, models map[string]rules.Model) error {
	files := make([]rules.File, len(sources))
	ok := true
	for i, src := range sources {
		files[i] = src.File
		ok = ok && src.decoder.problems == nil
	}
	if ok && len(files) > 0 && !d.reported("rules.memory") {
		_, err := rules.Options{Memory: c.Rules.Memory, Models: models}.Compile(files)
		for _, f := range flatten(err, "", "") {
			if f.path == "memory" {
				d.invalid(root, &edgeagent.FieldError{Path: "rules.memory", Err: edgeagent.WithHint(f.err, f.hint)})
				continue
			}
			i, rest := fileOf(f.path)
			if len(sources) == 1 {
				i, rest = 0, f.path // one file is not counted
			}
			if i < 0 || i >= len(sources) {
				d.invalid(root, &edgeagent.FieldError{Path: "rules.files", Err: edgeagent.WithHint(f.err, f.hint)})
				continue
			}
			sources[i].decoder.invalid(sources[i].root, hinted(rest, f.hint, "%s", named(f.err.Error(), sources)))
		}
	}
	var all error
	for _, src := range sources {
		if ok && !d.failed["outputs"] {
			src.decoder.invalid(src.root, c.checkPins(src.File))
		}
		all = joinErrors(all, asError(src.decoder.problems))
	}
	return all
}

// checkPins finds the outputs that rules drive and nobody has configured.
func (c *Config) checkPins(f rules.File) error {
	names := make([]string, len(c.Outputs))
	for i, o := range c.Outputs {
		names[i] = o.Name
	}
	var errs []error
	check := func(path string, g *rules.GPIO) {
		if g == nil || slices.Contains(names, g.Pin) {
			return
		}
		hint := didYouMean(g.Pin, "outputs", names)
		if len(names) == 0 {
			hint = `list it in the configuration: "outputs: [{name: ` + g.Pin + `, line: GPIO17}]"`
		}
		errs = append(errs, hinted(path+".gpio.pin", hint, "the configuration has no output %s", quote(g.Pin)))
	}
	for i, r := range f.Rules {
		path := indexed("rules", i)
		for j, a := range r.Do {
			check(indexed(path+".do", j), a.GPIO)
		}
		for j, a := range r.Undo {
			check(indexed(path+".undo", j), a.GPIO)
		}
	}
	return errors.Join(errs...)
}

// named puts the names of files where a message counts them.
func named(message string, sources []ruleSource) string {
	for i, src := range sources {
		message = strings.ReplaceAll(message, indexed("files", i)+".", src.Path+" ")
	}
	return message
}

// fileOf takes the path of an error in several rule files apart:
// "files[1].rules[0].id".
func fileOf(path string) (i int, rest string) {
	number, rest, _ := strings.Cut(strings.TrimPrefix(path, "files["), "]")
	i, err := strconv.Atoi(number)
	if err != nil {
		return -1, path
	}
	return i, strings.TrimPrefix(rest, ".")
}

// path returns a file name of the configuration as the program opens it.
func (c *Config) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.Dir, name)
}

// ResolveSecrets reads what every secret of the configuration names; relative files
// start at the configuration's directory. The errors are joined
// [edgeagent.FieldError] values.
func (c *Config) ResolveSecrets() error {
	return resolveSecrets(reflect.ValueOf(c).Elem(), "", c.Dir)
}

// resolveSecrets walks over everything that has a key.
func resolveSecrets(v reflect.Value, path, dir string) error {
	var errs []error
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return resolveSecrets(v.Elem(), path, dir)
		}
	case reflect.Slice:
		for i := range v.Len() {
			errs = append(errs, resolveSecrets(v.Index(i), indexed(path, i), dir))
		}
	case reflect.Struct:
		if v.CanAddr() {
			if s, ok := reflect.TypeAssert[*edgeagent.Secret](v.Addr()); ok {
				return edgeagent.InField(path, resolve(s, dir))
			}
			if s, ok := reflect.TypeAssert[*sensors.Config](v.Addr()); ok {
				errs = append(errs, resolveSecrets(reflect.ValueOf(s.Options), path, dir))
			}
		}
		fields := map[string]reflect.Value{}
		for _, name := range collectFields(v, fields, nil) {
			errs = append(errs, resolveSecrets(fields[name], join(path, name), dir))
		}
	}
	return errors.Join(errs...)
}

func resolve(s *edgeagent.Secret, dir string) error {
	if s.IsZero() {
		return nil
	}
	return edgeagent.WithHint(s.Resolve(dir), `name a readable file ("file:/path") or a variable that is set ("env:NAME")`)
}
