package web

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"
)

const (
	defaultPoints = 300
	maxPoints     = 2000
)

// Column is what the readings of one slice of time have in common. Times of slices
// without readings have no column.
type Column struct {
	T     float64 `json:"t"` // Unix seconds, of its middle
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
	Mean  float64 `json:"mean"`
	Count int     `json:"count"`
}

// Chart is a series drawn in columns.
type Chart struct {
	Since   float64  `json:"since"` // Unix seconds
	Until   float64  `json:"until"`
	Columns []Column `json:"columns"`
	// Cut: there were more rows than a request may read, and the rest is not here.
	Cut bool `json:"cut,omitempty"`
}

func (s *Server) serveChart(w http.ResponseWriter, r *http.Request) {
	q, ok := s.wantsStore(w, r)
	if !ok {
		return
	}
	points := defaultPoints
	if n, err := strconv.Atoi(r.URL.Query().Get("points")); err == nil && n > 0 {
		points = min(n, maxPoints)
	}
	now := time.Now().UnixNano()
	q.Until = min(q.Until, now+int64(time.Minute)) // clocks of gateways may be ahead
	if q.Since >= q.Until || q.Since < 0 {
		q.Since = q.Until - int64(time.Hour)
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	p := newPlot(q.Since, q.Until, points)
	rows := 0
	err := s.opts.Store.Query(ctx, q, func(row Row) error {
		if rows++; rows > MaxRows {
			return errTooMany
		}
		p.add(row)
		return nil
	})
	c := p.chart()
	if c.Cut = errors.Is(err, errTooMany) || errors.Is(err, context.DeadlineExceeded); c.Cut {
		err = nil
	}
	s.writeList(w, c, err)
}

// plot sorts readings into slices of time.
type plot struct {
	since, width int64
	until        int64
	cols         []Column
}

func newPlot(since, until int64, points int) *plot {
	return &plot{since: since, until: until, width: max((until-since)/int64(points), 1), cols: make([]Column, points+1)}
}

// add counts a reading; values that no chart can show are left out.
func (p *plot) add(r Row) {
	i := (r.Time - p.since) / p.width
	if r.Time < p.since || i >= int64(len(p.cols)) || math.IsNaN(r.Value) || math.IsInf(r.Value, 0) {
		return
	}
	c := &p.cols[i]
	if c.Count == 0 {
		c.Min, c.Max = r.Value, r.Value
	}
	c.Min, c.Max = min(c.Min, r.Value), max(c.Max, r.Value)
	c.Count++
	c.Mean += (r.Value - c.Mean) / float64(c.Count)
}

func (p *plot) chart() Chart {
	out := Chart{Since: seconds(p.since), Until: seconds(p.until), Columns: []Column{}}
	for i, c := range p.cols {
		if c.Count > 0 && !math.IsInf(c.Mean, 0) && !math.IsNaN(c.Mean) {
			c.T = seconds(p.since + int64(i)*p.width + p.width/2)
			out.Columns = append(out.Columns, c)
		}
	}
	return out
}

func seconds(ns int64) float64 { return float64(ns/1e6) / 1e3 }
