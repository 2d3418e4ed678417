package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent/internal/term"
	"github.com/edgeagent/edgeagent/sim"
)

// demoLine is one line of progress, for output that is not a terminal.
func demoLine(s sim.Snapshot) string {
	return fmt.Sprintf("%5s  taken %s  buffered %s  sent %s  received %s  resent %s  stored twice %s  gaps %s  alarms %s  link %s",
		s.Elapsed.Round(time.Second), term.Count(s.Taken), term.Count(s.Buffered), term.Count(s.Sent), term.Count(s.Received),
		term.Count(s.Resent), term.Count(s.Doubled), term.Count(s.Gaps), term.Count(s.Alarms), linkWord(s))
}

// demoScreen is one screen, for a terminal of the given width.
func demoScreen(s sim.Snapshot, width int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "LINK    %-28s  %s\n", linkWord(s), s.Elapsed.Round(time.Second))
	var counts term.Table
	counts.Right = []int{1, 3, 5}
	counts.Row("taken", term.Count(s.Taken), "  sent", term.Count(s.Sent), "  received", term.Count(s.Received))
	counts.Row("buffered", term.Count(s.Buffered), "  resent", term.Count(s.Resent), "  stored twice", term.Count(s.Doubled))
	counts.Row("alarms", term.Count(s.Alarms), "  gaps", term.Count(s.Gaps))
	b.WriteString(counts.String())
	b.WriteString("\nALARMS  ")
	if len(s.Firing) == 0 {
		b.WriteString("none firing\n")
	}
	for i, text := range s.Firing {
		if i > 0 {
			b.WriteString("        ")
		}
		b.WriteString(text + "\n")
	}
	b.WriteString("\nLATEST\n")
	b.WriteString(columns(s.Latest, width))
	return b.String()
}

func linkWord(s sim.Snapshot) string {
	if s.Cut {
		return s.Link + " (cut by the demo)"
	}
	return s.Link
}

// columns lays items out in as many columns as fit.
func columns(items []string, width int) string {
	widest := 0
	for _, item := range items {
		widest = max(widest, len(item))
	}
	perRow := max(1, (width-2)/(widest+2))
	var b strings.Builder
	for i, item := range items {
		if i%perRow == 0 && i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "  %-*s", widest, item)
	}
	b.WriteByte('\n')
	return b.String()
}

// printVerdict prints the report for people.
func printVerdict(w io.Writer, r sim.Report, outage bool) {
	verdict := "OK: every record that was taken has arrived, once"
	if !r.OK {
		verdict = "NOT OK"
	}
	var t term.Table
	t.Right = []int{1}
	t.Indent = "  "
	t.Row("readings taken", term.Count(r.Taken))
	t.Row("records accepted by the buffer", term.Count(r.Accepted), "readings and alarms")
	t.Row("records delivered", term.Count(r.Delivered))
	t.Row("lost", term.Count(r.Lost))
	t.Row("stored twice", term.Count(r.Duplicates))
	t.Row("resent and dropped", term.Count(r.Resent))
	t.Row("unexplained gaps", term.Count(r.Gaps))
	t.Row("alarm transitions", term.Count(r.Alarms))
	if outage {
		t.Row("first live reading after", fmt.Sprintf("%.2f s", r.FirstLiveAfter), "from CONNACK to arrival")
		t.Row("backlog drained at", term.Count(uint64(r.DrainRate)), "readings/s")
		if !r.LinkDown {
			verdict += ": the outage was never seen"
		} else if !r.LinkUp {
			verdict += ": the link did not come back"
		}
	}
	fmt.Fprintf(w, "\nVERDICT %s\n%s", verdict, t.String())
}
