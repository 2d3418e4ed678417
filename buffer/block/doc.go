// Package block turns records into blocks and back: the unit that the buffer
// stores, that travels to a receiver and that files hold.
//
// A block is a header of 64 bytes, which says what the records are and which
// numbers they have, and a payload. Readings are stored in columns, one after the
// other for each series, because neighbours in a column resemble each other: a
// reading of the sets in testdata takes 0.7 to 1 byte in a block of 4,096. Rollups,
// which stand for readings that had to give way, are columns too. The format is
// specified in docs/block-format.md, with vectors and small decoders in Python and
// JavaScript. It is final: what version 2 has written stays readable.
//
// # Guarantees
//
// Every float64 comes back by its bits: NaN payloads, infinities, -0 and
// denormals too. Times come back to the nanosecond. The order of the rows comes
// back. The same arguments make the same bytes on every machine.
//
// A CRC-32C over header and payload refuses every block in which a bit changed.
// It does not refuse forgeries: whoever can compute it can make a block.
//
// No input makes a [Decoder] panic, and what it allocates is bounded by [MaxRaw]
// and [MaxCount], whatever the input claims. What decodes agrees with its header:
// count, least and greatest time, and greatest series id can be trusted before
// the payload is decoded, once [Check] has passed and if the sender is trusted.
//
// # Limits
//
// A block that is made holds at most [MaxRecords] records and [MaxStored] bytes;
// whoever has more makes several, and halves what is refused with [ErrTooLarge].
// 1,024 readings and 256 rollup rows fit whatever is in them.
//
// # Concurrency
//
// Nothing here starts a goroutine or does I/O. [Encoder] and [Decoder] hold
// scratch and serve one goroutine at a time; functions are safe for concurrent
// use, and blocks are plain bytes that nothing here keeps or changes.
package block
