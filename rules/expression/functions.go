package expression

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
)

// A parameter of a function is one byte of its signature.
const (
	inputParam     = 'i' // the name of an input
	conditionParam = 'c'
	windowParam    = 'w' // "5m" or "n=20"
	constantParam  = 'p' // a number that depends on no input
	textParam      = 't'
	numbersParam   = '*' // any number of numbers, one at least
	numberParam    = 'x'
)

// signature says what a function takes and returns.
type signature struct {
	params   string
	optional int // of params, how many at the end may be left out
	typ      valueType
	usage    string
}

// isCall reports whether the engine has to work the value out, because it depends
// on more than the inputs' last values.
func (s signature) isCall() bool { return s.params != "x" && s.params != "*" }

var functions = map[string]signature{
	"abs":   {"x", 0, numberType, "abs(x)"},
	"ceil":  {"x", 0, numberType, "ceil(x)"},
	"floor": {"x", 0, numberType, "floor(x)"},
	"round": {"x", 0, numberType, "round(x)"},
	"known": {"x", 0, conditionType, "known(x)"},
	"min":   {"*", 0, numberType, `min(x, y) or min(x, "5m")`},
	"max":   {"*", 0, numberType, `max(x, y) or max(x, "5m")`},

	"avg":      {"iw", 0, numberType, `avg(x, "5m")`},
	"sum":      {"iw", 0, numberType, `sum(x, "5m")`},
	"count":    {"iw", 0, numberType, `count(x, "5m")`},
	"first":    {"iw", 0, numberType, `first(x, "5m")`},
	"last":     {"iw", 0, numberType, `last(x, "5m")`},
	"stddev":   {"iw", 0, numberType, `stddev(x, "5m")`},
	"median":   {"iw", 0, numberType, `median(x, "5m")`},
	"range":    {"iw", 0, numberType, `range(x, "5m")`},
	"delta":    {"iw", 0, numberType, `delta(x, "5m")`},
	"rate":     {"iw", 0, numberType, `rate(x, "5m")`},
	"increase": {"iw", 0, numberType, `increase(x, "5m")`},
	"slope":    {"iw", 0, numberType, `slope(x, "5m")`},
	"mad":      {"iw", 0, numberType, `mad(x, "5m")`},
	"zscore":   {"iw", 0, numberType, `zscore(x, "5m")`},
	"changes":  {"iw", 0, numberType, `changes(x, "5m")`},
	"changed":  {"iw", 0, conditionType, `changed(x, "5m")`},
	"quantile": {"ipw", 0, numberType, `quantile(x, 0.95, "5m")`},
	"flat":     {"iwp", 0, conditionType, `flat(x, "30m", 0.05)`},
	"fraction": {"cw", 0, numberType, `fraction(x > 1, "5m")`},

	"prev":           {"ip", 1, numberType, "prev(x, 1)"},
	"age":            {"i", 0, numberType, "age(x)"},
	"stale":          {"i", 0, conditionType, "stale(x)"},
	"outside_limits": {"i", 0, conditionType, "outside_limits(x)"},
	"anomaly":        {"i", 0, numberType, "anomaly(x)"},
	"anomaly_alert":  {"i", 0, conditionType, "anomaly_alert(x)"},
	"faulty":         {"i", 0, conditionType, "faulty(x)"},
	"hour":           {"", 0, numberType, "hour()"},
	"weekday":        {"", 0, numberType, "weekday()"},
	"rule":           {"t", 0, conditionType, `rule("id").firing`},
	"model":          {"t*", 0, numberType, `model("name", x, y)`},
}

// windowed are min and max when their last argument is a window.
var windowed = map[string]signature{
	"min": {"iw", 0, numberType, `min(x, "5m")`},
	"max": {"iw", 0, numberType, `max(x, "5m")`},
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
	if slices.Contains(foreign, name) {
		return fmt.Sprintf("function %s of expr is not part of rule expressions", name)
	}
	return fmt.Sprintf("unknown function %q", name) + didYouMean(name, slices.Sorted(maps.Keys(functions)))
}

func isRange(err error) bool { return errors.Is(err, strconv.ErrRange) }

// power is math.Pow, except that unknown stays unknown: math.Pow(NaN, 0) is 1.
func power(a, b float64) float64 {
	if math.IsNaN(a) || math.IsNaN(b) {
		return math.NaN()
	}
	return math.Pow(a, b)
}
