package edgeagent

import (
	"errors"
	"fmt"
)

// FieldError says which configuration key an error is about. Path is relative to
// whoever validates: "interval", "links[0].url". configs turns it into
// file:line:col.
type FieldError struct {
	Path string
	Err  error
}

// Field returns an error about the key at path.
func Field(path, format string, args ...any) error {
	return &FieldError{path, fmt.Errorf(format, args...)}
}

// InField puts path in front of every [FieldError] that err joins, so that
// validation composes from the inside out. It returns nil for nil.
func InField(path string, err error) error {
	//nolint:errorlint // the outermost error decides: a path goes in front of what it wraps, once
	switch e := err.(type) {
	case nil:
		return nil
	case *FieldError:
		return &FieldError{joinPath(path, e.Path), e.Err}
	case interface{ Unwrap() []error }:
		list := e.Unwrap()
		errs := make([]error, len(list))
		for i := range list {
			errs[i] = InField(path, list[i])
		}
		return errors.Join(errs...)
	default:
		return &FieldError{path, err}
	}
}

func joinPath(a, b string) string {
	switch {
	case a == "" || b == "":
		return a + b
	case b[0] == '[':
		return a + b
	default:
		return a + "." + b
	}
}

func (e *FieldError) Error() string { return e.Path + ": " + e.Err.Error() }
func (e *FieldError) Unwrap() error { return e.Err }
