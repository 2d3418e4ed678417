package edgeagent

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Ack is a receiver's cumulative acknowledgement: what it holds of one epoch,
// never what is missing. A shortened list is valid; an absent key means empty.
type Ack struct {
	By       string            `json:"by"` // the receiver's name
	Epoch    Epoch             `json:"e"`
	Have     map[Stream]Ranges `json:"have,omitempty"`
	Top      map[Stream]Top    `json:"top,omitempty"`
	Need     Need              `json:"need,omitzero"`
	Replay   map[Stream]Ranges `json:"replay,omitempty"`
	Conflict []Conflict        `json:"conflict"`
}

// Top is the highest number a receiver holds of a stream and the run it came
// under. In JSON it is a pair: [1200, "9c01f3aa"].
type Top struct {
	Seq Seq
	Run Run
}

// Need lists what a receiver lacks to read what it was sent.
type Need struct {
	Series []uint32 `json:"series,omitempty"`
}

// Conflict is a range that came again under another run.
type Conflict struct {
	Stream Stream `json:"stream"`
	From   Seq    `json:"from"`
	To     Seq    `json:"to"`
	Run    Run    `json:"run"`
}

// MarshalJSON writes [seq, "run"].
func (t Top) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `[%d,%q]`, uint64(t.Seq), t.Run.String()), nil
}

// UnmarshalJSON reads [seq, "run"].
func (t *Top) UnmarshalJSON(b []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil {
		return fmt.Errorf("top: %w", err)
	}
	if len(parts) != 2 {
		return fmt.Errorf("top: want [number, run], got %d parts", len(parts))
	}
	n, err := strconv.ParseUint(string(parts[0]), 10, 53)
	if err != nil {
		return fmt.Errorf("top: bad sequence %s", parts[0])
	}
	var run Run
	if err := json.Unmarshal(parts[1], &run); err != nil {
		return fmt.Errorf("top: %w", err)
	}
	t.Seq, t.Run = Seq(n), run
	return nil
}

// ParseAck reads an ack as it travels on the ack topic. It refuses anything
// over 64 KiB and ranges that run backwards, start at 0 or leave 53 bits.
func ParseAck(b []byte) (Ack, error) {
	if len(b) > 64<<10 {
		return Ack{}, fmt.Errorf("ack of %d bytes is over 64 KiB", len(b))
	}
	var a Ack
	if err := json.Unmarshal(b, &a); err != nil {
		return Ack{}, fmt.Errorf("parse ack: %w", err)
	}
	for _, lists := range []map[Stream]Ranges{a.Have, a.Replay} {
		for s, rs := range lists {
			if !s.Valid() {
				return Ack{}, fmt.Errorf("ack: unknown stream %d", s)
			}
			for _, r := range rs {
				if r.Len() == 0 || r.To >= 1<<53 {
					return Ack{}, fmt.Errorf("ack: bad range [%d,%d] of %s", r.From, r.To, s)
				}
			}
		}
	}
	return a, nil
}

func unmarshalPair(b []byte, pair *[2]Seq) error {
	var list []Seq
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	if len(list) != 2 {
		return fmt.Errorf("want [from, to], got %d numbers", len(list))
	}
	pair[0], pair[1] = list[0], list[1]
	return nil
}
