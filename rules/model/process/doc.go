// Package process asks a model that runs in a process beside the agent, over a Unix
// socket: the way to TensorFlow Lite, ONNX Runtime or anything else that scores,
// without a line of C in the agent.
//
// # A rule never waits
//
// The function that [Process.Scorer] returns hands the features over and returns the latest score at once; the
// answer to what it handed over is there at one of the next evaluations. A score
// counts for MaxAge from the moment it was asked for; when it is older, or there is
// none, it is NaN, which is unknown to the rule. Each place of a rule that asks has
// a scorer of its own, so that one pump's score is never taken for
// another's. Features that have not changed are asked for again only when half of
// MaxAge has passed.
//
// # Protocol
//
// Lines of text, ended by a line feed, words parted by one space. Numbers are as C's
// strtod and Python's float read them: 20.5, 1e-07, nan, inf, -inf. nan among
// the features is a missing value; nan as a score means that there is no answer.
//
//	agent                         model
//	edgeagent-model 1             edgeagent-model 1 features=3
//	score 17 20.5 nan 3           score 17 0.0123
//	score 18 999 0 3              error 18 temperature out of range
//	ping 19                       pong 19
//
// The first line of each side names the protocol and its version; the model adds
// how many features it wants, and may add more key=value words, which are ignored.
// A model that does not speak the version answers with a line that begins with
// "error". After that the agent asks and the model answers, in any order; numbers
// are not used twice in a connection. A line of the model has at most 1,024 bytes.
//
// # When it goes wrong
//
// A model may work on one question at a time and takes at most Timeout for each. A
// question that is overdue ends the connection, and so does any line that is not as
// above: a process that hangs is not told from one that is
// lost. The agent connects anew, at first after a second, at last once a minute.
// With Command it starts the process, and starts it anew when it ended or had to be
// ended. The process gets its socket's path in EDGEAGENT_MODEL_SOCKET and
// listens there; what an earlier one left has been removed; its standard input ends when the agent is gone, and
// then it has to end, too. What it writes to standard error is shown, cut to its
// last 2 KiB, when it fails.
//
// What was asked and not answered when a connection ends is not asked again by
// itself: if it brought the process down, it would do so again.
//
// # Limits
//
//   - 1,024 scorers; each has one question at most that waits. A new question takes the
//     place of one that waits, which [Stats.Superseded] counts
//   - 8 questions in flight
//   - no authentication: whoever can write the directory of the socket can be the
//     model. Keep it in a directory of the agent's
//   - Command runs as the agent's user
//   - time in which the machine sleeps does not count towards MaxAge
//   - scores depend on when answers come: a rule that asks a process is not repeated
//     byte for byte, as all others are
//
// # Concurrency
//
// [Process.Run] owns the connection: every goroutine is started in it and gone when
// it returns. A scorer is for one goroutine at a time; all methods are safe for concurrent
// use.
package process
