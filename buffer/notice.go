package buffer

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/edgeagent/edgeagent"
)

// KindGap is the kind of the events that tell people of records that cannot be
// delivered any more. The proof is in marks; these may be late, and are not made
// for what happened just before the process died.
const KindGap = "gap"

// Bounds of notices: at most one a stream in 10 s, and while there is always
// something new the pause doubles up to an hour. So a buffer that is full for weeks
// does not fill itself with notices, and a notice that pushes out records, which is
// worth a notice, cannot go on for ever at any pace.
const (
	noticeEvery   = 10 * time.Second
	noticeLongest = time.Hour
)

// noticeKey is what one notice is about. Dest is empty for what concerns all.
type noticeKey struct {
	stream edgeagent.Stream
	reason Reason
	dest   string
}

// notices collects what came into the ledger and says when people are told. It is
// a pure state machine: time is run time, and is passed in.
type notices struct {
	known   map[chainKey]edgeagent.Ranges // the ledger as it was collected last
	waiting [5][]notice                   // by stream, oldest first; one a key
	next    [5]time.Duration              // no notice of the stream before
	pause   [5]time.Duration              // after the next one
}

// chainKey names a ledger: the common one of a stream, or a destination's own.
type chainKey struct {
	epoch  edgeagent.Epoch
	stream edgeagent.Stream
	dest   string
}

// notice is what has gathered under one key.
type notice struct {
	key    noticeKey
	ranges int
	extent Gap // From and To are of the epoch that was seen last
	atMost uint64
}

// learn takes the ledger as it stands for known, but for what is fresh.
func (n *notices) learn(all, fresh []Gap) {
	news := ledgerSets(fresh)
	n.known = map[chainKey]edgeagent.Ranges{}
	for _, g := range all {
		k := g.chain()
		for _, r := range news[k].Missing(g.Range) {
			rs := n.known[k]
			rs.Add(r)
			n.known[k] = rs
		}
	}
}

func (g Gap) chain() chainKey { return chainKey{g.Epoch, g.Stream, g.Destination} }

func ledgerSets(gaps []Gap) map[chainKey]edgeagent.Ranges {
	out := map[chainKey]edgeagent.Ranges{}
	for _, g := range gaps {
		rs := out[g.chain()]
		rs.Add(g.Range)
		out[g.chain()] = rs
	}
	return out
}

// collect takes the ledger as it stands now. A gap in which nothing is lost is
// nothing to tell.
func (n *notices) collect(gaps []Gap) {
	known := n.known
	n.known = ledgerSets(gaps) // bounded as the ledger is
	for _, g := range gaps {
		if g.AtMost == 0 {
			continue
		}
		parts := known[g.chain()].Missing(g.Range)
		if len(parts) == 0 {
			continue
		}
		x := n.entry(noticeKey{g.Stream, g.Reason, g.Destination})
		left := g.AtMost
		for _, r := range parts {
			if x.ranges == 0 || x.extent.Epoch != g.Epoch {
				x.extent.Epoch, x.extent.Range = g.Epoch, r
			}
			x.extent.From, x.extent.To = min(x.extent.From, r.From), max(x.extent.To, r.To)
			x.ranges++
			lost := min(left, r.Len())
			left -= lost
			x.atMost += lost
		}
		x.extent.TFrom, x.extent.TTo = joinTimes(x.extent.TFrom, x.extent.TTo, g.TFrom, g.TTo)
	}
}

func (n *notices) entry(k noticeKey) *notice {
	list := &n.waiting[k.stream]
	for i := range *list {
		if (*list)[i].key == k {
			return &(*list)[i]
		}
	}
	*list = append(*list, notice{key: k})
	return &(*list)[len(*list)-1]
}

// due takes out the notices that may be told now, one a stream at most.
func (n *notices) due(now time.Duration) []notice {
	var out []notice
	for s := range n.waiting {
		switch {
		case now < n.next[s]:
		case len(n.waiting[s]) > 0:
			out = append(out, n.waiting[s][0])
			n.waiting[s] = n.waiting[s][1:]
			n.pause[s] = min(max(2*n.pause[s], noticeEvery), noticeLongest)
			n.next[s] = now + n.pause[s]
		case now >= n.next[s]+n.pause[s]: // it was quiet
			n.pause[s] = 0
		}
	}
	return out
}

