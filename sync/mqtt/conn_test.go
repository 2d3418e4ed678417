package mqtt

import (
	"bytes"
	"slices"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

func FuzzGuard(f *testing.F) {
	ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
	ack.ReturnCodes = []byte{1}
	var b bytes.Buffer
	_ = packets.NewControlPacket(packets.Connack).Write(&b)
	_ = ack.Write(&b)
	_ = packets.NewControlPacket(packets.Pingresp).Write(&b)
	f.Add(b.Bytes(), uint8(1))
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}, uint8(3))
	f.Add([]byte{0x30, 0x80, 0x80, 0x80, 0x80, 0x01}, uint8(2))
	f.Fuzz(func(t *testing.T, stream []byte, chunk uint8) {
		whole, pieces := guard{filters: 1}, guard{filters: 1}
		one := whole.check(stream)
		var two error
		for c := range slices.Chunk(stream, int(chunk)+1) {
			if two = pieces.check(c); two != nil {
				break
			}
		}
		if (one == nil) != (two == nil) {
			t.Fatalf("whole: %v, in pieces: %v", one, two)
		}
		if one != nil {
			return
		}
		// What the guard lets through, the library reads without a panic.
		r := bytes.NewReader(stream)
		for r.Len() > 0 {
			pk, err := packets.ReadPacket(r)
			if err != nil {
				return
			}
			if s, ok := pk.(*packets.SubackPacket); ok && len(s.ReturnCodes) > 1 {
				t.Fatalf("suback with %d answers got through", len(s.ReturnCodes))
			}
		}
	})
}

func TestBackoffStaysInBounds(t *testing.T) {
	b := backoff{base: retryBase, limit: retryCap}
	grew := false
	for range 1000 {
		d := b.next()
		if d < retryBase || d > retryCap {
			t.Fatalf("pause of %v", d)
		}
		grew = grew || d > 10*retryBase
	}
	if !grew {
		t.Error("pauses never grew")
	}
	b.reset()
	if d := b.next(); d > retryBase {
		t.Errorf("first pause after a reset is %v", d)
	}
}
