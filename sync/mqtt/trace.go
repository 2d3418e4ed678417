package mqtt

import "crypto/tls"

// Trace is told how far the beginning of a session gets, so that a check of the link
// can say which step failed and how long each took. Its functions are called by the
// goroutine of [Transport.Session], in the order of the fields, each once the step is
// done; a session that tries again calls them again. Any of them may be nil.
type Trace struct {
	Reached    func()                    // the server's port, behind the proxy if there is one
	Secured    func(tls.ConnectionState) // of mqtts and wss
	Upgraded   func()                    // to a WebSocket, of ws and wss
	LoggedIn   func(protocol string)     // the server's word on the login: "MQTT 5" or "MQTT 3.1.1"
	Subscribed func(topic string)        // to the ack topic, where acks are asked for
}

func (t *Trace) reached() {
	if t != nil && t.Reached != nil {
		t.Reached()
	}
}

func (t *Trace) secured(s tls.ConnectionState) {
	if t != nil && t.Secured != nil {
		t.Secured(s)
	}
}

func (t *Trace) upgraded() {
	if t != nil && t.Upgraded != nil {
		t.Upgraded()
	}
}

func (t *Trace) loggedIn(protocol string) {
	if t != nil && t.LoggedIn != nil {
		t.LoggedIn(protocol)
	}
}

func (t *Trace) subscribed(topic string) {
	if t != nil && t.Subscribed != nil {
		t.Subscribed(topic)
	}
}
