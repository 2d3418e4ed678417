// Package decode turns blocks into text: line protocol, JSON or CSV. It is the way
// out for whoever has a broker and a store already and wants no hub in between.
//
// # What goes in
//
// Blocks back to back, as a gateway publishes them in format block; line ends
// between them are skipped, since tools that print messages add them. Or messages in
// frames, so that one that is damaged harms no other: see [Framing].
//
// Readings bear numbers in place of names. A gateway sends the names first, once in
// each session, and decode remembers them by epoch. What comes before its names is
// held until they come, [MaxHeld] bytes at most, the oldest goes first and is counted.
//
// # What it does not do
//
// Nothing here knows what came before: a record that comes twice is printed twice
// (JSON says which one it is), nobody is told that anything arrived, and no hole is
// noticed. That is what a hub is for.
//
// # Limits
//
// [MaxMessage] bytes a message, [MaxEpochs] epochs and [MaxSeries] names in all; the
// epoch that was used longest ago goes first. A Decoder belongs to one goroutine.
// Nothing panics on any input.
package decode
