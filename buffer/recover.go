package buffer

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/headlog"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// maxEpochs bounds the epochs beside the newest; the oldest goes, with a gap for
// what nobody confirmed.
const maxEpochs = 8

// guessEpochs puts the epochs of segments that state.db does not know in front of
// the known ones, in the order in which they were last written to.
func (b *Buffer) guessEpochs(files []segmentFile, rec *headlog.Recovery) error {
	written := map[edgeagent.Epoch]time.Time{}
	for _, f := range files {
		if b.epoch(f.epoch) == nil && f.changed.After(written[f.epoch]) {
			written[f.epoch] = f.changed
		}
	}
	head, err := headEpochs(rec)
	if err != nil {
		return err
	}
	for e := range head {
		if _, segments := written[e]; b.epoch(e) == nil && (!segments || e == rec.Report().Epoch) {
			written[e] = time.Now() // was written to last, but for the few that moved from an older file
		}
	}
	ids := slices.SortedFunc(maps.Keys(written), func(x, y edgeagent.Epoch) int {
		return cmp.Or(written[x].Compare(written[y]), cmp.Compare(x, y))
	})
	for i, id := range ids {
		b.epochs = slices.Insert(b.epochs, i, newEpoch(id, "found on the disk"))
	}
	return nil
}

// adoptAll finds out what segments and head log hold, and then what numbers are
// missing.
func (b *Buffer) adoptAll(ctx context.Context, files []segmentFile, rec *headlog.Recovery) error {
	var all []*adoption
	for i, ep := range b.epochs {
		for _, s := range edgeagent.Streams() {
			a := &adoption{b: b, ep: ep, ch: ep.streams[s], newest: i == len(b.epochs)-1, trustOpen: b.header.Clean}
			a.ch.limit = max(a.ch.limit, rec.Report().Limits[ep.id][s])
			for _, f := range files {
				if f.stream == s && f.epoch == ep.id {
					a.files = append(a.files, f)
				}
			}
			if err := a.run(ctx); err != nil {
				return err
			}
			all = append(all, a)
		}
	}
	r, err := b.replayHead(rec)
	if err != nil {
		return err
	}
	if n := len(b.epochs); n > 0 && b.report.NewEpoch == "" && r.nameless[b.newest().id] {
		// Their ids must not be given to others.
		b.report.NewEpoch = "definitions of series were lost"
	}
	for _, a := range all {
		a.headLost = b.headLost(rec.Report(), r)
		a.damaged = append(a.damaged, r.lost[a.ch]...)
		a.count(a.newest && b.report.NewEpoch == "")
	}
	return nil
}

// headLost says why records may be gone that were in the head log, or "". Where the
// machine has not stopped since, frames that are torn are damaged: the page cache
// forgets nothing.
func (b *Buffer) headLost(head headlog.Report, r *replay) Reason {
	torn := slices.ContainsFunc(head.Files, func(f headlog.FileReport) bool { return f.Torn && !f.Dead })
	switch {
	case head.Epoch != 0 && maimed(head.Files), head.Lost > 0 || r.damaged > 0 || len(r.lost) > 0 || torn && b.report.Clean:
		return Damaged
	case head.Epoch == 0: // no header in any file
		return Missing
	}
	return ""
}

// maimed reports whether a head file is missing, too short or without a beginning:
// it may have been the newest. There are two that are equally long, and each begins
// with a header.
func maimed(files []headlog.FileReport) bool {
	return len(files) == 1 || slices.ContainsFunc(files, func(f headlog.FileReport) bool {
		return f.Generation == 0 || f.Size != files[0].Size || f.Size < headlog.MinSize
	})
}

// adoption is how one chain comes to know its segments again.
type adoption struct {
	b         *Buffer
	ep        *epoch
	ch        *chain
	files     []segmentFile // rising
	newest    bool          // epoch that is known
	trustOpen bool          // summaries of segments that were open are true as well
	headLost  Reason        // of records in the head log, "" if it is whole

	summaries map[edgeagent.Seq]summary
	// complete: state.db names every segment that was ever committed to.
	complete bool
	damaged  []edgeagent.Range // of segments that were damaged
	// tail says that records at the end may be gone that nobody knows of, and
	// why; tailMost bounds how many.
	tail     Reason
	tailMost uint64
}

