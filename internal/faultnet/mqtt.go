package faultnet

import (
	"bufio"
	"io"
	"slices"
	"sync"
	"time"
)

// AckFaults are what happens to the PUBACKs that an MQTT server sends, counted from
// 1 over all connections of a link.
type AckFaults struct {
	Drop      []int                 // these never arrive
	Duplicate []int                 // these arrive twice
	Delay     map[int]time.Duration // these arrive later, and all behind them
}

// DropAcks as a number in [AckFaults.Drop] stands for every PUBACK.
const DropAcks = -1

type ackFaults struct {
	mu     sync.Mutex // guards what follows
	faults AckFaults
	set    bool
	acks   int
}

// SetAcks replaces the faults of PUBACKs. Call it before the connections are
// opened that it is about: it makes the link read them as MQTT.
func (l *Link) SetAcks(f AckFaults) {
	l.acks.mu.Lock()
	defer l.acks.mu.Unlock()
	l.acks.faults, l.acks.set = f, true
}

func (a *ackFaults) any() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.set
}

const (
	typePuback      = 4
	maxMQTTPacket   = 1 << 20
	maxLengthDigits = 4
)

// packets reads a stream packet by packet. What is not MQTT comes as it is.
func (a *ackFaults) packets(src io.Reader) func() ([]piece, error) {
	in := bufio.NewReaderSize(src, segmentBytes)
	return func() ([]piece, error) {
		packet, err := readPacket(in)
		if err != nil || len(packet) == 0 {
			return []piece{{data: packet}}, err
		}
		if packet[0]>>4 != typePuback {
			return []piece{{data: packet}}, nil
		}
		return a.puback(packet), nil
	}
}

func (a *ackFaults) puback(packet []byte) []piece {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acks++
	f, n := a.faults, a.acks
	if slices.Contains(f.Drop, n) || slices.Contains(f.Drop, DropAcks) {
		return nil
	}
	out := []piece{{packet, f.Delay[n]}}
	if slices.Contains(f.Duplicate, n) {
		out = append(out, piece{data: slices.Clone(packet)})
	}
	return out
}

// readPacket reads one control packet (MQTT 3.1.1 and 5, section 2.1: a byte of
// type and flags, then the length in base 128).
func readPacket(in *bufio.Reader) ([]byte, error) {
	head, err := in.ReadByte()
	if err != nil {
		return nil, err
	}
	packet, length := []byte{head}, 0
	for i := range maxLengthDigits {
		b, err := in.ReadByte()
		if err != nil {
			return packet, err
		}
		packet = append(packet, b)
		length |= int(b&0x7f) << (7 * i)
		if b < 0x80 {
			break
		}
	}
	if length > maxMQTTPacket {
		return packet, nil
	}
	at := len(packet)
	packet = append(packet, make([]byte, length)...)
	n, err := io.ReadFull(in, packet[at:])
	return packet[:at+n], err
}
