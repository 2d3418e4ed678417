// Package linkcheck tries a link step by step, as an uplink would use it, and says how
// far it got: look the name up, connect, go through the proxy, secure the connection,
// log in, subscribe to acknowledgements, publish, have the broker acknowledge, have the
// receiver answer. [Check] is one link, with the time of each step and, where one
// failed, what to do about it.
//
// # What it sends
//
// One message per lane that holds no record: a comment, an empty list, or, to a
// receiver of blocks, marks of epoch 0 about no stream, which no buffer ever has and
// which a receiver answers as any marks. Nothing that was sent can be taken for a
// reading, and no number of the buffer is used up. What comes is read and not
// believed: the cursor of a running agent does not move.
//
// # What it proves
//
// A green receiver step proves the whole way and back. Without a receiver the broker's
// acknowledgement is the last step: that anybody takes the messages from there is not
// proven, and a broker of MQTT 3.1.1 acknowledges what its access list forbids, too. A
// session that ends soon after such an acknowledgement counts as a refusal.
//
// # How it stays out of the way
//
// The check logs in under the agent's client id with "-check" behind it: the same id
// would end the running agent's session. A broker whose access list looks at client
// ids must allow that one too, or the agent is stopped and [Options.ClientID] names its
// id.
//
// # Limits and concurrency
//
// MQTT and CoAP. Check runs for at most [Options.Timeout], leaves no goroutine behind, and
// may be called for many links at once.
package linkcheck
