package agent

import (
	"context"
	"errors"
	"io"
	"math"
	"path/filepath"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/internal/api"
)

var _ api.BufferSource = (*Agent)(nil)

var errStarting = errors.New("the agent is starting")

// open returns the buffer, or an error before Run has opened it.
func (a *Agent) open() (*buffer.Buffer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.buffer == nil {
		return nil, errStarting
	}
	return a.buffer, nil
}

// BufferSurvey implements api.BufferSource.
func (a *Agent) BufferSurvey(context.Context) (api.BufferSurvey, error) {
	b, err := a.open()
	if err != nil {
		return api.BufferSurvey{}, err
	}
	v := SurveyOf(surveyed(b))
	v.Dead, err = DeadLettersOf(b)
	return v, err
}

// BufferVerify implements api.BufferSource.
func (a *Agent) BufferVerify(ctx context.Context) (api.BufferVerification, error) {
	b, err := a.open()
	if err != nil {
		return api.BufferVerification{}, err
	}
	v, err := b.Verify(ctx)
	return VerificationOf(surveyed(b), v), err
}

// surveyed names the directory so that others find it, wherever they are.
func surveyed(b *buffer.Buffer) buffer.Survey {
	s := b.Survey()
	if dir, err := filepath.Abs(s.Dir); err == nil {
		s.Dir = dir
	}
	return s
}

// BufferBlocks implements api.BufferSource.
func (a *Agent) BufferBlocks(ctx context.Context, q api.BlockQuery, w io.Writer) error {
	b, err := a.open()
	if err != nil {
		return err
	}
	write := func(blk []byte) error {
		_, err := w.Write(blk)
		return err
	}
	if q.Dead {
		return DeadBlocks(b, q, write)
	}
	return b.Blocks(ctx, buffer.Query{Stream: q.Stream, Since: q.Since}, write)
}

// deadStore is a buffer, open or only looked into.
type deadStore interface {
	DeadLetters(dest string) ([]buffer.DeadLetter, error)
	ReadDeadLetter(letter buffer.DeadLetter, f func(blk []byte) error) error
}

// DeadLettersOf lists the dead letters of a buffer in the form of the API.
func DeadLettersOf(b deadStore) ([]api.DeadLetter, error) {
	list, err := b.DeadLetters("")
	out := make([]api.DeadLetter, len(list))
	for i, x := range list {
		out[i] = api.DeadLetter{
			Destination: x.Destination, Stream: x.Stream, Epoch: x.Epoch, From: x.From, To: x.To,
			Records: x.Records, Bytes: x.Bytes, Cause: x.Cause, At: wallTime(x.At, true),
		}
	}
	return out, err
}

// DeadBlocks calls f for the blocks of the dead letters that q asks for. A letter that
// cannot be read does not hide the others.
func DeadBlocks(b deadStore, q api.BlockQuery, f func(blk []byte) error) error {
	list, err := b.DeadLetters(q.Destination)
	errs := []error{err}
	for _, x := range list {
		if x.Stream == q.Stream {
			errs = append(errs, b.ReadDeadLetter(x, f))
		}
	}
	return errors.Join(errs...)
}

// SurveyOf puts a survey into the form of the API, which the command line also
// uses for the buffer of a stopped agent.
func SurveyOf(s buffer.Survey) api.BufferSurvey {
	v := api.BufferSurvey{Stats: bufferStats(s)}
	for _, x := range s.Segments {
		v.Segments = append(v.Segments, api.BufferSegment{
			File: x.File, Stream: x.Stream, Epoch: x.Epoch, First: x.From, Last: x.To, Records: x.Records, Bytes: x.Bytes,
			Oldest: wallTime(x.Oldest, x.Records > 0), Newest: wallTime(x.Newest, x.Records > 0), State: string(x.State),
		})
	}
	for _, g := range s.Gaps {
		known := g.TFrom != 0 || g.TTo != 0
		x := api.BufferGap{
			Stream: g.Stream, Epoch: g.Epoch, From: g.From, To: g.To, Reason: string(g.Reason), AtMost: g.AtMost,
			Oldest: wallTime(g.TFrom, known), Newest: wallTime(g.TTo, known), Destination: g.Destination,
		}
		if g.Rollup.Len() > 0 {
			x.Rollup = &g.Rollup
		}
		v.Gaps = append(v.Gaps, x)
	}
	for _, r := range s.Runs {
		v.Runs = append(v.Runs, api.BufferRun{Stream: r.Stream, Epoch: r.Epoch, Run: r.Run, First: r.From, Last: r.To})
	}
	for _, x := range s.Series {
		v.Series = append(v.Series, api.BufferSeries{
			Epoch: x.Epoch, ID: x.ID, Series: x.Key.Name(), Unit: x.Key.Unit, Kind: x.Key.Kind.String(),
			Resolution: resolution(x.Key.Resolution), Tags: x.Key.Tags.Map(), Labels: x.Key.Labels.Map(),
		})
	}
	return v
}

