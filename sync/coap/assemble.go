package coap

import (
	"sync/atomic"
	"time"
)

// Bounds of bodies that are being received in blocks.
const (
	maxBody      = 512 << 10 // of one body; twice the largest message of an agent
	maxPartials  = 4         // bodies of one peer at a time, the oldest goes
	maxAllBodies = 64 << 20  // bytes of all peers
	partialLife  = exchangeLifetime
)

// assembler puts together the bodies that one peer sends in blocks (RFC 7959
// section 2.5). A body is known by path, query and Request-Tag, never by a token: those
// may change with each block.
type assembler struct {
	all      *atomic.Int64 // bytes of all peers
	szx      uint8         // of the blocks that we ask for
	stream   bool          // BERT is allowed
	partials map[string]*partial
}

// partial is a body that is not whole.
type partial struct {
	body []byte
	at   time.Time
}

func newAssembler(all *atomic.Int64, szx uint8, stream bool) *assembler {
	return &assembler{all: all, szx: szx, stream: stream, partials: map[string]*partial{}}
}

// bodyKey is what a body is known by.
func bodyKey(m *message) string {
	tag, has := m.get(optRequestTag)
	key := string(append([]byte{byte(m.code)}, m.values(optURIPath, '/')...)) + m.values(optURIQuery, '?')
	if has {
		key += "#" + string(tag)
	}
	return key
}

// take takes a block. It returns the body once it is whole, else the response.
func (a *assembler) take(now time.Time, m *message, b block) (body []byte, whole bool, answer *message) {
	if b.szx == bert && !a.stream || b.more && !a.fits(b, len(m.payload)) {
		return nil, false, &message{code: codeBadRequest}
	}
	if size, ok := m.uint(optSize1); ok && size > maxBody || b.offset()+len(m.payload) > maxBody {
		a.drop(bodyKey(m))
		return nil, false, tooLarge(b)
	}
	key := bodyKey(m)
	p := a.partials[key]
	if b.num == 0 {
		a.drop(key)
		p = a.open(now, key)
	}
	switch {
	case p == nil || b.offset() > len(p.body):
		return nil, false, blockAnswer(codeIncomplete, b)
	case b.offset() < len(p.body): // it has come before
		if b.offset()+len(m.payload) > len(p.body) || !b.more {
			return nil, false, blockAnswer(codeIncomplete, b)
		}
	case a.all.Add(int64(len(m.payload))) > maxAllBodies:
		a.all.Add(-int64(len(m.payload)))
		busy := blockAnswer(codeUnavailable, b)
		busy.addUint(optMaxAge, uint32(queueRetry/time.Second))
		return nil, false, busy
	default:
		p.body = append(p.body, m.payload...)
	}
	p.at = now
	if b.more {
		if b.szx != bert {
			b.szx = min(b.szx, a.szx)
		}
		return nil, false, blockAnswer(codeContinue, b)
	}
	body = p.body
	a.drop(key)
	return body, true, nil
}

// fits reports whether a block that is not the last has the size it claims.
func (a *assembler) fits(b block, n int) bool {
	if b.szx == bert {
		return n > 0 && n%b.size() == 0
	}
	return n == b.size()
}

func (a *assembler) open(now time.Time, key string) *partial {
	a.expire(now)
	if len(a.partials) >= maxPartials {
		var oldest string
		for k, p := range a.partials {
			if oldest == "" || p.at.Before(a.partials[oldest].at) {
				oldest = k
			}
		}
		a.drop(oldest)
	}
	p := &partial{at: now}
	a.partials[key] = p
	return p
}

func (a *assembler) expire(now time.Time) {
	for k, p := range a.partials {
		if now.Sub(p.at) >= partialLife {
			a.drop(k)
		}
	}
}

func (a *assembler) drop(key string) {
	if p := a.partials[key]; p != nil {
		a.all.Add(-int64(len(p.body)))
		delete(a.partials, key)
	}
}

// close forgets everything.
func (a *assembler) close() {
	for k := range a.partials {
		a.drop(k)
	}
}

func blockAnswer(c code, b block) *message {
	m := &message{code: c}
	m.setBlock(optBlock1, b)
	return m
}

func tooLarge(b block) *message {
	m := blockAnswer(codeTooLarge, b)
	m.addUint(optSize1, maxBody)
	return m
}
