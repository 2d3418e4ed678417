package process

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// version is what the first line of each side says.
const version = "edgeagent-model 1"

// maxLine bounds a line of the model, the line feed included, in bytes.
const maxLine = 1024

// kind of an answer.
type kind string

const (
	score   kind = "score"
	failure kind = "error"
	pong    kind = "pong"
)

// answer is a line of the model.
type answer struct {
	kind  kind
	id    uint64
	score float64
	text  string // of a failure, cut to 200 bytes
}

// maxText bounds what is shown of an error, in bytes.
const maxText = 200

// errLine is the error of every line that is not as the protocol says.
var errLine = errors.New("the model does not speak the protocol")

func parseAnswer(line string) (answer, error) {
	word, rest, _ := strings.Cut(line, " ")
	number, rest, more := strings.Cut(rest, " ")
	id, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %.60q", errLine, line)
	}
	a := answer{kind: kind(word), id: id}
	switch a.kind {
	case score:
		a.score, err = strconv.ParseFloat(rest, 64)
		// Beyond float64 is an infinity, as it is for C and Python.
		if errors.Is(err, strconv.ErrRange) {
			err = nil
		}
	case failure:
		a.text = clean(rest)
	case pong:
		if more {
			err = errLine
		}
	default:
		err = errLine
	}
	if err != nil {
		return answer{}, fmt.Errorf("%w: %.60q", errLine, line)
	}
	return a, nil
}

// clean makes a text of the model fit for logs.
func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// parseHello reads the model's first line and returns how many features it wants.
func parseHello(line string) (features int, err error) {
	if text, ok := strings.CutPrefix(line, "error"); ok {
		return 0, fmt.Errorf("the model refuses: %s", clean(strings.TrimSpace(text)))
	}
	rest, ok := strings.CutPrefix(line, version+" ")
	if !ok {
		return 0, fmt.Errorf("%w: %.60q, want %q", errLine, line, version+" features=…")
	}
	for word := range strings.FieldsSeq(rest) {
		if v, ok := strings.CutPrefix(word, "features="); ok {
			if features, err = strconv.Atoi(v); err != nil || features < 1 {
				return 0, fmt.Errorf("%w: %.60q", errLine, line)
			}
			return features, nil
		}
	}
	return 0, fmt.Errorf("%w: %.60q says no features", errLine, line)
}

func appendScore(dst []byte, id uint64, x []float64) []byte {
	dst = append(dst, "score "...)
	dst = strconv.AppendUint(dst, id, 10)
	for _, v := range x {
		dst = append(dst, ' ')
		switch {
		case math.IsNaN(v):
			dst = append(dst, "nan"...)
		case math.IsInf(v, 1):
			dst = append(dst, "inf"...)
		case math.IsInf(v, -1):
			dst = append(dst, "-inf"...)
		default:
			dst = strconv.AppendFloat(dst, v, 'g', -1, 64)
		}
	}
	return append(dst, '\n')
}

func appendPing(dst []byte, id uint64) []byte {
	dst = append(dst, "ping "...)
	return append(strconv.AppendUint(dst, id, 10), '\n')
}
