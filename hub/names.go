package hub

import "github.com/edgeagent/edgeagent"

// names are the series of one epoch. An agent gives ids from 1 up, which are
// looked up in a slice; ids far above the number of series go to a map, so that
// nobody can make the slice large with one of them.
type names struct {
	direct []edgeagent.Series // by id; zero = not here
	others map[uint32]edgeagent.Series
	count  int
}

// get returns the series of id, zero if it is not known.
func (n *names) get(id uint32) edgeagent.Series {
	if uint64(id) < uint64(len(n.direct)) && !n.direct[id].IsZero() {
		return n.direct[id]
	}
	return n.others[id]
}

// put defines id, which is not known yet.
func (n *names) put(id uint32, s edgeagent.Series) {
	n.count++
	if uint64(id) > uint64(2*n.count+64) {
		if n.others == nil {
			n.others = map[uint32]edgeagent.Series{}
		}
		n.others[id] = s
		return
	}
	for uint64(len(n.direct)) <= uint64(id) {
		n.direct = append(n.direct, edgeagent.Series{})
	}
	n.direct[id] = s
}
