package uplink

import "time"

// Count is an amount of traffic.
type Count struct {
	Messages uint64
	Records  uint64
	Bytes    uint64 // of payload
}

func (c *Count) add(records, bytes int) {
	c.Messages++
	c.Records += uint64(records)
	c.Bytes += uint64(bytes)
}

// counters is what the machine counts over all its sessions.
type counters struct {
	connects, failures                         uint64
	sent, accepted, confirmed, resent          Count
	lanes                                      [4]Count
	refused                                    [6]uint64 // by Class
	strays, expired, pauses                    uint64
	replays, moved, deadLetters                uint64
	unheard                                    uint64 // accepted although nobody is subscribed
	hints, hintsIgnored                        uint64
	acks, acksIgnored, confirms, confirmErrors uint64
	ackErr                                     error // why an acknowledgement was last ignored
	lastAccepted, lastAck                      time.Duration
}
