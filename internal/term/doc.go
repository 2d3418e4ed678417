// Package term is how the programs speak to a person: is this a terminal and how
// wide is it, tables, numbers and durations in words, errors with hints, and a
// screen that redraws itself.
//
// # The rules of the terminal
//
//   - Standard output is the result that was asked for. Everything else goes to
//     standard error: errors, hints, progress, logs.
//   - An error is "error: " and one lower-case sentence without a full stop; below
//     it "hint: " and what to do, naming a real command or option.
//   - Plain ASCII from us. Colour only on a terminal, never with NO_COLOR or
//     TERM=dumb, and never as the only carrier of a meaning.
//   - What is drawn on a terminal is printed line by line where there is none.
//
// Nothing here keeps state besides [Screen] and [Table], which belong to one
// goroutine; the functions are safe for concurrent use. Widths count runes: text
// with wide or combining runes may be misaligned, not damaged.
package term
