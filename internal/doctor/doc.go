// Package doctor looks at a machine and says what keeps an agent on it from working:
// the checks behind "edgeagent doctor".
//
// [Examine] runs all checks of a [Machine] (where to look; tests point it at a tree of
// their own) against what the configuration wants ([Wanted], plain values: this package
// knows no configuration). Each [Finding] is one line, with a hint that says what to type
// where something is wrong. What cannot be known is "unknown", never "ok".
//
// Checks only read names and small files; they open no bus, make nothing measure and
// change nothing. They are quick, run one after the other, and a check that panics or
// hangs is a mistake: there is no deadline but the context's, between checks.
package doctor
