package mqtt

import "sync"

// ackQueue acknowledges messages in the order in which they came, whatever the order
// in which they were done: MQTT 5 wants it so (MQTT-4.6.0-2).
type ackQueue struct {
	wake chan struct{} // told when there may be something to take; room for one
	most int           // messages without an acknowledgement

	mu    sync.Mutex // guards what follows
	open  []openAck  // in order of arrival, at most most
	first uint64     // how many were taken before open[0]
}

type openAck struct {
	id   uint16
	done bool
}

// add takes a message that came; its place is for done. It returns false if there are
// more than the server may send.
func (q *ackQueue) add(id uint16) (place uint64, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.open) >= q.most {
		return 0, false
	}
	q.open = append(q.open, openAck{id: id})
	return q.first + uint64(len(q.open)-1), true
}

func (q *ackQueue) done(place uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if place < q.first {
		return // twice
	}
	q.open[place-q.first].done = true
	if place > q.first {
		return // one before it is open
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take appends the PUBACKs that are due to b, as many as fit.
func (q *ackQueue) take(b []byte) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.open) && q.open[n].done && len(b)+4 <= cap(b) {
		id := q.open[n].id
		b = append(b, byte(typePuback)<<4, 2, byte(id>>8), byte(id))
		n++
	}
	q.open = q.open[n:]
	q.first += uint64(n)
	return b
}

// flights are publishes without a PUBACK, by the number of their packet.
type flights[T any] struct {
	mu   sync.Mutex // guards what follows
	open map[uint16]T
	last uint16
}

// add gives v a number. There are never more than 65,535 of them.
func (f *flights[T]) add(v T) uint16 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		f.open = map[uint16]T{}
	}
	for {
		f.last++
		if _, taken := f.open[f.last]; !taken && f.last != 0 {
			f.open[f.last] = v
			return f.last
		}
	}
}

func (f *flights[T]) take(id uint16) (v T, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok = f.open[id]
	delete(f.open, id)
	return v, ok
}
