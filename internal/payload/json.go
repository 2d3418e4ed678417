package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// Bounds of a document.
const (
	MaxDepth  = 16
	MaxValues = 1_000
)

// Value is a number or a text. A truth value is the number 0 or 1.
type Value struct {
	Number float64
	Text   string
	IsText bool
}

// number makes a Value of a number.
func number(v float64) Value { return Value{Number: v} }

// JSON calls yield for each number, truth value and text of the document in b, in its
// order, with the keys that lead there joined by dots: "ENERGY.Power". Elements of lists
// are counted from 0. A document that is a single value has the path "". Null is left
// out. JSON stops at the first error, also of yield.
func JSON(b []byte, yield func(path string, v Value) error) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	w := &walker{dec: d, yield: yield}
	if err := w.value("", 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON document")
	}
	return nil
}

type walker struct {
	dec   *json.Decoder
	yield func(path string, v Value) error
	count int
}

func (w *walker) value(path string, depth int) error {
	tok, err := w.dec.Token()
	if err != nil {
		return fmt.Errorf("not JSON: %w", noEOF(err))
	}
	switch tok := tok.(type) {
	case json.Delim:
		if depth >= MaxDepth {
			return fmt.Errorf("JSON nested more than %d deep", MaxDepth)
		}
		return w.inside(path, depth, tok == '{')
	case json.Number:
		v, err := tok.Float64()
		if err != nil || math.IsInf(v, 0) {
			return fmt.Errorf("%q is too large for a number", tok.String())
		}
		return w.give(path, number(v))
	case bool:
		v := number(0)
		if tok {
			v.Number = 1
		}
		return w.give(path, v)
	case string:
		return w.give(path, Value{Text: tok, IsText: true})
	}
	return nil // null
}

// inside walks an object or a list up to its end.
func (w *walker) inside(path string, depth int, object bool) error {
	for i := 0; w.dec.More(); i++ {
		key := strconv.Itoa(i)
		if object {
			tok, err := w.dec.Token()
			if err != nil {
				return fmt.Errorf("not JSON: %w", noEOF(err))
			}
			key, _ = tok.(string)
		}
		if path != "" {
			key = path + "." + key
		}
		if err := w.value(key, depth+1); err != nil {
			return err
		}
	}
	if _, err := w.dec.Token(); err != nil {
		return fmt.Errorf("not JSON: %w", noEOF(err))
	}
	return nil
}

func (w *walker) give(path string, v Value) error {
	if w.count++; w.count > MaxValues {
		return fmt.Errorf("more than %d values in a JSON document", MaxValues)
	}
	return w.yield(path, v)
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
