package decode

import (
	"errors"
	"strings"

	"github.com/edgeagent/edgeagent"
)

// content is a batch's content that is decoded already.
type content struct {
	readings []edgeagent.Reading
	rollups  []edgeagent.Rollup
	events   []edgeagent.Event
}

var _ edgeagent.RollupContent = content{}

func (c content) Readings(dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	return append(dst, c.readings...), nil
}

func (c content) Rollups(dst []edgeagent.Rollup) ([]edgeagent.Rollup, error) {
	return append(dst, c.rollups...), nil
}

func (c content) Events(dst []edgeagent.Event) ([]edgeagent.Event, error) {
	return append(dst, c.events...), nil
}

// Cut is for links that take less than a batch; text takes all of it.
func (content) Cut(edgeagent.Range) (edgeagent.Batch, error) {
	return edgeagent.Batch{}, errors.New("a decoded batch is not cut")
}

// csvField quotes what would not come back as it is. Names come from afar: a line
// end inside one must not begin a line.
func csvField(s string) string {
	if strings.ContainsAny(s, ",\"\r\n") || strings.TrimSpace(s) != s {
		return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
	}
	return s
}
