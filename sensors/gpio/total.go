package gpio

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
)

// total is a count that outlives the process. It is one line in a file of its own,
// written in place without a sync: the page cache survives kill -9, and a card is
// not worn by pulses.
type total struct {
	count uint64
	file  *os.File // nil: nothing is kept
}

// openTotal reads the count of a sensor in dir; none is 0. A file that makes no
// sense is an error rather than a 0, which would look like a meter that was changed.
func openTotal(dir, sensor string) (total, error) {
	if dir == "" {
		return total{}, nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return total{}, err
	}
	path := filepath.Join(dir, "count-"+url.PathEscape(sensor))
	b, err := os.ReadFile(path)
	var t total
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(b) == 0: // made, and the power went
	case err != nil:
		return total{}, err
	default:
		if t.count, err = parseTotal(b); err != nil {
			return total{}, fmt.Errorf("%s: %w; remove the file to begin at 0", path, err)
		}
	}
	t.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o640)
	return t, err
}

// The line has a fixed length, so that it is written over as a whole.
const totalFormat = "%020d %08x\n"

func parseTotal(b []byte) (uint64, error) {
	var count uint64
	var sum uint32
	if _, err := fmt.Sscanf(string(b), totalFormat, &count, &sum); err != nil {
		return 0, errors.New("not a count")
	}
	if string(b) != formatTotal(count) {
		return 0, errors.New("the count is damaged")
	}
	return count, nil
}

func formatTotal(count uint64) string {
	number := fmt.Sprintf("%020d", count)
	return fmt.Sprintf(totalFormat, count, crc32.ChecksumIEEE([]byte(number)))
}

// add counts n more. The count is right in memory even if it cannot be written.
func (t *total) add(n uint64) error {
	t.count += n
	if t.file == nil || n == 0 {
		return nil
	}
	_, err := t.file.WriteAt([]byte(formatTotal(t.count)), 0)
	return err
}

// Close makes the count durable.
func (t *total) Close() error {
	if t.file == nil {
		return nil
	}
	err := errors.Join(t.file.Sync(), t.file.Close())
	t.file = nil
	return err
}
