package api

import (
	"context"
	"encoding/json"
	"io"

	"github.com/edgeagent/edgeagent"
)

// BufferSource is what a [Source] may be as well: then the server answers
// questions about the buffer in detail, too. It is called from many goroutines.
type BufferSource interface {
	BufferSurvey(ctx context.Context) (BufferSurvey, error)
	// BufferVerify reads every block; that takes as long as the disk does.
	BufferVerify(ctx context.Context) (BufferVerification, error)
	// BufferBlocks writes what q asks for to w, whole blocks back to back: for
	// each epoch its series blocks first.
	BufferBlocks(ctx context.Context, q BlockQuery, w io.Writer) error
}

// BlockQuery says which records are wanted.
type BlockQuery struct {
	Stream edgeagent.Stream
	Since  int64 // Unix ns: whole blocks that are older are left out
	// Dead: those of dead letters instead, whatever their age, of one destination or,
	// with "", of all.
	Dead        bool
	Destination string
}

// BufferSurvey is all there is to say about a buffer without reading its records.
type BufferSurvey struct {
	Stats    BufferStats     `json:"stats"`
	Segments []BufferSegment `json:"segments"`
	Gaps     []BufferGap     `json:"gaps"`
	Runs     []BufferRun     `json:"runs"`
	Series   []BufferSeries  `json:"series"`
	Dead     []DeadLetter    `json:"dead_letters"` // oldest first
}

// DeadLetter is a copy of records that a destination refuses for ever.
type DeadLetter struct {
	Destination string           `json:"destination"`
	Stream      edgeagent.Stream `json:"stream"`
	Epoch       edgeagent.Epoch  `json:"epoch"`
	From        edgeagent.Seq    `json:"from"`
	To          edgeagent.Seq    `json:"to"`
	Records     uint64           `json:"records"`
	Bytes       int64            `json:"bytes"` // of the copy
	Cause       string           `json:"cause"`
	At          Time             `json:"at"`
}

// BufferStats is the part of a survey that has the same size whatever is stored.
type BufferStats struct {
	Dir     string          `json:"dir"`
	Device  string          `json:"device,omitempty"`
	Running bool            `json:"running"` // an agent has it open
	Clean   bool            `json:"clean"`   // the last run ended in order; false while one goes on
	Epoch   edgeagent.Epoch `json:"epoch"`   // the newest
	Run     edgeagent.Run   `json:"run"`     // this one, or the last

	Bytes    int64  `json:"bytes"`               // on disk
	MaxBytes int64  `json:"max_bytes,omitempty"` // the budget; absent when nobody knows it
	Records  uint64 `json:"records"`             // held
	Segments uint64 `json:"segments"`
	Epochs   uint64 `json:"epochs"`
	Runs     uint64 `json:"runs"`   // that appended something and are still known
	Series   uint64 `json:"series"` // of all epochs

	Streams         map[edgeagent.Stream]BufferStream `json:"streams"`
	Destinations    []BufferDestination               `json:"destinations"`
	Gaps            map[string]BufferGapCount         `json:"gaps"` // by reason
	QuarantineFiles uint64                            `json:"quarantine_files"`
	QuarantineBytes int64                             `json:"quarantine_bytes"`
}

// BufferStream is one stream over all epochs; Next and Low are those of the newest.
type BufferStream struct {
	Next           edgeagent.Seq `json:"next"`
	Low            edgeagent.Seq `json:"low"`     // nothing below can be delivered
	Records        uint64        `json:"records"` // held
	Segments       uint64        `json:"segments"`
	Bytes          int64         `json:"bytes"`
	BytesPerRecord float64       `json:"bytes_per_record,omitzero"`
	Oldest         Time          `json:"oldest,omitzero"`
	Newest         Time          `json:"newest,omitzero"`
}

// BufferDestination is what a destination has yet to confirm.
type BufferDestination struct {
	Name        string                      `json:"name"`
	Active      bool                        `json:"active"` // in this run or the last one; the others hold nothing back
	Unconfirmed uint64                      `json:"unconfirmed_records"`
	ByStream    map[edgeagent.Stream]uint64 `json:"unconfirmed_by_stream"`
}

// BufferGapCount sums up the gaps of one reason.
type BufferGapCount struct {
	Ranges  uint64 `json:"ranges"`
	Records uint64 `json:"records"` // at most
}