// resolution is 10^k ns in seconds.
func resolution(k uint8) api.Seconds { return api.Seconds(math.Pow10(int(k) - 9)) }

func bufferStats(s buffer.Survey) api.BufferStats {
	v := api.BufferStats{
		Dir: s.Dir, Device: s.Device, Running: s.Running, Clean: s.Clean, Run: s.Run, Bytes: s.Used, MaxBytes: s.MaxBytes,
		Epochs: uint64(len(s.Epochs)), Series: uint64(len(s.Series)),
		QuarantineFiles: uint64(s.Quarantined), QuarantineBytes: s.QuarantineBytes,
		Streams: map[edgeagent.Stream]api.BufferStream{}, Gaps: map[string]api.BufferGapCount{},
	}
	for _, st := range edgeagent.Streams() {
		x := streamOf(s.Epochs, st)
		v.Streams[st] = x
		v.Records += x.Records
		v.Segments += x.Segments
	}
	if n := len(s.Epochs); n > 0 {
		v.Epoch = s.Epochs[n-1].Epoch
	}
	runs := map[edgeagent.Run]bool{}
	for _, r := range s.Runs {
		runs[r.Run] = true
	}
	v.Runs = uint64(len(runs))
	for _, g := range s.Gaps {
		c := v.Gaps[string(g.Reason)]
		v.Gaps[string(g.Reason)] = api.BufferGapCount{Ranges: c.Ranges + 1, Records: c.Records + g.AtMost}
	}
	for _, d := range s.Destinations {
		x := api.BufferDestination{Name: d.Name, Active: d.Active, ByStream: d.Unconfirmed}
		for _, n := range d.Unconfirmed {
			x.Unconfirmed += n
		}
		v.Destinations = append(v.Destinations, x)
	}
	return v
}

// streamOf sums up a stream over all epochs.
func streamOf(epochs []buffer.EpochSurvey, st edgeagent.Stream) api.BufferStream {
	v := api.BufferStream{Next: 1, Low: 1}
	var oldest, newest int64
	for _, e := range epochs {
		x := e.Streams[st]
		v.Next, v.Low = x.Next, x.Low
		v.Segments += uint64(x.Segments)
		v.Bytes += x.Bytes
		if x.Records == 0 {
			continue
		}
		if v.Records == 0 {
			oldest, newest = x.Oldest, x.Newest
		}
		v.Records += x.Records
		oldest, newest = min(oldest, x.Oldest), max(newest, x.Newest)
	}
	v.Oldest, v.Newest = wallTime(oldest, v.Records > 0), wallTime(newest, v.Records > 0)
	if v.Records > 0 {
		v.BytesPerRecord = float64(v.Bytes*100/int64(v.Records)) / 100
	}
	return v
}

func wallTime(ns int64, known bool) api.Time {
	if !known {
		return api.Time{}
	}
	return api.At(time.Unix(0, ns))
}

// VerificationOf puts the result of a verification into the form of the API.
func VerificationOf(s buffer.Survey, v buffer.Verification) api.BufferVerification {
	out := api.BufferVerification{
		Dir: s.Dir, Running: s.Running, OK: len(v.Problems) == 0,
		Segments: uint64(v.Segments), Blocks: v.Blocks, Records: v.Records, Bytes: v.Bytes,
	}
	for _, p := range v.Problems {
		x := api.BufferProblem{Kind: string(p.Kind), File: p.File, Stream: p.Stream, Epoch: p.Epoch, From: p.From, To: p.To}
		if p.Err != nil {
			x.Text = p.Err.Error()
		}
		out.Problems = append(out.Problems, x)
	}
	return out
}
