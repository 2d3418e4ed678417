package edgeagent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Secret is a password or key that configuration names but never holds: it is
// written "file:/etc/edgeagent/broker.pass" or "env:BROKER_PASSWORD". It prints
// as ***, whatever the verb.
type Secret struct{ ref, value string }

// UnmarshalText reads the reference.
func (s *Secret) UnmarshalText(text []byte) error {
	ref := string(text)
	if !strings.HasPrefix(ref, "file:") && !strings.HasPrefix(ref, "env:") {
		return fmt.Errorf(`a secret is named, not written here: use "file:/path" or "env:NAME"`)
	}
	*s = Secret{ref: ref}
	return nil
}

// IsZero reports whether no secret is configured.
func (s Secret) IsZero() bool { return s == Secret{} }

// Resolve reads what the reference names; relative files are looked up in dir.
// One line end at the end of a file is dropped.
func (s *Secret) Resolve(dir string) error {
	kind, name, _ := strings.Cut(s.ref, ":")
	switch kind {
	case "file":
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read secret: %w", err)
		}
		s.value = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	case "env":
		v, ok := os.LookupEnv(name)
		if !ok {
			return fmt.Errorf("secret: environment variable %s is not set", name)
		}
		s.value = v
	}
	return nil
}

// NewSecret makes a resolved secret, for programs that hold one already.
func NewSecret(value string) Secret { return Secret{ref: "value:", value: value} }

// Reveal returns the secret itself. Only what logs in with it calls this.
func (s Secret) Reveal() string { return s.value }

// String returns "***", or nothing when no secret is configured.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return "***"
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return "edgeagent.Secret{" + s.String() + "}" }

// Format hides the secret from every other verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// MarshalText writes "***": a secret leaves the process through Reveal only.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
