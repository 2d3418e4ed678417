package ruletest

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// WriteText writes the report for people: a line per test, and for one that failed
// what was expected, what came, and what happened around it.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, t := range r.Results {
		if len(t.Failures) == 0 {
			fmt.Fprintf(&b, "ok    %s\n", t.Name)
			continue
		}
		fmt.Fprintf(&b, "FAIL  %s\n", t.Name)
		for _, f := range t.Failures {
			b.WriteString(indent(f.text(), "      "))
			b.WriteString(indent(t.around(f), "        "))
		}
	}
	for _, id := range r.NeverFired {
		fmt.Fprintf(&b, "note  rule %s fired in no test\n", id)
	}
	fmt.Fprintf(&b, "%d tests, %d failed\n", len(r.Results), r.Failed())
	_, err := io.WriteString(w, b.String())
	return err
}

func indent(text, by string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(by + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

// text says what is wrong.
func (f Failure) text() string {
	return fmt.Sprintf("expect[%d] %s:\n  - %s\n  + %s\n", f.Index, f.When, f.Want, f.Got)
}

// shownAround is how many lines of the timeline are shown before and after a
// failure.
const shownAround = 4

// around returns the part of the timeline that a failure is about, with a mark
// where it is.
func (t Result) around(f Failure) string {
	var before, after []Line
	for _, l := range t.Timeline {
		switch {
		case f.Rule != "" && l.Rule != "" && l.Rule != f.Rule:
		case l.At <= f.At:
			before = append(before, l)
		default:
			after = append(after, l)
		}
	}
	before = before[max(0, len(before)-shownAround):]
	after = after[:min(len(after), shownAround)]
	var b strings.Builder
	for _, l := range before {
		b.WriteString(l.text("  "))
	}
	fmt.Fprintf(&b, "> %v\n", f.At)
	for _, l := range after {
		b.WriteString(l.text("  "))
	}
	return b.String()
}

func (l Line) text(mark string) string { return fmt.Sprintf("%s%v %s\n", mark, l.At, l.Text) }

// WriteJUnit writes the report as JUnit XML, as build servers read it. There are
// no times in it: they would differ from run to run.
func (r Report) WriteJUnit(w io.Writer, suite string) error {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	fmt.Fprintf(&b, "<testsuite name=\"%s\" tests=\"%d\" failures=\"%d\">\n", escape(suite), len(r.Results), r.Failed())
	for _, t := range r.Results {
		fmt.Fprintf(&b, `  <testcase classname="%s" name="%s"`, escape(suite), escape(t.Name))
		if len(t.Failures) == 0 {
			b.WriteString("/>\n")
			continue
		}
		b.WriteString(">\n")
		for _, f := range t.Failures {
			fmt.Fprintf(&b, "    <failure message=\"%s\">%s</failure>\n", escape(fmt.Sprintf("%s: want %s, got %s", f.When, f.Want, f.Got)), escape(f.text()+t.around(f)))
		}
		b.WriteString("  </testcase>\n")
	}
	b.WriteString("</testsuite>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// escape makes a text fit for XML.
func escape(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0xfffe || r == 0xffff {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "\n", "&#10;").Replace(s)
}

// short writes a duration without a tail of nanoseconds.
func short(d time.Duration) string { return d.Round(time.Millisecond).String() }
