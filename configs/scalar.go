package configs

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	secretType   = reflect.TypeFor[edgeagent.Secret]()
)

// isScalar reports whether v is written as a single value.
func isScalar(v reflect.Value) bool {
	if _, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		return true
	}
	switch v.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice:
		return false
	}
	return true
}

// scalar reads a single value into v.
func (d *decoder) scalar(n *node, path string, v reflect.Value) {
	switch n.kind {
	case nullNode:
		d.fail(n, path, "a value is missing", "write one, or remove the key to get the default")
		return
	case mappingNode, sequenceNode:
		d.fail(n, path, "want a single value, got "+n.kind.describe(), "")
		return
	}
	if err := setScalar(n, v); err != nil {
		d.failed[path] = true
		if v.Type() == secretType {
			d.src.mask(n)
		}
		if bad, ok := errors.AsType[*badValue](err); ok {
			d.report(n.pos, nil, inPath(path, bad.message), bad.hint)
			return
		}
		d.report(n.pos, err, inPath(path, err.Error()), hintOf(err))
	}
}

// badValue is a scalar of the wrong form.
type badValue struct{ message, hint string }

func (e *badValue) Error() string { return e.message }

// hintOf returns the hint that err carries, if any.
func hintOf(err error) string {
	if h, ok := errors.AsType[edgeagent.Hinter](err); ok {
		return h.Hint()
	}
	return ""
}

func setScalar(n *node, v reflect.Value) error {
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		return u.UnmarshalText([]byte(n.text))
	}
	if v.Type() == durationType {
		return setDuration(n.text, v)
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.text)
		return nil
	case reflect.Bool:
		return setBool(n, v)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return setInteger(n, v)
	case reflect.Float32, reflect.Float64:
		return setFloat(n, v)
	}
	panic(fmt.Sprintf("configs: cannot read a single value into %s", v.Type()))
}

func setBool(n *node, v reflect.Value) error {
	if n.text == "true" || n.text == "false" {
		if n.quoted() {
			return &badValue{"want true or false, got the text " + quote(n.text), "remove the quotes"}
		}
		v.SetBool(n.text == "true")
		return nil
	}
	hint := ""
	switch strings.ToLower(n.text) {
	case "yes", "on", "y", "1", "true":
		hint = "write true"
	case "no", "off", "n", "0", "false":
		hint = "write false"
	}
	return &badValue{"want true or false, got " + quote(n.text), hint}
}

// looksNumeric finds numbers behind quotes, and decimals with a leading zero, which
// YAML 1.1 reads as octal and YAML 1.2 does not.
var (
	looksNumeric = regexp.MustCompile(`^[-+]?[0-9][0-9A-Fa-fxob_]*(\.[0-9]*)?$`)
	leadingZero  = regexp.MustCompile(`^[-+]?0[0-9_]+$`)
)

func (n *node) quoted() bool { return n.style == singleQuoted || n.style == doubleQuoted }

func setInteger(n *node, v reflect.Value) error {
	text, bits := strings.TrimPrefix(n.text, "+"), v.Type().Bits()
	if n.quoted() && looksNumeric.MatchString(text) {
		return &badValue{"want a whole number, got the text " + quote(n.text), "remove the quotes"}
	}
	if leadingZero.MatchString(text) {
		decimal := strings.TrimLeft(strings.ReplaceAll(text, "-", ""), "0_")
		return &badValue{"a number with a leading zero can be read in two ways: " + quote(n.text), "write " + max(decimal, "0") + ", or 0o for octal"}
	}
	var err error
	if v.CanInt() {
		var i int64
		i, err = strconv.ParseInt(text, 0, bits)
		v.SetInt(i)
	} else {
		var u uint64
		u, err = strconv.ParseUint(text, 0, bits)
		v.SetUint(u)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, strconv.ErrRange):
		return &badValue{n.text + " is out of range", fmt.Sprintf("the range is %s", rangeOf(v))}
	case strings.HasPrefix(text, "-") && looksNumeric.MatchString(text) && !v.CanInt():
		return &badValue{n.text + " is negative", fmt.Sprintf("the range is %s", rangeOf(v))}
	}
	return &badValue{"want a whole number, got " + quote(n.text), ""}
}

// rangeOf prints the range of an integer type.
func rangeOf(v reflect.Value) string {
	bits := v.Type().Bits()
	if v.CanInt() {
		return fmt.Sprintf("%d to %d", int64(math.MinInt64)>>(64-bits), int64(math.MaxInt64)>>(64-bits))
	}
	return fmt.Sprintf("0 to %d", uint64(math.MaxUint64)>>(64-bits))
}

func setFloat(n *node, v reflect.Value) error {
	if n.quoted() && looksNumeric.MatchString(n.text) {
		return &badValue{"want a number, got the text " + quote(n.text), "remove the quotes"}
	}
	f, err := strconv.ParseFloat(n.text, v.Type().Bits())
	if err == nil && (math.IsNaN(f) || math.IsInf(f, 0)) || errors.Is(err, strconv.ErrRange) {
		return &badValue{n.text + " is not a finite number", ""}
	}
	if err != nil {
		hint := ""
		if _, e := strconv.ParseFloat(strings.Replace(n.text, ",", ".", 1), 64); e == nil {
			hint = "write a decimal point, not a comma"
		}
		return &badValue{"want a number, got " + quote(n.text), hint}
	}
	v.SetFloat(f)
	return nil
}

// setDuration reads a duration as Go writes it. A bare number has no unit and is
// refused, but for 0, which needs none.
func setDuration(text string, v reflect.Value) error {
	dur, err := time.ParseDuration(text)
	if err == nil {
		v.SetInt(int64(dur))
		return nil
	}
	if _, e := strconv.ParseFloat(text, 64); e == nil {
		return &badValue{"duration " + quote(text) + " has no unit", "write it with a unit: " + strconv.Quote(text+"s")}
	}
	return &badValue{"bad duration " + quote(text), durationHint(text)}
}

var (
	numberAndWord = regexp.MustCompile(`^([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([A-Za-zµμ]+)\.?$`)
	durationWords = map[string]string{
		"second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "hr": "h",
		"millisecond": "ms", "msec": "ms", "milli": "ms", "microsecond": "us", "usec": "us",
		"ns": "ns", "us": "us", "ms": "ms", "s": "s", "m": "m", "h": "h",
	}
)

// durationHint writes a duration the way it must be written, if it is clear what
// was meant.
func durationHint(text string) string {
	const forms = `write numbers with units and no spaces: "5s", "1m30s", "500ms"`
	if closed := strings.ToLower(strings.Join(strings.Fields(text), "")); closed != text {
		if _, err := time.ParseDuration(closed); err == nil {
			return "write " + strconv.Quote(closed)
		}
	}
	m := numberAndWord.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return forms
	}
	word := strings.ToLower(m[2])
	if days := map[string]float64{"d": 1, "day": 1, "w": 7, "week": 7}[strings.TrimSuffix(word, "s")]; days > 0 {
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil || n*days > 100_000 {
			return forms
		}
		return `the largest unit is the hour: write "` + strconv.FormatFloat(n*days*24, 'f', -1, 64) + `h"`
	}
	unit, ok := durationWords[word]
	if !ok {
		unit, ok = durationWords[strings.TrimSuffix(word, "s")]
	}
	if ok {
		return `write "` + m[1] + unit + `"`
	}
	return forms
}
