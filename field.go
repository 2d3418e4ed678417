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
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		if _, isField := err.(*FieldError); !isField { //nolint:errorlint // what err is itself, not what it holds
			errs := make([]error, 0, len(joined.Unwrap()))
			for _, e := range joined.Unwrap() {
				errs = append(errs, InField(path, e))
			}
			return errors.Join(errs...)
		}
	}
	if f, ok := err.(*FieldError); ok { //nolint:errorlint // as above
		return &FieldError{joinPath(path, f.Path), f.Err}
	}
	return &FieldError{path, err}
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