func (a *adoption) run(ctx context.Context) error {
	if err := a.loadSummaries(); err != nil {
		return err
	}
	gone := a.ch.gone()
	// From the newest back: blocks at or above the first number of the segment
	// behind were never accepted.
	below := maxSeq + 1
	for _, f := range slices.Backward(a.files) {
		if err := ctx.Err(); err != nil {
			return err
		}
		sg, err := a.segment(f, below)
		if err != nil {
			return err
		}
		if sg.records == 0 || len(gone.Missing(sg.rng())) == 0 { // unused, or its eviction was interrupted
			// The file goes once state.db does not name it any more: what is
			// named and not there is missed.
			a.b.leftover = append(a.b.leftover, sg)
			a.b.late = append(a.b.late, unset(bucketSegments, segmentKey(f.epoch, f.stream, f.first)))
			continue
		}
		a.b.measure(sg)
		a.ch.segs = append(a.ch.segs, sg)
		below = sg.first
	}
	slices.Reverse(a.ch.segs)
	a.lookForLost()
	return nil
}

func (a *adoption) loadSummaries() error {
	a.summaries, a.complete = map[edgeagent.Seq]summary{}, a.b.header.Opens > 0
	prefix := streamKey(a.ch.epoch, a.ch.stream)
	return a.b.store.Each(bucketSegments, prefix, func(key, value []byte) error {
		var s summary
		if err := parse(bucketSegments, key, value, &s); err != nil || len(key) != len(prefix)+8 {
			a.b.log.Warn("summary of a segment is damaged, reading it instead", "err", err)
			a.complete = false
			return nil
		}
		var first edgeagent.Seq
		for _, c := range key[len(prefix):] {
			first = first<<8 | edgeagent.Seq(c)
		}
		a.summaries[first] = s
		return nil
	})
}

// segment finds out what one segment holds: from its summary, by reading it, or by
// salvage.
func (a *adoption) segment(f segmentFile, below edgeagent.Seq) (*seg, error) {
	sg := &seg{path: f.path, stream: f.stream, epoch: f.epoch, first: f.first, last: f.first - 1, sealed: true}
	sum, known := a.summaries[f.first]
	sg.noted = known
	known = known && sum.Records > 0 && sum.Last < below && sum.Last >= f.first && (sum.Sealed || a.trustOpen)
	if known && sum.Size == f.size {
		sg.last, sg.records, sg.minTime, sg.maxTime, sg.sealed = sum.Last, sum.Records, sum.MinTime, sum.MaxTime, sum.Sealed
		return sg, nil
	}
	a.b.report.Inspected++
	got, err := a.b.inspect(f.path, f.epoch, f.stream, below-1)
	switch {
	case errors.Is(err, segment.ErrFormat):
		return nil, a.b.foreign("%w", err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, ErrKey):
		return nil, err
	case err != nil && a.unmade(f):
		a.b.log.Info("segment was never finished, a power cut came between", "path", f.path)
		return sg, nil
	case err != nil:
		if got, err = a.salvage(f, below, err); err != nil {
			return nil, err
		}
		if !known && below == maxSeq+1 {
			a.tail, a.tailMost = Damaged, uint64(f.size/block.HeaderSize+1)*block.MaxRecords
		}
	default:
		sg.verified = true
	}
	if known { // what is not there although the summary names it is damage
		a.damaged = append(a.damaged, edgeagent.Range{From: f.first, To: sum.Last})
	}
	sg.named = got.named
	if got.records > 0 {
		sg.last, sg.records, sg.minTime, sg.maxTime = got.last, got.records, got.minTime, got.maxTime
		sg.sealed = got.ranges[0] != sg.rng() || !sg.verified
		a.b.unsaved = append(a.b.unsaved, sg)
	}
	for _, e := range got.series {
		if int(e.ID) > len(a.ep.series.byID) || a.ep.series.byID[e.ID-1].IsZero() {
			a.ep.series.adopt(e.ID, edgeagent.NewSeries(e.Key))
		}
	}
	return sg, nil
}

