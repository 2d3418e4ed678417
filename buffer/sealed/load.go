package sealed

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/edgeagent/edgeagent"
)

// maxKeyFile bounds what is read of a key file.
const maxKeyFile = 1 << 10

// LoadKey reads a key file: 32 bytes as they are, or 64 hex digits, or their
// base64 in either alphabet with or without padding; white space around text is
// ignored. It refuses a file that others than its owner can touch.
func LoadKey(path string) (*Key, error) {
	return load(path, true)
}

// LoadCredential reads the key that systemd hands over under name, in the same
// formats: the file $CREDENTIALS_DIRECTORY/name. Its permissions are systemd's
// affair.
func LoadCredential(name string) (*Key, error) {
	if name == "" || name != filepath.Base(name) || name == "." || name == ".." {
		return nil, fmt.Errorf("credential %q: not a plain name", name)
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, edgeagent.WithHint(
			fmt.Errorf("credential %q: no credentials were handed over", name),
			"add LoadCredential="+name+":/path/to/key to the service, or set buffer.encryption.key_file instead")
	}
	return load(filepath.Join(dir, name), false)
}

func load(path string, private bool) (*Key, error) {
	b, err := read(path, private)
	if err != nil {
		return nil, fmt.Errorf("encryption key: %w", err)
	}
	defer clear(b)
	secret, err := decode(b)
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("encryption key %s: %w", path, err), makeHint(path))
	}
	defer clear(secret)
	k, err := NewKey(secret)
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("%s: %w", path, err), makeHint(path))
	}
	return k, nil
}

func makeHint(path string) string {
	return "make one with: (umask 077; head -c 32 /dev/urandom >" + path + ")"
}

// read returns the bytes of a key file. The file is judged as it was opened, so
// that none can take its place in between.
func read(path string, private bool) ([]byte, error) {
	// A pipe would wait for its writer: look before opening, too.
	if fi, err := os.Stat(path); err != nil {
		return nil, withMissingHint(err, path)
	} else if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if open := fi.Mode().Perm() & 0o077; private && open != 0 && runtime.GOOS != "windows" {
		return nil, edgeagent.WithHint(
			fmt.Errorf("%s has mode %04o: others can touch it", path, fi.Mode().Perm()), "chmod 600 "+path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

func withMissingHint(err error, path string) error {
	if errors.Is(err, os.ErrNotExist) {
		return edgeagent.WithHint(err, makeHint(path)+", or restore it: what was encrypted with a lost key cannot be read")
	}
	return err
}

var errFormat = errors.New("neither 32 bytes, nor 64 hex digits, nor base64 of 32 bytes")

// decode returns the bytes that the content of a key file stands for, in memory
// of its own. The content is never part of an error.
func decode(b []byte) ([]byte, error) {
	text := strings.TrimSpace(string(b))
	digits, hexErr := hex.DecodeString(text)
	switch {
	case hexErr == nil && len(digits) == KeySize:
		return digits, nil
	case hexErr == nil && len(b) == KeySize:
		return nil, errors.New("32 hex digits are 16 bytes, and 32 bytes are needed")
	case len(b) == KeySize:
		return append([]byte(nil), b...), nil
	}
	text = strings.TrimRight(text, "=")
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if secret, err := e.Strict().DecodeString(text); err == nil && len(secret) == KeySize {
			return secret, nil
		}
	}
	return nil, errFormat
}
