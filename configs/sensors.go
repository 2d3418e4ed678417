package configs

import (
	"reflect"
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// sensor reads one sensor: the keys that all sensors share and the keys of its
// driver stand in the same mapping.
func (d *decoder) sensor(n *node, path string, s *sensors.Config) {
	s.Interval = sensors.DefaultInterval
	common := reflect.ValueOf(s).Elem()
	driver, known := d.driver(n, path)
	if known {
		s.Options = driver.New()
		d.mapping(n, path, common, reflect.ValueOf(s.Options).Elem())
	} else {
		// Without a driver nobody can say which of the other keys are right, unless
		// they are nearly those that all sensors share.
		d.mapping(only(n, collectFields(common, map[string]reflect.Value{}, nil)), path, common)
	}
	if n.get("interval") != nil && s.Interval == 0 && !d.failed[path+".interval"] {
		d.fail(n.get("interval"), path+".interval", "0 is out of range, want 10ms to 24h", "")
	}
}

// driver finds the driver that a sensor names, or after a report the one that was
// probably meant, so that the other keys can be checked. A sensor that names none
// is left to the validation.
func (d *decoder) driver(n *node, path string) (sensors.Driver, bool) {
	name := n.get("driver")
	if name == nil || name.kind != scalarNode || name.text == "" {
		return sensors.Driver{}, false
	}
	names := make([]string, len(d.drivers))
	for i, drv := range d.drivers {
		if drv.Name == name.text {
			return drv, true
		}
		names[i] = drv.Name
	}
	slices.Sort(names)
	d.fail(name, path+".driver", "unknown driver "+quote(name.text), didYouMean(name.text, "drivers", names))
	meant := nearest(name.text, names)
	i := slices.IndexFunc(d.drivers, func(drv sensors.Driver) bool { return drv.Name == meant })
	if i < 0 {
		return sensors.Driver{}, false
	}
	return d.drivers[i], true
}

// only returns n without the keys that are neither among names nor nearly so.
func only(n *node, names []string) *node {
	if n.kind != mappingNode {
		return n
	}
	out := *n
	out.entries = slices.DeleteFunc(slices.Clone(n.entries), func(e entry) bool { return nearest(e.key, names) == "" })
	return &out
}

// loadTemplates reads the files that drivers have a part of their configuration in.
// What is wrong with their names belongs to the configuration; the errors inside them
// are returned.
func (c *Config) loadTemplates(d *decoder, root *node) error {
	var all error
	for i, s := range c.Sensors {
		templated, ok := s.Options.(sensors.Templated)
		if !ok {
			continue
		}
		t := templated.Template()
		name, source, err := t.Name, t.Source, t.Err
		if err == nil && t.File != "" {
			name = c.path(t.File)
			source, err = readFile(name)
		}
		if err != nil {
			path := join(indexed("sensors", i), t.Key)
			d.invalid(root, &edgeagent.FieldError{Path: path, Err: err})
			continue
		}
		if name == "" {
			continue
		}
		inner, tree := open(name, source)
		inner.into(tree, t.Into)
		all = joinErrors(all, asError(inner.problems))
	}
	return all
}
