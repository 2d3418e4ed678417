package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/edgeagent/edgeagent"
)

// Format is what a segment says it is.
const Format = "edgeagent segment 1"

// Slack is how much a segment may grow by one Append beyond the bytes that are
// appended: bbolt rewrites up to two neighbours of 32 KiB, the branch pages and
// the free list.
const Slack = 96 << 10

// A file says its format twice, in two buckets: one flipped bit must not make it
// look like another version's.
var (
	bucketMeta   = []byte("meta")
	bucketFormat = []byte("format")
	bucketBlocks = []byte("blocks")
	bucketSeries = []byte("series")
	keyFormat    = []byte("format")
)

// Block is one stored value and its place.
type Block struct {
	First edgeagent.Seq
	// Starts marks the first block of a clock segment: the wall clock was
	// stepped before it, so nothing merges it with the block in front.
	Starts  bool
	Encoded []byte
}

// Segment is one open file of blocks.
type Segment struct {
	path   string
	db     *bbolt.DB
	faults Faults
	series uint64 // key of the next series block
	broken bool
	used   int64
}

// Create makes a new, empty segment whose directory entry is durable. maxSize is
// how far it is expected to grow. An existing file is an error.
func Create(path string, maxSize int, faults Faults) (*Segment, error) {
	if err := faults.at(OpCreate, path); err != nil {
		return nil, fmt.Errorf("create segment %s: %w", filepath.Base(path), err)
	}
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("create segment %s: %w", filepath.Base(path), os.ErrExist)
	}
	db, err := openBolt(path, false, maxSize)
	if err != nil {
		if rm := os.Remove(path); rm != nil && !errors.Is(rm, os.ErrNotExist) {
			err = errors.Join(err, rm)
		}
		return nil, fmt.Errorf("create segment: %w", err)
	}
	s := &Segment{path: path, db: db, faults: faults, used: 4 * pageSize}
	if err := SyncDir(filepath.Dir(path), faults); err != nil {
		return nil, errors.Join(fmt.Errorf("create segment: %w", err), s.Close(), os.Remove(path))
	}
	return s, nil
}

