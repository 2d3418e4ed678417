package configs

import (
	"reflect"
	"slices"

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
