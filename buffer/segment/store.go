package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"go.etcd.io/bbolt"
)

// StoreFormat is what a store says it is.
const StoreFormat = "edgeagent state 1"

// Store is a small file of keys and values, wholly held in memory as well. Memory
// is what was committed last: a commit that fails changes nothing here, and makes
// the next one write a new file from memory.
type Store struct {
	path   string
	faults Faults
	db     *bbolt.DB
	file   os.FileInfo // of the open file, nil if not known
	data   map[string]map[string][]byte
	broken bool
}

func (s *Store) open() error {
	err := guarded(s.path, func() (err error) { s.db, err = openBolt(s.path, false, 0); return err })
	s.file = nil
	if fi, e := os.Lstat(s.path); err == nil && e == nil {
		s.file = fi
	}
	return err
}

// Lost reports whether the file was removed or replaced under the store: what is
// committed would go where nobody finds it again. The next commit writes a new one.
func (s *Store) Lost() bool {
	fi, err := os.Lstat(s.path)
	lost := s.file != nil && (errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(fi, s.file))
	s.broken = s.broken || lost
	return lost
}

// Change sets a key of a bucket, or deletes it when Value is nil.
type Change struct {
	Bucket string
	Key    []byte
	Value  []byte
}

// OpenStore opens the store at path, or makes an empty one if there is none. It
// verifies the file first and fails with [ErrDamaged] or [ErrFormat].
func OpenStore(path string, faults Faults) (s *Store, created bool, err error) {
	s = &Store{path: path, faults: faults, data: map[string]map[string][]byte{}}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := s.rewrite(s.data); err != nil {
			return nil, false, fmt.Errorf("create store %s: %w", path, err)
		}
		return s, true, nil
	}
	err = Verify(path, func(bucket string, key, value []byte) error {
		put(s.data, Change{bucket, key, bytes.Clone(value)})
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	f := string(s.Get(string(bucketMeta), keyFormat))
	if f != StoreFormat && string(s.Get(string(bucketFormat), keyFormat)) != StoreFormat {
		return nil, false, fmt.Errorf("store %s: %w: %q, this version reads %q", path, ErrFormat, f, StoreFormat)
	}
	if err := s.open(); err != nil {
		return nil, false, fmt.Errorf("open store %s: %w", path, err)
	}
	return s, false, nil
}

func put(data map[string]map[string][]byte, c Change) {
	b := data[c.Bucket]
	if b == nil {
		b = map[string][]byte{}
		data[c.Bucket] = b
	}
	if c.Value == nil {
		delete(b, string(c.Key))
		return
	}
	b[string(c.Key)] = c.Value
}

// Get returns the value of a key, nil if there is none.
func (s *Store) Get(bucket string, key []byte) []byte { return s.data[bucket][string(key)] }

// Each calls f for every key of a bucket that begins with prefix, in order, until
// f returns an error.
func (s *Store) Each(bucket string, prefix []byte, f func(key, value []byte) error) error {
	for _, k := range slices.Sorted(maps.Keys(s.data[bucket])) {
		if !bytes.HasPrefix([]byte(k), prefix) {
			continue
		}
		if err := f([]byte(k), s.data[bucket][k]); err != nil {
			return err
		}
	}
	return nil
}

// Commit applies changes, all or none, and returns when they are durable. After an
// error the store holds what it held before, but the file may hold either.
func (s *Store) Commit(changes []Change) error {
	if s.broken || s.db == nil {
		return s.commitAnew(changes)
	}
	err := s.faults.at(OpCommit, s.path)
	if err == nil {
		err = guarded(s.path, func() error { return s.db.Update(apply(changes)) })
	}
	if err == nil {
		err = s.faults.at(OpCommitted, s.path)
	}
	if err != nil {
		s.broken = true
		return fmt.Errorf("commit to %s: %w", filepath.Base(s.path), err)
	}
	for _, c := range changes {
		put(s.data, c)
	}
	return nil
}

func (s *Store) commitAnew(changes []Change) error {
	next := map[string]map[string][]byte{}
	for name, b := range s.data {
		next[name] = maps.Clone(b)
	}
	for _, c := range changes {
		put(next, c)
	}
	if err := s.rewrite(next); err != nil {
		return fmt.Errorf("write %s anew: %w", filepath.Base(s.path), err)
	}
	s.data = next
	return nil
}

// rewrite puts data into a new file and that file into the place of the old one,
// which may be damaged in ways that nobody can see from here.
func (s *Store) rewrite(data map[string]map[string][]byte) error {
	s.broken = true
	put(data, Change{string(bucketMeta), keyFormat, []byte(StoreFormat)})
	put(data, Change{string(bucketFormat), keyFormat, []byte(StoreFormat)})
	tmp := s.path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.faults.at(OpCreate, tmp); err != nil {
		return err
	}
	db, err := openBolt(tmp, false, 0)
	if err != nil {
		return err
	}
	if err := s.faults.at(OpCommit, tmp); err != nil {
		return errors.Join(err, db.Close())
	}
	err = errors.Join(guarded(tmp, func() error { return db.Update(apply(all(data))) }), db.Close())
	if err != nil {
		return err
	}
	if s.db != nil {
		old := s.db
		s.db = nil
		if err := guarded(s.path, old.Close); err != nil {
			return err
		}
	}
	if err := Rename(tmp, s.path, s.faults); err != nil {
		return err
	}
	err = s.open()
	s.broken = err != nil
	return err
}

func all(data map[string]map[string][]byte) []Change {
	var out []Change
	for _, name := range slices.Sorted(maps.Keys(data)) {
		for _, k := range slices.Sorted(maps.Keys(data[name])) {
			out = append(out, Change{name, []byte(k), data[name][k]})
		}
	}
	return out
}

func apply(changes []Change) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		for _, c := range changes {
			b, err := tx.CreateBucketIfNotExists([]byte(c.Bucket))
			if err != nil {
				return err
			}
			if c.Value == nil {
				err = b.Delete(c.Key)
			} else {
				err = b.Put(c.Key, c.Value)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", c.Bucket, err)
			}
		}
		return nil
	}
}

// Path returns the file's path.
func (s *Store) Path() string { return s.path }

// Close releases the file.
func (s *Store) Close() error {
	if s.db == nil {
		return nil
	}
	return guarded(s.path, s.db.Close)
}
