package uplink

// must panics when an invariant of the engine is broken. It is for errors of this
// program alone; nothing that comes from outside may reach it.
func must(holds bool, invariant string) {
	if !holds {
		panic("uplink: broken invariant: " + invariant)
	}
}

// The invariants.
const (
	onlyConfirmAllowed = "only what the ack level allows is confirmed"
	withinWindow       = "messages in flight stay within the window"
	oneSession         = "one session at a time"
)
