package i2c

import (
	"math"
	"testing"
	"testing/synctest"

	periph "periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"github.com/edgeagent/edgeagent"
)

// script is a bus that answers with the bytes it has, again and again.
type script struct {
	bytes []byte
	at    int
}

func (*script) String() string                  { return "script" }
func (*script) SetSpeed(physic.Frequency) error { return nil }
func (*script) Close() error                    { return nil }
func (s *script) Tx(_ uint16, _, r []byte) error {
	for i := range r {
		if len(s.bytes) > 0 {
			r[i] = s.bytes[s.at%len(s.bytes)]
			s.at++
		}
	}
	return nil
}

// FuzzSample feeds any bytes to any driver: it must come to an end, and what it calls
// good must be a number that the chip can measure.
func FuzzSample(f *testing.F) {
	for i := range rigs() {
		f.Add(byte(i), []byte{0xFF})
		f.Add(byte(i), []byte{0x60, 0xE0, 0x19, 0x00, 0x60, 0xE0})
		f.Add(byte(i), []byte{0x00, 0x54, 0x04, 0x00, 0x02, 0x00, 0xC1, 0x90, 0x02, 0x00})
		f.Add(byte(i), []byte{0xBE, 0xEF, 0x92})
		f.Add(byte(i), []byte{0x60, 0x12, 0x34, 0x56, 0x00, 0x03, 0x80})
	}
	f.Fuzz(func(t *testing.T, which byte, bytes []byte) {
		synctest.Test(t, func(t *testing.T) {
			all := rigs()
			r := all[int(which)%len(all)]
			env := on(t, nil)
			env.I2C = func(string) (periph.BusCloser, error) { return &script{bytes: bytes}, nil }
			s, err := r.config(t).Open(t.Context(), env)
			if err != nil {
				return
			}
			defer s.Close()
			for range 3 {
				rs, err := s.Sample(t.Context(), nil)
				if err != nil {
					continue
				}
				for i, x := range rs {
					if math.IsNaN(x.Value) || math.IsInf(x.Value, 0) {
						t.Errorf("%s = %v", x.Series, x.Value)
					}
					m := s.(*source).metrics[i%len(s.(*source).metrics)]
					if len(rs) == len(s.(*source).metrics) && x.Quality == edgeagent.Good && (x.Value < m.Min || x.Value > m.Max) {
						t.Errorf("%s = %v is %s", x.Series, x.Value, x.Quality)
					}
				}
			}
		})
	})
}
