package rules

import (
	"maps"
	"slices"
)

// defaults adds what is known of series besides the files: what a file says of one goes
// first, fact by fact.
func (c *compiler) defaults(known map[string]Facts) {
	for _, series := range slices.Sorted(maps.Keys(known)) {
		p, errs := known[series].check(series)
		if len(errs) > 0 || p.star {
			continue // whoever knows facts knows series, not patterns
		}
		merged := known[series]
		if said := factsOf(c.facts, series); said != nil {
			merged = said.over(merged)
		}
		i := slices.IndexFunc(c.facts, func(f fact) bool { return !f.pattern.star && f.pattern.name("") == series })
		if i < 0 {
			c.facts = append(c.facts, fact{p, merged})
			continue
		}
		c.facts[i].facts = merged
	}
}

// over returns f with what it does not say taken from below. Limits that do not go
// together are taken from f alone.
func (f Facts) over(below Facts) Facts {
	out := f
	if out.Min == nil {
		out.Min = below.Min
	}
	if out.Max == nil {
		out.Max = below.Max
	}
	if out.Min != nil && out.Max != nil && *out.Min >= *out.Max {
		out.Min, out.Max = f.Min, f.Max
	}
	if out.Unit == "" {
		out.Unit = below.Unit
	}
	if out.MaxRate == 0 {
		out.MaxRate = below.MaxRate
	}
	if out.Every == 0 {
		out.Every = below.Every
	}
	if out.Resolution == 0 {
		out.Resolution = below.Resolution
	}
	return out
}

// factsOf returns the facts of a series: those of its very name go before those of a
// pattern, earlier patterns before later ones.
func factsOf(facts []fact, series string) *Facts {
	var found *Facts
	for i := range facts {
		f := &facts[i]
		if _, ok := f.pattern.match(series); ok {
			if !f.pattern.star {
				return &f.facts
			}
			if found == nil {
				found = &f.facts
			}
		}
	}
	return found
}
