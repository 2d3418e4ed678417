// Package expression is the language of rule conditions: a subset of the syntax
// of expr (https://expr-lang.org), parsed, checked and compiled to closures by
// this package alone.
//
//	temp > 80 and (load > 0.9 or not known(load))
//	20 <= temp < 30 ? level in [1, 2] : level == 3
//
// # Language
//
// There are two types, number (float64) and condition. A name stands for one
// input, which is a number; booleans and states arrive as numbers, too, so write
// "door == 1". From the loosest to the tightest binding:
//
//	a ? b : c     a ?: b       the branches have one type
//	or  ||
//	and  &&
//	== != < <= > >= in, not in a < b < c means a < b and b < c
//	+ -
//	* / %
//	not  !
//	unary - and +
//	**  ^                      right to left
//
// and functions. abs, ceil, floor, round (half away from zero), min, max (one or
// more numbers) and known depend on numbers alone. All others look at the past of
// an input, at the clock, at other rules or at models: see [Call]. They take the
// name of an input, not an expression, and windows in quotes: "5m", "n=20".
// Numbers are written 12, 1_000, 0x1F, 0b101, 0o17, .5 and 1.2e-3; comments are //
// and /* */. Everything else of expr (other texts, lists outside "in", maps,
// members, pipes, ranges, closures, variables) is refused at load, by name and
// position.
//
// Meaning is that of expr with float64 inputs, with three differences, each of
// which accepts more or decides what expr leaves to the caller: integers are
// float64 as well (so an integer literal beyond 2^53 is refused), % takes any
// numbers and keeps the sign of its left side, and values may be unknown. Tests
// compare random conditions with expr itself, which no program links.
//
// # Unknown
//
// An input without a usable value is [NaN], and unknown. Arithmetic and
// comparisons with an unknown are unknown, and so is what is not a number at all,
// such as 0/0; a division of anything else by zero is an infinity, which compares
// as usual. Conditions follow Kleene: false and unknown is false, true or unknown
// is true, not unknown is unknown; "x in list" is true if any member equals x; a
// ternary with an unknown condition is unknown. known(x) asks, and is never
// unknown.
//
// # Cost
//
// A source has at most [MaxLength] bytes and [MaxDepth] levels of nesting; there
// are no loops and no recursion, each part is evaluated at most once, and nothing
// is allocated: the cost of an evaluation is bounded by the length of its source.
//
// A [Program] is immutable and safe for concurrent use.
package expression