// unmade reports whether the power was cut while a segment was made: state.db names
// it before the first commit to it, and there is no block in it.
func (a *adoption) unmade(f segmentFile) bool {
	if _, named := a.summaries[f.first]; named || !a.complete {
		return false
	}
	kept, err := a.b.salvage(f.path, a.ch, 0, 0)
	return err == nil && len(kept.blocks) == 0
}

// salvage keeps what is whole of a damaged segment.
func (a *adoption) salvage(f segmentFile, below edgeagent.Seq, cause error) (found, error) {
	b := a.b
	b.log.Error("segment is damaged", "path", f.path, "err", cause)
	b.count.damaged++
	kept, err := b.salvage(f.path, a.ch, f.first, below-1)
	if err != nil {
		return found{}, fmt.Errorf("salvage %s: %w", filepath.Base(f.path), err)
	}
	if err := b.replace(f.path, f.epoch, f.stream, kept); err != nil {
		// The blocks are where they are; whoever reads them tries again.
		b.log.Error("damaged segment not replaced", "path", f.path, "err", err)
	}
	b.report.Salvaged += kept.records
	to := below - 1
	if below == maxSeq+1 {
		to = max(kept.last, f.first)
	}
	a.damaged = append(a.damaged, edgeagent.Range{From: f.first, To: to})
	return kept.found, nil
}

// lookForLost notices segments that state.db knows of and that are not there.
func (a *adoption) lookForLost() {
	for first, s := range a.summaries {
		there := slices.ContainsFunc(a.files, func(f segmentFile) bool { return f.first == first })
		newest := len(a.files) == 0 || first > a.files[len(a.files)-1].first
		if there {
			continue
		}
		a.b.late = append(a.b.late, unset(bucketSegments, segmentKey(a.ch.epoch, a.ch.stream, first)))
		if newest && !s.Sealed && !a.trustOpen {
			a.tail, a.tailMost = Missing, uint64(a.b.o.segmentSize()/block.HeaderSize)*block.MaxRecords
		}
		if s.Records > 0 {
			a.damaged = append(a.damaged, edgeagent.Range{From: first, To: s.Last})
		}
	}
}

// count finds the next number and enters what is missing below it into the ledger.
// goOn: the epoch is the newest, and stays it.
func (a *adoption) count(goOn bool) {
	ch, before := a.ch, slices.Clone(a.ch.gaps)
	known := ch.lostRanges()
	for _, r := range ch.released {
		known.Add(r)
	}
	for _, sg := range ch.segs {
		known.Add(sg.rng())
		a.b.report.Segments++
		a.b.report.Records += sg.records
	}
	for i := range ch.tail.spans {
		known.Add(ch.tail.rng(i))
	}
	a.b.report.Records += uint64(ch.tail.len())
	end := edgeagent.Seq(1)
	if n := len(known); n > 0 {
		end = known[n-1].To + 1
	}
	for _, r := range a.damaged {
		end = max(end, r.To+1)
	}
	for _, d := range a.b.dests {
		if set := d.place(ch.epoch, ch.stream).set; len(set) > 0 {
			end = max(end, set[len(set)-1].To+1)
		}
	}
	if next := a.b.header.Next[ch.stream]; a.newest && a.b.header.Clean && end < next {
		// An orderly end said so: what is missing was in the head log.
		a.damaged = append(a.damaged, edgeagent.Range{From: end, To: next - 1})
		end = next
	}
	recovered := end
	if a.headLost != "" && !a.b.header.Clean && a.tail == "" {
		a.tail, a.tailMost = a.headLost, a.atRisk(a.headLost)
	}
	if a.newest && (a.tail != "" || !a.b.report.Clean) {
		switch {
		case !goOn: // no number of this epoch is given again: only what may be gone is left out
			end += edgeagent.Seq(a.mostLost())
		case end < ch.limit:
			end = ch.limit
		}
	}
	a.enter(known, recovered, end)
	ch.next = end
	if goOn {
		a.resume()
	}
	for _, g := range ch.gaps {
		if !slices.Contains(before, g) {
			a.b.report.Gaps = append(a.b.report.Gaps, g)
		}
	}
}