// BufferSegment is one file.
type BufferSegment struct {
	File    string           `json:"file"` // relative to dir
	Stream  edgeagent.Stream `json:"stream"`
	Epoch   edgeagent.Epoch  `json:"epoch"`
	First   edgeagent.Seq    `json:"first"`
	Last    edgeagent.Seq    `json:"last"` // first less 1 while it is empty
	Records uint64           `json:"records"`
	Bytes   int64            `json:"bytes"`
	Oldest  Time             `json:"oldest,omitzero"`
	Newest  Time             `json:"newest,omitzero"`
	State   string           `json:"state"`
}

// BufferGap is a range that can no longer be delivered.
type BufferGap struct {
	Stream      edgeagent.Stream `json:"stream"`
	Epoch       edgeagent.Epoch  `json:"epoch"`
	From        edgeagent.Seq    `json:"from"`
	To          edgeagent.Seq    `json:"to"`
	Reason      string           `json:"reason"`
	AtMost      uint64           `json:"at_most"` // records
	Oldest      Time             `json:"oldest,omitzero"`
	Newest      Time             `json:"newest,omitzero"`
	Rollup      *edgeagent.Range `json:"rollup,omitempty"`      // numbers of the rollups made of them
	Destination string           `json:"destination,omitempty"` // absent when it is everybody's
}

// BufferRun is the part of a stream that one run appended.
type BufferRun struct {
	Stream edgeagent.Stream `json:"stream"`
	Epoch  edgeagent.Epoch  `json:"epoch"`
	Run    edgeagent.Run    `json:"run"`
	First  edgeagent.Seq    `json:"first"`
	Last   edgeagent.Seq    `json:"last"`
}

// BufferSeries is one id.
type BufferSeries struct {
	Epoch      edgeagent.Epoch   `json:"epoch"`
	ID         uint32            `json:"id"`
	Series     string            `json:"series"` // sensor/metric
	Unit       string            `json:"unit,omitempty"`
	Kind       string            `json:"kind"`
	Resolution Seconds           `json:"resolution_s"` // of its times
	Tags       map[string]string `json:"tags,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// BufferVerification is what reading every block has shown.
type BufferVerification struct {
	Dir      string          `json:"dir"`
	Running  bool            `json:"running"`
	OK       bool            `json:"ok"`
	Segments uint64          `json:"segments"`
	Blocks   uint64          `json:"blocks"`  // whole ones
	Records  uint64          `json:"records"` // in them
	Bytes    int64           `json:"bytes"`   // of them
	Problems []BufferProblem `json:"problems"`
}

// BufferProblem is one thing that is wrong.
type BufferProblem struct {
	Kind   string           `json:"kind"`
	File   string           `json:"file,omitempty"`  // relative to dir
	Stream edgeagent.Stream `json:"stream,omitzero"` // with epoch, from and to
	Epoch  edgeagent.Epoch  `json:"epoch,omitzero"`
	From   edgeagent.Seq    `json:"from,omitzero"`
	To     edgeagent.Seq    `json:"to,omitzero"`
	Text   string           `json:"text"`
}

// MarshalJSON writes empty lists as [].
func (s BufferSurvey) MarshalJSON() ([]byte, error) {
	type plain BufferSurvey
	s.Segments, s.Gaps, s.Runs, s.Series = orEmpty(s.Segments), orEmpty(s.Gaps), orEmpty(s.Runs), orEmpty(s.Series)
	s.Dead = orEmpty(s.Dead)
	return json.Marshal(plain(s))
}

// MarshalJSON writes empty lists as [] and empty objects as {}.
func (s BufferStats) MarshalJSON() ([]byte, error) {
	type plain BufferStats
	s.Destinations = orEmpty(s.Destinations)
	if s.Streams == nil {
		s.Streams = map[edgeagent.Stream]BufferStream{}
	}
	if s.Gaps == nil {
		s.Gaps = map[string]BufferGapCount{}
	}
	return json.Marshal(plain(s))
}

// MarshalJSON writes an empty list as [].
func (v BufferVerification) MarshalJSON() ([]byte, error) {
	type plain BufferVerification
	v.Problems = orEmpty(v.Problems)
	return json.Marshal(plain(v))
}
