// Package push takes readings that programs hand in over HTTP, in line protocol or JSON.
//
// POST /write takes InfluxDB's line protocol (also at /api/v2/write, with ?precision=
// ns, us, ms or s), POST /json an object or a list of objects
// {"sensor": "boiler", "time": "2026-01-02T03:04:05Z", "values": {"temperature": 21.5}}.
// The series are named after the sensor of the configuration: with the sensor "app" the
// line "boiler temperature=21.5" is app/boiler/temperature.
//
// The answer 204 means that the buffer has accepted every reading of the request: a kill
// -9 loses none of them, a power cut those of the last sync_every. A request is taken as
// a whole or not at all. 400 says what is wrong with it, and in which line; 401 asks for
// the token; 413 is for more than 1 MiB or 10,000 readings; 429 for more readings than
// max_rate; 503 when too many requests wait, or the buffer does not take readings: both
// with Retry-After. Who gets no answer, or 503, may send again: the same readings then
// may be stored twice, unless they bear times, by which receivers know them again.
//
// It listens on loopback by default, or on a Unix socket; on any other address only with
// a token. A page in a browser cannot post: requests from another origin, and on loopback
// those under a foreign host name, are refused. There is no TLS.
//
// Bounds: 16 connections, 16 requests that wait, 1,000 series by default. A source is
// used by one goroutine; its server's goroutines end with Close.
package push