// atRisk bounds how many records may have been accepted and not be durable: as many
// as there is memory for those that no segment holds, without the ones recovered.
// A power cut takes no alarms, which are durable before they are accepted; nothing
// takes rollups, which are durable before they are numbered.
func (a *adoption) atRisk(why Reason) uint64 {
	most := 0
	switch {
	case a.ch.stream == edgeagent.StreamTelemetry:
		most = maxTail / rowBytes
	case a.ch.stream == edgeagent.StreamEvent, a.ch.stream == edgeagent.StreamAlarm && why != PowerCut:
		most = maxTail / eventOverhead
	}
	return uint64(max(most-a.ch.tail.len(), 0))
}

// mostLost bounds how many records may be gone behind those that were found.
func (a *adoption) mostLost() uint64 {
	if a.tail != "" {
		return a.tailMost
	}
	return a.atRisk(PowerCut)
}

// enter puts every number below end that is not known into the ledger.
func (a *adoption) enter(known edgeagent.Ranges, recovered, end edgeagent.Seq) {
	ch := a.ch
	var tFrom int64
	if n := len(ch.segs); n > 0 {
		tFrom = ch.segs[n-1].maxTime
	}
	if n := ch.tail.len(); n > 0 {
		_, tFrom = ch.tail.times()
	}
	now := a.b.start.Wall
	if end > recovered {
		g := Gap{Range: edgeagent.Range{From: recovered, To: end - 1}, Reason: PowerCut, AtMost: a.mostLost(), TFrom: tFrom, TTo: now}
		if a.tail != "" {
			g.Reason = a.tail
		}
		ch.lost(g)
	}
	lost := ch.lostRanges()
	for _, sg := range ch.segs { // holes that salvage left
		unnamed := uint64(0)
		for _, r := range lost.Missing(sg.rng()) {
			unnamed += r.Len()
		}
		if sg.records < unnamed {
			a.holes(sg)
		}
	}
	for _, r := range known.Missing(edgeagent.Range{From: 1, To: recovered - 1}) {
		reason := Missing
		for _, d := range a.damaged {
			if d.Contains(r.From) {
				reason = Damaged
			}
		}
		ch.lost(Gap{Range: r, Reason: reason, AtMost: r.Len(), TFrom: tFrom, TTo: now})
	}
}

// holes enters the numbers between the blocks of a salvaged segment.
func (a *adoption) holes(sg *seg) {
	got, err := a.b.inspect(sg.path, sg.epoch, sg.stream, sg.last)
	if err != nil {
		return // not replaced: heal does it when somebody reads
	}
	for _, r := range got.ranges.Missing(sg.rng()) {
		a.ch.lost(Gap{Range: r, Reason: Damaged, AtMost: r.Len(), TFrom: sg.minTime, TTo: sg.maxTime})
	}
}

// resume makes the last segment the open one, if the next number follows it.
func (a *adoption) resume() {
	first := a.ch.next
	if len(a.ch.tail.spans) > 0 {
		first = a.ch.tail.spans[0].first
	}
	if n := len(a.ch.segs); n > 0 {
		if sg := a.ch.segs[n-1]; !sg.sealed && sg.last+1 == first {
			a.ch.open = sg
		}
	}
	for _, sg := range a.ch.segs {
		sg.sealed = sg != a.ch.open
	}
}

