package coap

import "crypto/x509"

// Trace is told how far the beginning of a session gets, so that a check of the link
// can say which step failed and how long each took. Its functions are called by the
// goroutine of [Transport.Session], in the order of the fields, each once the step is
// done. Any of them may be nil.
type Trace struct {
	Secured  func(protocol string, chain []*x509.Certificate) // "DTLS 1.2" or "TLS 1.3"; no chain with a pre-shared key
	Answered func()                                           // the server's sign of life, where no acks are asked for
	Observed func(path string)                                // the resource of end-to-end acks, where they are
}

func (t *Trace) secured(protocol string, chain []*x509.Certificate) {
	if t != nil && t.Secured != nil {
		t.Secured(protocol, chain)
	}
}

func (t *Trace) answered() {
	if t != nil && t.Answered != nil {
		t.Answered()
	}
}

func (t *Trace) observed(path string) {
	if t != nil && t.Observed != nil {
		t.Observed(path)
	}
}
