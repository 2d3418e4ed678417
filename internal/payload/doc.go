// Package payload reads what other programs and devices say: JSON documents and lines of
// InfluxDB's line protocol. It knows nothing of sensors.
//
// [JSON] walks a document and gives each number, truth value and text with its path.
// [Line] reads one line. Both are meant for input from anybody: they take no more memory
// than a few times the input, hold depth and number of values to bounds, and return an
// error for whatever they do not understand in full. They keep no state and are safe for
// concurrent use.
package payload
