// Package line sends records as InfluxDB line protocol over HTTP: to InfluxDB,
// VictoriaMetrics, QuestDB, or whatever else takes it.
//
// # Guarantees
//
// Idempotent: a cut that comes again is the same series, times and values again, and
// overwrites itself. Within a clock segment no two readings of a series that an agent has
// stamped share a time; where a source gives its own times, equal ones overwrite each
// other, and a clock that steps back may overwrite what was there. Both are counted
// ([Stats]). So do events of one device, kind and severity at the same nanosecond.
// Unsynced readings keep their raw time with quality "unsynced", and get no second point.
//
// # What is written
//
// The lines of package wire: sensor as measurement, the device as a tag, the metric as a
// field. A tenant other than "default" is a tag, tenant. NaN and infinities have no form
// in line protocol.
//
// # What a server may answer
//
// 2xx is stored. 400, 413 and 422 mean that it does not want these lines: they are sent in
// halves, and a single line that it refuses is written to [Options.Refused] and counted,
// so that nothing stops the rest. Everything else is an error, and the hub tries again for
// ever. Retry-After is kept, up to 30 s. Redirections are not followed.
//
// # Limits
//
// A request is at most 512 KiB. Commit is for one goroutine at a time; Stats for any.
package line
