package sim

import (
	"fmt"
	"strconv"
	"time"

	"github.com/edgeagent/edgeagent/internal/api"
)

// maxLatest bounds the values that a snapshot shows.
const maxLatest = 12

// snapshot looks at the agent and the receiver.
func (d *Demo) snapshot(status api.Status, final bool) Snapshot {
	taken, _, alarms := d.agent.Counts()
	received := d.hub.Stats()
	s := Snapshot{
		Elapsed: time.Since(d.startedAt), Final: final, Link: "down", Cut: d.cut,
		Taken: taken, Alarms: alarms,
		Received: d.sink.Count(), Doubled: d.sink.Duplicates(), Resent: received.Resent, Gaps: d.unexplained(),
		Latest: latest(status),
	}
	for _, u := range status.Uplinks {
		s.Link, s.Sent, s.Buffered = u.State, u.Sent, u.Backlog
	}
	for _, r := range status.Rules.Instances {
		if r.State == api.RuleFiring || r.State == api.RuleClearing {
			s.Firing = append(s.Firing, fmt.Sprintf("%s since %s: %s", r.ID, r.Since.Local().Format(time.TimeOnly), r.Text))
		}
	}
	return s
}

// latest lists the newest value of each series, as people read it.
func latest(status api.Status) []string {
	var out []string
	for _, sensor := range status.Sensors {
		for _, v := range sensor.Values {
			if len(out) == maxLatest {
				return out
			}
			text := v.Series + " " + strconv.FormatFloat(float64(v.Value), 'f', -1, 64)
			if v.Unit != "" && v.Unit != "1" { // UCUM's word for no unit
				text += " " + v.Unit
			}
			out = append(out, text)
		}
	}
	return out
}

// report counts everything once the agent has stopped.
func (d *Demo) report() Report {
	taken, accepted, alarms := d.agent.Counts()
	received := d.hub.Stats()
	r := Report{
		Taken: taken, Accepted: accepted, Alarms: alarms,
		Delivered: d.sink.Count(), Duplicates: d.sink.Duplicates(), Resent: received.Resent,
		LinkDown: d.wentDown, LinkUp: !d.cameBack.IsZero(),
		Seconds: time.Since(d.startedAt).Seconds(),
	}
	var explained uint64
	for _, g := range d.agent.Gaps() {
		explained += g.AtMost
	}
	r.Gaps = d.unexplained()
	if r.LinkUp {
		firstLive, rate := d.arrivals.around(d.cameBack)
		r.FirstLiveAfter, r.DrainRate = firstLive.Seconds(), rate
	}
	r.judge(explained, d.opts.Outage > 0)
	return r
}

// unexplained counts the holes at the receiver for which the agent has given no
// reason in its marks.
func (d *Demo) unexplained() (n uint64) {
	for _, hole := range d.hub.Gaps() {
		if hole.Reason == "" {
			n++
		}
	}
	return n
}