// putBack returns a notice that could not be told.
func (n *notices) putBack(x notice) {
	list := &n.waiting[x.key.stream]
	for i := range *list {
		if y := &(*list)[i]; y.key == x.key {
			y.ranges, y.atMost = y.ranges+x.ranges, y.atMost+x.atMost
			if y.extent.Epoch == x.extent.Epoch {
				y.extent.From, y.extent.To = min(y.extent.From, x.extent.From), max(y.extent.To, x.extent.To)
			}
			y.extent.TFrom, y.extent.TTo = joinTimes(y.extent.TFrom, y.extent.TTo, x.extent.TFrom, x.extent.TTo)
			return
		}
	}
	*list = append([]notice{x}, *list...)
}

// reasonWords says each reason in plain words.
var reasonWords = map[Reason]string{
	Evicted:      "gave way to newer ones before delivery",
	RolledUp:     "replaced by rollups before delivery",
	Damaged:      "lost in a damaged file",
	Missing:      "missing, and nothing says why",
	PowerCut:     "perhaps lost in a power cut",
	Expired:      "gone before the destination asked for them",
	DeadLettered: "refused by the destination and put aside",
}

// event is a notice as a record.
func (x notice) event(at edgeagent.Instant) edgeagent.Event {
	what := "records"
	if x.atMost == 1 {
		what = "record"
	}
	text := fmt.Sprintf("%s, at most %d %s: %s", x.key.stream, x.atMost, what, reasonWords[x.key.reason])
	attrs := map[string]string{
		"epoch": x.extent.Epoch.String(), "stream": x.key.stream.String(), "reason": string(x.key.reason),
		"from": strconv.FormatUint(uint64(x.extent.From), 10), "to": strconv.FormatUint(uint64(x.extent.To), 10),
		"ranges": strconv.Itoa(x.ranges), "at_most": strconv.FormatUint(x.atMost, 10),
	}
	if x.key.dest != "" {
		attrs["destination"] = x.key.dest
		text += " (" + x.key.dest + ")"
	}
	if x.extent.TFrom != 0 || x.extent.TTo != 0 {
		attrs["t_from"] = time.Unix(0, x.extent.TFrom).UTC().Format(time.RFC3339)
		attrs["t_to"] = time.Unix(0, x.extent.TTo).UTC().Format(time.RFC3339)
	}
	return edgeagent.Event{At: at, Kind: KindGap, Severity: edgeagent.Warning, Text: text, Attrs: attrs}
}

// watchGaps tells of gaps until ctx ends. It has a goroutine of its own: its
// appends may have to wait for room like all others.
func (b *Buffer) watchGaps(ctx context.Context) {
	tick := time.NewTicker(noticeEvery / 2)
	defer tick.Stop()
	for {
		if err := b.tellGaps(ctx); err != nil && ctx.Err() == nil {
			b.log.Debug("gaps not told yet", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tellGaps appends a notice of what has come into the ledger since the last call,
// where one is due. A notice that cannot be appended comes again. It is not safe for
// concurrent use.
func (b *Buffer) tellGaps(ctx context.Context) error {
	b.mu.Lock()
	gaps := b.everyGap()
	b.mu.Unlock()
	b.told.collect(gaps)
	now := b.o.Clock.Run()
	at := edgeagent.Instant{Wall: b.o.Clock.Wall().UnixNano(), Run: int64(now)}
	for _, x := range b.told.due(now) {
		if _, err := b.AppendEvents(ctx, edgeagent.StreamEvent, []edgeagent.Event{x.event(at)}); err != nil {
			b.told.putBack(x)
			return fmt.Errorf("note a gap: %w", err)
		}
	}
	return nil
}

// everyGap lists the ledger with those of all destinations that are known; b.mu is
// held.
func (b *Buffer) everyGap() []Gap {
	var out []Gap
	for _, ep := range b.epochs {
		for _, s := range edgeagent.Streams() {
			out = append(out, ep.streams[s].gaps...)
		}
	}
	for _, d := range b.dests {
		out = append(out, b.ownGaps(d)...)
	}
	return out
}
