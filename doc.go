// Package edgeagent is the vocabulary that every other package of the project
// speaks: readings and the series they belong to, the streams, epochs, runs and
// sequence numbers that identify a record for ever, batches, acks, events,
// health.
//
// It imports the standard library only and holds no behaviour beyond what a
// value needs to print, parse and compare itself. The folders beside it say what
// the program does; ARCHITECTURE.md draws the arrows between them.
//
// All types are values and safe to copy. [Series] is an interned handle: two
// series are equal when the handles are equal, and comparing costs one word.
package edgeagent
