package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
)

// Dial connects to the broker within the process, once Run is called. Such a client
// needs no login and may do everything; network and address are ignored.
func (b *Broker) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case b.pipes <- &pipe{far}:
		return near, nil
	case <-b.done:
		return nil, errors.New("broker has been closed")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// pipe is the broker's end of a connection that Dial made.
type pipe struct{ net.Conn }

func (b *Broker) acceptPipes(clients *sync.WaitGroup) {
	for {
		select {
		case conn := <-b.pipes:
			b.serve(clients, conn)
		case <-b.done:
			return
		}
	}
}

// login reports whether a client may stay, and remembers who it is.
func (b *Broker) login(conn net.Conn, user, password string) bool {
	if _, own := conn.(*pipe); own {
		return !b.refuse.Load()
	}
	if name := certified(conn); name != "" {
		user = name
		if b.refuse.Load() {
			return false
		}
	} else if !b.allowed(user, password) {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.conns[conn]; c != nil {
		c.user = user
	}
	return true
}

// certified returns the common name of a client's certificate, "" if it has shown none.
func certified(conn net.Conn) string {
	t, ok := conn.(*tls.Conn)
	if !ok {
		return ""
	}
	chains := t.ConnectionState().VerifiedChains
	if len(chains) == 0 {
		return ""
	}
	return chains[0][0].Subject.CommonName
}

// permits reports whether the client of a connection may use a topic.
func (b *Broker) permits(conn net.Conn, topic string, write bool) bool {
	if _, own := conn.(*pipe); own || b.opts.Allow == nil {
		return true
	}
	b.mu.Lock()
	c := b.conns[conn]
	b.mu.Unlock()
	return c != nil && b.opts.Allow(c.user, topic, write)
}

// owns reports whether the user of a connection may use a client id: the session behind
// it, with its subscriptions, belongs to whoever came with it first.
func (b *Broker) owns(conn net.Conn, id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.conns[conn]
	if b.opts.Allow == nil || c == nil {
		return true
	}
	_, own := conn.(*pipe)
	user := c.user
	if own {
		user = "\x00" // no user is called so
	}
	if before, known := b.owners[id]; known {
		return before == user
	}
	// A bound for each, so that nobody can use up the names of the others.
	if b.claims[user] >= maxIDs {
		return false
	}
	b.owners[id] = user
	b.claims[user]++
	return true
}
