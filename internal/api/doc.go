// Package api is the agent's local interface: what "edgeagent status" and
// "edgeagent buffer" show and what a Prometheus server scrapes.
//
// [Status] is the whole state of an agent as one value; its JSON form is a
// contract (docs/reference/cli-json.md): keys are added, never renamed or given
// another meaning. Durations are seconds as numbers and end in "_s", sizes are
// bytes, times are RFC 3339 in UTC with milliseconds, a number that JSON cannot
// say is null.
//
// [Server] answers on a unix socket and, if configured, on a loopback address:
//
//	GET /v1/status   the Status
//	GET /v1/health   {"level": …, "warnings": […]}; 503 while failed, else 200
//	GET /metrics     Prometheus text (docs/reference/metrics.md)
//	GET /v1/buffer   a BufferSurvey: counts, segments, gaps, runs, series
//	GET /v1/buffer/verify   a BufferVerification, once every block is read
//	GET /v1/buffer/blocks   the stored blocks, back to back
//
// It is read-only. The socket has mode 0660, so its group may look; the loopback
// listener shows the same to every user of the machine and is therefore off by
// default and refused on any other address. [Client] asks over the socket.
//
// A [Source] is called by many requests at once and must be safe for concurrent
// use. At most [MaxRequests] requests are worked on at a time; the rest wait for
// up to a second and are then turned away with 503. Server.Run owns all goroutines
// and listeners. The other types are plain values.
//
// This release has no dashboard, no events and no commands.
package api
