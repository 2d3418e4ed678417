package rules

import (
	"errors"
	"strings"
)

// pattern is the name of a series, "sensor/metric", in which one star may stand
// for a part of a segment.
type pattern struct {
	prefix, suffix string // around the star; without one the name is the prefix
	star           bool
}

func parsePattern(s string) (pattern, error) {
	sensor, metric := s, ""
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		sensor, metric = s[:i], s[i+1:]
	}
	switch {
	case s == "":
		return pattern{}, errors.New("no series, want sensor/metric")
	case sensor == "" || metric == "":
		return pattern{}, errors.New("want sensor/metric, such as \"boiler/temperature\"")
	case strings.Count(s, "*") > 1:
		return pattern{}, errors.New("more than one * in a series")
	}
	prefix, suffix, star := strings.Cut(s, "*")
	return pattern{prefix, suffix, star}, nil
}

// match returns the text that the star stands for, "" without one.
func (p pattern) match(name string) (star string, ok bool) {
	if !p.star {
		return "", name == p.prefix
	}
	if len(name) <= len(p.prefix)+len(p.suffix) || !strings.HasPrefix(name, p.prefix) || !strings.HasSuffix(name, p.suffix) {
		return "", false
	}
	star = name[len(p.prefix) : len(name)-len(p.suffix)]
	return star, strings.IndexByte(star, '/') < 0
}

// name puts text in place of the star.
func (p pattern) name(text string) string {
	if !p.star {
		return p.prefix
	}
	return p.prefix + text + p.suffix
}