// begin makes durable that a new run, and maybe a new epoch, has begun, and starts
// the head log. From here on an end without Close counts as unclean.
//
// The head log lets go of what it held once state.db and the segments say what is
// durable elsewhere. Where there was no buffer it goes first: a state without one
// means that a head log was lost.
func (b *Buffer) begin(identity Identity, startHead func() error) error {
	if err := b.makeDirs(); err != nil {
		return err
	}
	changes, err := b.lostSeries()
	if err != nil {
		return err
	}
	changes = append(changes, b.finishThinning()...)
	if b.report.NewEpoch != "" {
		b.epochs = append(b.epochs, newEpoch(edgeagent.Epoch(random()), b.report.NewEpoch))
	}
	more, err := b.epochChanges()
	if err != nil {
		return err
	}
	changes = append(changes, more...)
	for _, ep := range b.epochs {
		newest := ep == b.newest()
		for _, s := range edgeagent.Streams() {
			ch := ep.streams[s]
			for _, sg := range ch.segs {
				sg.sealed = sg.sealed || !newest
			}
			b.coverLost(ch)
			if newest {
				for ch.next >= ch.limit {
					ch.limit += reserveNumbers
				}
				ch.begin(b.run)
			}
			changes = append(changes, ch.change())
		}
	}
	b.unsaved = slices.DeleteFunc(b.unsaved, func(sg *seg) bool { return !sg.sealed })
	b.header = header{
		Run: b.run, Identity: identity, Key: b.vault.id(), Series: uint32(len(b.newest().series.byID)), Opens: b.header.Opens + 1,
	}
	changes = append(changes, set(bucketBuffer, keyHeader, b.header))
	steps := []func() error{func() error { return b.save(changes) }, startHead}
	if b.report.NewEpoch == created {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return b.removeLeftover()
}

// lostSeries stores the series that only the segments knew.
func (b *Buffer) lostSeries() ([]segment.Change, error) {
	var changes []segment.Change
	for _, ep := range b.epochs {
		n := uint32(len(ep.series.byID))
		if n > ep.series.stored {
			more, err := b.seriesChanges(ep.id, entries(ep.series.byID, ep.series.stored, n))
			if err != nil {
				return nil, err
			}
			changes = append(changes, more...)
		}
		ep.series.stored, ep.series.durable = n, n
	}
	return changes, nil
}

// epochChanges writes the list of epochs anew, without those that are too many:
// what is left of them is given up.
func (b *Buffer) epochChanges() ([]segment.Change, error) {
	var changes []segment.Change
	for i := 1; i < len(b.epochs); i++ {
		b.epochs[i].prev = b.epochs[i-1].id
	}
	for len(b.epochs)-1 > maxEpochs {
		more, err := b.dropEpoch(b.epochs[0])
		if err != nil {
			return nil, err
		}
		changes = append(changes, more...)
		b.epochs = b.epochs[1:]
	}
	err := b.store.Each(bucketEpochs, nil, func(key, _ []byte) error {
		changes = append(changes, unset(bucketEpochs, key))
		return nil
	})
	for i, ep := range b.epochs {
		changes = append(changes, set(bucketEpochs, orderKey(uint64(i)), epochRecord{ep.id, ep.reason, ep.prev}))
	}
	return changes, err
}

// dropEpoch unlinks an epoch's segments, and then forgets it.
func (b *Buffer) dropEpoch(ep *epoch) ([]segment.Change, error) {
	var changes []segment.Change
	var records uint64
	for _, s := range edgeagent.Streams() {
		b.tailBytes -= ep.streams[s].tail.bytes
		records += uint64(ep.streams[s].tail.len())
		for _, sg := range ep.streams[s].segs {
			records += sg.records
			if err := segment.Remove(sg.path, b.o.faults); err != nil {
				return nil, fmt.Errorf("drop epoch %s: %w", ep.id, err)
			}
			changes = append(changes, unset(bucketSegments, segmentKey(ep.id, s, sg.first)))
		}
		changes = append(changes, unset(bucketStreams, streamKey(ep.id, s)))
		for _, d := range b.dests {
			delete(d.places, placeKey{ep.id, s})
			key := cursorKey(d.name, ep.id, s)
			changes = append(changes, unset(bucketCursors, key), unset(bucketOwn, key))
		}
	}
	changes = append(changes, unset(bucketRewinds, orderKey(uint64(ep.id))))
	prefix := binary.BigEndian.AppendUint64(nil, uint64(ep.id))
	err := b.store.Each(bucketSeries, prefix, func(key, _ []byte) error {
		changes = append(changes, unset(bucketSeries, key))
		return nil
	})
	b.log.Warn("oldest epoch dropped, there are too many", "epoch", ep.id.String(), "records", records)
	return changes, err
}
