package buffer

import "github.com/edgeagent/edgeagent"

// Epochs returns every epoch that the buffer knows, oldest first; the last is the
// one that records are appended to.
func (b *Buffer) Epochs() []edgeagent.Epoch {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]edgeagent.Epoch, len(b.epochs))
	for i, ep := range b.epochs {
		out[i] = ep.id
	}
	return out
}
