// Package web is how one looks at a hub: a page, a JSON API, metrics and health, on a
// unix socket and over HTTP.
//
//	GET  /            the page
//	GET  /v1/status   a [Status]
//	GET  /v1/devices  a list of [Device]
//	GET  /v1/gaps     a list of [Gap]; ?tenant= and ?device= narrow it
//	GET  /v1/series   a list of [Series] of ?tenant= and ?device=
//	GET  /v1/query    rows of ?series=, ?since= to ?until=, a JSON object a line or ?format=csv
//	GET  /v1/chart    the same in at most ?points= columns: least, greatest and mean
//	POST /v1/replay   asks ?device= to send again what is missing
//	GET  /v1/health   503 while nothing can be stored, else 200
//	GET  /metrics     Prometheus text (docs/reference/edgehub.md)
//
// The JSON forms are a contract: keys are added, never renamed or given another
// meaning. Durations are seconds as numbers and end in "_s", times are RFC 3339 in UTC.
//
// # Who may look
//
// The socket has mode 0660. A loopback address needs nothing more and answers only to
// loopback names, so that no web page from elsewhere can read it; any other address
// needs TLS, and a token or a client certificate: [Config.Validate] insists. Names of
// devices and series come from afar and are hostile: the page puts them in as text,
// never as markup, and its policy forbids every script but its own.
//
// # Limits
//
// [MaxConns] connections a listener, [MaxRequests] requests at a time; the rest wait a
// second and are turned away with 503. A query ends at [MaxRows] rows and says so.
//
// [Server.Run] owns all goroutines and listeners. The sources are called by many
// requests at once and must be safe for concurrent use.
package web