// Open opens a segment that [Verify] has passed. A segment that is only read is
// opened readOnly.
func Open(path string, readOnly bool, maxSize int, faults Faults) (*Segment, error) {
	if _, err := os.Lstat(path); err != nil { // bbolt would make it
		return nil, fmt.Errorf("open segment: %w", err)
	}
	s := &Segment{path: path, faults: faults}
	err := guarded(path, func() (err error) {
		if s.db, err = openBolt(path, readOnly, maxSize); err != nil {
			return err
		}
		return s.db.View(func(tx *bbolt.Tx) error {
			s.used = tx.Size()
			if b := tx.Bucket(bucketSeries); b != nil {
				if k, _ := b.Cursor().Last(); len(k) == 8 {
					s.series = binary.BigEndian.Uint64(k) + 1
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", filepath.Base(path), err)
	}
	return s, nil
}

// Append stores blocks, in the order of their numbers, and the blocks that define
// their series, in one commit that is durable when it returns. After an error the
// segment refuses further appends; whether this one is on the disk is unknown.
func (s *Segment) Append(blocks []Block, series [][]byte) error {
	if s.broken {
		return fmt.Errorf("append to segment %s: %w", filepath.Base(s.path), ErrBroken)
	}
	err := s.faults.at(OpCommit, s.path)
	if err == nil {
		err = guarded(s.path, func() error {
			if err := s.db.Update(s.put(blocks, series)); err != nil {
				return err
			}
			return s.db.View(s.measure)
		})
	}
	if err == nil {
		err = s.faults.at(OpCommitted, s.path)
	}
	if err != nil {
		s.broken = true
		return fmt.Errorf("append to segment %s: %w", filepath.Base(s.path), err)
	}
	return nil
}

func (s *Segment) measure(tx *bbolt.Tx) error {
	s.used = tx.Size()
	return nil
}

func (s *Segment) put(blocks []Block, series [][]byte) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		data, err := s.bucket(tx, bucketBlocks)
		if err != nil {
			return err
		}
		names, err := s.bucket(tx, bucketSeries)
		if err != nil {
			return err
		}
		for _, b := range series {
			if err := names.Put(binary.BigEndian.AppendUint64(nil, s.series), b); err != nil {
				return err
			}
			s.series++
		}
		for _, b := range blocks {
			if err := data.Put(blockKey(b.First, b.Starts), b.Encoded); err != nil {
				return err
			}
		}
		return nil
	}
}

// bucket makes the three buckets with the first commit, so that an empty file
// costs no commit of its own.
func (s *Segment) bucket(tx *bbolt.Tx, name []byte) (*bbolt.Bucket, error) {
	if b := tx.Bucket(name); b != nil {
		b.FillPercent = 1 // only ever appended to
		return b, nil
	}
	for _, name := range [][]byte{bucketMeta, bucketFormat} {
		meta, err := tx.CreateBucketIfNotExists(name)
		if err != nil {
			return nil, err
		}
		if err := meta.Put(keyFormat, []byte(Format)); err != nil {
			return nil, err
		}
	}
	b, err := tx.CreateBucket(name)
	if err != nil {
		return nil, err
	}
	b.FillPercent = 1
	return b, nil
}

// blockKey orders blocks by number; the last byte says whether a clock segment
// starts there.
func blockKey(first edgeagent.Seq, starts bool) []byte {
	k := binary.BigEndian.AppendUint64(make([]byte, 0, 9), uint64(first))
	if starts {
		return append(k, 1)
	}
	return append(k, 0)
}

// ParseBlockKey is the inverse of the key that a block is stored under; ok is
// false for anything else.
func ParseBlockKey(k []byte) (first edgeagent.Seq, starts, ok bool) {
	if len(k) != 9 || k[8] > 1 {
		return 0, false, false
	}
	return edgeagent.Seq(binary.BigEndian.Uint64(k)), k[8] == 1, true
}

// Each calls f for every block in order, beginning with the last one that starts
// at from or before, until f returns false.
func (s *Segment) Each(from edgeagent.Seq, f func(Block) bool) error {
	err := guarded(s.path, func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketBlocks)
			if b == nil {
				return nil
			}
			c := b.Cursor()
			for k, v := seekBefore(c, from); k != nil; k, v = c.Next() {
				first, starts, ok := ParseBlockKey(k)
				if !ok {
					return fmt.Errorf("%w: bad key %x", ErrDamaged, k)
				}
				if !f(Block{first, starts, v}) {
					return nil
				}
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("read segment %s: %w", filepath.Base(s.path), err)
	}
	return nil
}

func seekBefore(c *bbolt.Cursor, from edgeagent.Seq) (k, v []byte) {
	next := binary.BigEndian.AppendUint64(nil, uint64(from)+1)
	if k, _ = c.Seek(next); k == nil {
		if k, v = c.Last(); k != nil {
			return k, v
		}
		return c.First()
	}
	if k, v = c.Prev(); k != nil {
		return k, v
	}
	return c.First()
}

// Series calls f for every series block in the order in which they were stored,
// until f returns false.
func (s *Segment) Series(f func(encoded []byte) bool) error {
	err := guarded(s.path, func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketSeries)
			if b == nil {
				return nil
			}
			c := b.Cursor()
			for k, v := c.First(); k != nil && f(v); k, v = c.Next() {
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("read segment %s: %w", filepath.Base(s.path), err)
	}
	return nil
}

// Used returns how far the file has been written, in bytes; the file itself is
// longer and sparse.
func (s *Segment) Used() int64 { return s.used }

// Close releases the file.
func (s *Segment) Close() error {
	return guarded(s.path, s.db.Close)
}
