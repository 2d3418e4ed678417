package buffer

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// Buckets of state.db. Values are JSON, but for the series: those are blocks.
const (
	bucketBuffer       = "buffer"       // "header" → header
	bucketEpochs       = "epochs"       // order u64 → epochRecord
	bucketStreams      = "streams"      // epoch u64, stream u8 → record
	bucketSegments     = "segments"     // epoch u64, stream u8, first u64 → summary
	bucketSeries       = "series"       // epoch u64, first id u32 → series block
	bucketDestinations = "destinations" // name → destinationRecord
	bucketCursors      = "cursors"      // name, 0, epoch u64, stream u8 → ranges
	bucketClock        = "clock"        // order u64 → correctionRecord
	bucketRewinds      = "rewinds"      // epoch u64 → rewind
	bucketOwn          = "own"          // name, 0, epoch u64, stream u8 → ownRecord
)

var keyHeader = []byte("header")

// header is what the buffer knows of itself.
type header struct {
	Run      edgeagent.Run `json:"run"`
	Identity Identity      `json:"identity"`
	// Clean is set by Close and removed before the first append.
	Clean bool `json:"clean"`
	// Series is the highest series id of the newest epoch, so that a lost entry
	// is noticed before its id is given to another series.
	Series uint32 `json:"series"`
	// Next says, once Clean, which numbers come next, so that a head file that is
	// lost afterwards is noticed.
	Next [5]edgeagent.Seq `json:"next,omitzero"`
	// Key is the id of the key that everything is sealed with.
	Key string `json:"key,omitempty"`
	// Opens counts the opens of the buffer.
	Opens uint64 `json:"opens"`
}

// epochRecord is one epoch, in the order in which they were made.
type epochRecord struct {
	Epoch  edgeagent.Epoch `json:"epoch"`
	Reason string          `json:"reason"`
	Prev   edgeagent.Epoch `json:"prev,omitzero"`
}

// record is what outlives the process of one stream of one epoch.
type record struct {
	// Limit: no number at or above it is given out before it is raised.
	Limit edgeagent.Seq `json:"limit"`
	// Low: nothing below it can be delivered.
	Low edgeagent.Seq `json:"low"`
	// Runs: which run gave the numbers from which one on.
	Runs []runStart `json:"runs,omitempty"`
	// Released: confirmed by every destination of its time, and unlinked.
	Released edgeagent.Ranges `json:"released,omitempty"`
	Gaps     []gapJSON        `json:"gaps,omitempty"`
}

type runStart struct {
	First edgeagent.Seq `json:"first"`
	Run   edgeagent.Run `json:"run"`
}

// summary is what is known of a segment without reading it.
type summary struct {
	Size    int64         `json:"size"` // of the file; a file of another size is read again
	Last    edgeagent.Seq `json:"last"`
	Records uint64        `json:"records"`
	MinTime int64         `json:"min_time"`
	MaxTime int64         `json:"max_time"`
	// Sealed: nothing is appended any more, so the rest stays true.
	Sealed bool `json:"sealed"`
}

type destinationRecord struct {
	Start Start `json:"start"`
	// Seen counts the opens of the buffer; the least recently seen of the
	// destinations that are not in use goes first.
	Seen uint64 `json:"seen"`
	// Held: registered once, and not released since.
	Held bool `json:"held,omitempty"`
}

// ownRecord is what one destination alone cannot get of a stream.
type ownRecord struct {
	Low  edgeagent.Seq `json:"low,omitempty"`
	Gaps []gapJSON     `json:"gaps,omitempty"`
}

func streamKey(e edgeagent.Epoch, s edgeagent.Stream) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(e)), byte(s))
}

func segmentKey(e edgeagent.Epoch, s edgeagent.Stream, first edgeagent.Seq) []byte {
	return binary.BigEndian.AppendUint64(streamKey(e, s), uint64(first))
}

func cursorKey(dest string, e edgeagent.Epoch, s edgeagent.Stream) []byte {
	return append(append([]byte(dest), 0), streamKey(e, s)...)
}

// parseCursorKey is the inverse of cursorKey.
func parseCursorKey(key []byte) (dest string, e edgeagent.Epoch, s edgeagent.Stream, ok bool) {
	name, rest, ok := strings.Cut(string(key), "\x00")
	if !ok || len(rest) != 9 {
		return "", 0, 0, false
	}
	return name, edgeagent.Epoch(binary.BigEndian.Uint64([]byte(rest))), edgeagent.Stream(rest[8]), true
}

func orderKey(order uint64) []byte { return binary.BigEndian.AppendUint64(nil, order) }

// set is the change that stores v, which is always a struct or slice of ours. The
// file's pages have no checksums, so each value has one, over its place as well.
func set(bucket string, key []byte, v any) segment.Change {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("state %s: %v", bucket, err))
	}
	sum := binary.LittleEndian.AppendUint32(nil, checksum(bucket, key, b))
	return segment.Change{Bucket: bucket, Key: key, Value: append(sum, b...)}
}

func unset(bucket string, key []byte) segment.Change {
	return segment.Change{Bucket: bucket, Key: key}
}

func checksum(bucket string, key, value []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, []byte(bucket))
	return crc32.Update(crc32.Update(sum, table, key), table, value)
}

// get reads a value into v. A value that is not there is damage, too: see parse.
func get(st *segment.Store, bucket string, key []byte, v any) error {
	return parse(bucket, key, st.Get(bucket, key), v)
}

// parse reads what set stored.
func parse(bucket string, key, b []byte, v any) error {
	if len(b) < 4 || binary.LittleEndian.Uint32(b) != checksum(bucket, key, b[4:]) {
		return fmt.Errorf("state %s: %w: bad checksum", bucket, segment.ErrDamaged)
	}
	if err := json.Unmarshal(b[4:], v); err != nil {
		return fmt.Errorf("state %s: %w: %w", bucket, segment.ErrDamaged, err)
	}
	return nil
}
