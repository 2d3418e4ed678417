// Package transporttest is the conformance suite of [uplink.Transport]: what the
// engine relies on, for every transport alike. A transport's own tests call [Run]
// with a function that makes a transport and the far end of it.
//
// The suite holds that a session is up once and before any result; that each message
// arrives unchanged in its lane; that there is one result for each message at most,
// and none that the far end did not give; that results, acknowledgements and errors
// come from one goroutine at a time and never after the session has returned; that a
// session ends with its context and with the link, and not before start has returned;
// that a refused login is a [uplink.RefusedError] with a hint; and that the transport
// serves one session after another.
//
// It runs against real sockets or inside a testing/synctest bubble, which also finds
// goroutines that are left: it waits for conditions and never for a time. Parts that
// the far end cannot do are skipped.
package transporttest
