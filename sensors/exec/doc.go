// Package exec runs programs: the driver exec reads what one prints, and [Program]
// is also what carries out the action exec of rules.
//
// No shell is involved: the program and its arguments are started as they are
// written. The environment is empty but for PATH, LANG, HOME and what is configured;
// the agent's own, with whatever secrets it holds, is not passed on. Standard input is
// empty, the directory is /. A program runs in a process group of its own, and at its
// deadline, at the end of the agent or when it prints more than it may, the whole
// group is killed, so that nothing stays behind that it started; only what makes a
// group of its own and lets go of the output escapes. Its output is bounded in memory.
//
// The driver starts the program anew on every interval and reads a number, a JSON
// object or lines of "name value" from its standard output. An exit code other than 0
// is an error that quotes the end of standard error.
//
// A Program may be used by many goroutines at once, a source by one. On Windows there
// are no process groups: what a program has started itself stays.
package exec
