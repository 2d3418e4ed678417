package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/rules"
)

// restoreRules brings the rules back to where they were: their own state first, then
// the alarms of earlier runs that were not cleared, so that one that fires is not
// raised again and its clear is not forgotten. What could be read is restored even
// when an error says that not all could.
func (a *Agent) restoreRules(ctx context.Context, b *buffer.Buffer) error {
	a.engine.SetRun(b.RunID())
	a.keeper.stored = storedReadings(ctx, b)
	stateErr := a.keeper.restore(a.engine, a.clock)
	known := map[string]edgeagent.Event{}
	for _, id := range a.engine.AlarmIDs() {
		known[id] = edgeagent.Event{}
	}
	open := openAlarms{}
	err := readAlarms(ctx, b, func(ev edgeagent.Event) {
		if a.rewinds.take(ev) {
			return
		}
		if _, ok := known[ev.ID]; ok {
			known[ev.ID] = ev
		}
		open.take(ev)
	})
	a.engine.Restore(withKnown(open.records(), known))
	return errors.Join(stateErr, err)
}

// withKnown puts the last records of alarms that the rules know before the others,
// where they are not among them: they are over, and older.
func withKnown(records []edgeagent.Event, known map[string]edgeagent.Event) []edgeagent.Event {
	for _, ev := range records {
		delete(known, ev.ID)
	}
	var out []edgeagent.Event
	for _, id := range slices.Sorted(maps.Keys(known)) {
		if ev := known[id]; ev.ID != "" {
			out = append(out, ev)
		}
	}
	return append(out, records...)
}

// readAlarms passes on the stored alarms of all epochs in order. An epoch that
// cannot be read does not hide the others.
func readAlarms(ctx context.Context, b *buffer.Buffer, take func(edgeagent.Event)) error {
	var errs []error
	for _, epoch := range b.Epochs() {
		if err := readEpoch(ctx, b, epoch, take); err != nil {
			errs = append(errs, fmt.Errorf("read alarms of epoch %s: %w", epoch, err))
		}
	}
	return errors.Join(errs...)
}

func readEpoch(ctx context.Context, b *buffer.Buffer, epoch edgeagent.Epoch, take func(edgeagent.Event)) error {
	var events []edgeagent.Event
	for from := edgeagent.Seq(1); ; {
		batch, ok, err := b.Read(ctx, epoch, edgeagent.StreamAlarm, from, edgeagent.Limit{Records: 1024})
		if err != nil || !ok {
			return err
		}
		if events, err = batch.Events(events[:0]); err != nil {
			return err
		}
		for _, ev := range events {
			take(ev)
		}
		from = batch.Last() + 1
	}
}

// openAlarms keeps of each rule's instance, by the part of the id before the last
// slash, the records that say whether it fires: the stream may be long, what fires
// is little.
type openAlarms map[string]*openInstance

type openInstance struct {
	// open holds the last transition of each alarm that was not cleared, in the
	// order in which they were raised. More than one means that a clear was lost.
	open []edgeagent.Event
	// over is the clear of an alarm that was raised after all of open: they are
	// over, too. Its Kind is empty when there is none.
	over edgeagent.Event
}

// take takes the next record of the stream.
func (o openAlarms) take(ev edgeagent.Event) {
	name := ev.ID[:max(strings.LastIndexByte(ev.ID, '/'), 0)]
	in := o[name]
	if in == nil {
		in = new(openInstance)
		o[name] = in
	}
	at := slices.IndexFunc(in.open, func(e edgeagent.Event) bool { return e.ID == ev.ID })
	cleared := ev.Attrs["state"] == edgeagent.AlarmCleared
	switch {
	case !cleared && at < 0:
		in.open, in.over = append(in.open, ev), edgeagent.Event{}
	case !cleared:
		in.open[at] = ev
	case at >= 0:
		if at == len(in.open)-1 {
			in.over = ev
		}
		in.open = slices.Delete(in.open, at, at+1)
	}
	if len(in.open) == 0 {
		delete(o, name)
	}
}

// records returns what the engine needs to know, instance by instance.
func (o openAlarms) records() []edgeagent.Event {
	var out []edgeagent.Event
	for _, name := range slices.Sorted(maps.Keys(o)) {
		out = append(out, o[name].open...)
		if o[name].over.Kind != "" {
			out = append(out, o[name].over)
		}
	}
	return out
}

// maxRefill bounds the readings that rules look at again after a crash: a second's
// work, and more than an hour's of most gateways.
const maxRefill = 1 << 20

// storedReadings reads what the newest epoch of the buffer holds since a time.
func storedReadings(ctx context.Context, b *buffer.Buffer) rules.Stored {
	return func(since time.Time, take func([]edgeagent.Reading)) error {
		read := func(from edgeagent.Seq, records int) (edgeagent.Batch, bool, error) {
			return b.Read(ctx, b.Epoch(), edgeagent.StreamTelemetry, from, edgeagent.Limit{Records: records})
		}
		end := int(b.Stats().Streams[edgeagent.StreamTelemetry].Next)
		begin := max(1, end-maxRefill)
		// Times rise with the numbers, nearly.
		from := begin + sort.Search(end-begin, func(i int) bool {
			batch, ok, err := read(edgeagent.Seq(begin+i), 1)
			return err != nil || !ok || batch.MaxTime >= since.UnixNano()
		})
		var readings []edgeagent.Reading
		for next := edgeagent.Seq(from); ; {
			batch, ok, err := read(next, 4096)
			if err == nil && ok {
				readings, err = batch.Readings(readings[:0])
			}
			if err != nil {
				return fmt.Errorf("read what rules have seen: %w", err)
			}
			if !ok {
				return nil
			}
			take(readings)
			next = batch.Last() + 1
		}
	}
}
