package expression

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// functions that exist, with the least and the largest number of arguments (-1:
// any) and what they return. All take numbers.
var functions = map[string]struct {
	least, most int
	typ         valueType
}{
	"abs":   {1, 1, numberType},
	"ceil":  {1, 1, numberType},
	"floor": {1, 1, numberType},
	"round": {1, 1, numberType},
	"min":   {1, -1, numberType},
	"max":   {1, -1, numberType},
	"known": {1, 1, conditionType},
}

// planned functions look back in time or at other rules; they come with windows.
var planned = []string{
	"age", "anomaly", "anomaly_alert", "avg", "changed", "count", "delta", "first", "flat", "fraction", "hour",
	"increase", "last", "mad", "median", "outside_limits", "prev", "quantile", "range", "rate", "rule", "slope",
	"stale", "stddev", "sum", "weekday", "zscore",
}

// foreign functions are expr's own, on texts, lists, maps and dates.
var foreign = []string{
	"all", "any", "bitand", "bitnand", "bitnot", "bitor", "bitshl", "bitshr", "bitushr", "bitxor", "concat", "date",
	"duration", "filter", "find", "findIndex", "findLast", "findLastIndex", "flatten", "float", "fromBase64",
	"fromJSON", "fromPairs", "get", "groupBy", "hasPrefix", "hasSuffix", "indexOf", "int", "join", "keys",
	"lastIndexOf", "len", "lower", "map", "mean", "none", "now", "one", "reduce", "repeat", "replace", "reverse",
	"sort", "sortBy", "split", "splitAfter", "string", "take", "timezone", "toBase64", "toJSON", "toPairs", "trim",
	"trimPrefix", "trimSuffix", "type", "uniq", "upper", "values",
}

// refuseCall says why there is no function of that name, or "" if there is one.
func refuseCall(name string) string {
	if _, ok := functions[name]; ok {
		return ""
	}
	switch {
	case slices.Contains(planned, name):
		return fmt.Sprintf("function %s is not in this release", name)
	case slices.Contains(foreign, name):
		return fmt.Sprintf("function %s of expr is not part of rule expressions", name)
	}
	names := make([]string, 0, len(functions))
	for n := range functions {
		names = append(names, n)
	}
	slices.Sort(names)
	return fmt.Sprintf("unknown function %q", name) + didYouMean(name, names)
}

func isRange(err error) bool { return errors.Is(err, strconv.ErrRange) }

// power is math.Pow, except that unknown stays unknown: math.Pow(NaN, 0) is 1.
func power(a, b float64) float64 {
	if math.IsNaN(a) || math.IsNaN(b) {
		return math.NaN()
	}
	return math.Pow(a, b)
}
