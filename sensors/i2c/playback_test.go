package i2c

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	periph "periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/i2c/i2ctest"

	"github.com/edgeagent/edgeagent/sensors"
)

// What goes over the wire, byte by byte, for values that stand in the data sheets:
// the simulated chips and these drivers have one author, the bytes do not.
func TestBytesOnTheWire(t *testing.T) {
	tests := []struct {
		name   string
		config sensors.DriverConfig
		ops    []i2ctest.IO // without the address
		addr   uint16
		want   []float64
	}{
		{
			// SBOS397: 0x4B0 is 75 °C. The chip has lost its settings first.
			name: "tmp102 at 75 °C", config: &TMP102{Bus: "1", Address: 0x4A}, addr: 0x4A, want: []float64{75},
			ops: []i2ctest.IO{
				{W: []byte{1}, R: []byte{0x60, 0xA0}},
				{W: []byte{1, 0x60, 0xE0}},
				{W: []byte{0}, R: []byte{0x4B, 0x00}},
				{W: []byte{1}, R: []byte{0x60, 0xE0}},
			},
		},
		{
			// SBOS397: 0xE70 is -25 °C. The alert bit is not a setting.
			name: "tmp102 at -25 °C", config: &TMP102{Bus: "1", Address: 0x48}, addr: 0x48, want: []float64{-25},
			ops: []i2ctest.IO{
				{W: []byte{1}, R: []byte{0x60, 0xC0}},
				{W: []byte{0}, R: []byte{0xE7, 0x00}},
				{W: []byte{1}, R: []byte{0x60, 0xE0}},
			},
		},
		{
			// SNIS153: -25 °C is 1 1100 1110; the low bits
			// are undefined.
			name: "lm75 at -25 °C", config: &LM75{Bus: "1", Address: 0x48, Resolution: 9}, addr: 0x48, want: []float64{-25},
			ops: []i2ctest.IO{
				{W: []byte{1}, R: []byte{0x00}},
				{W: []byte{1, 0x08}},
				{W: []byte{0}, R: []byte{0xE7, 0x7F}},
				{W: []byte{1}, R: []byte{0x08}},
			},
		},
		{
			// 0x191 is 25.0625 °C with twelve bits, worked out by hand.
			name: "tmp75 at 25.0625 °C", config: &LM75{Bus: "1", Address: 0x4F, Resolution: 12}, addr: 0x4F, want: []float64{25.0625},
			ops: []i2ctest.IO{
				{W: []byte{1}, R: []byte{0x00}},
				{W: []byte{1, 0x68}},
				{W: []byte{0}, R: []byte{0x19, 0x10}},
				{W: []byte{1}, R: []byte{0x68}},
			},
		},
		{
			// 0x194 / 16, worked out by hand; the three bits above are alerts.
			name: "mcp9808 at 25.25 °C with alerts", config: &MCP9808{Bus: "1", Address: 0x1F}, addr: 0x1F, want: []float64{25.25},
			ops: []i2ctest.IO{
				{W: []byte{6}, R: []byte{0x00, 0x54}},
				{W: []byte{7}, R: []byte{0x04, 0x00}},
				{W: []byte{1}, R: []byte{0x00, 0x00}},
				{W: []byte{8, 0x03}},
				{W: []byte{1, 0x02, 0x00}},
				{W: []byte{5}, R: []byte{0xC1, 0x94}},
				{W: []byte{1}, R: []byte{0x02, 0x00}},
			},
		},
		{
			name: "mcp9808 at -20.0625 °C", config: &MCP9808{Bus: "1", Address: 0x18}, addr: 0x18, want: []float64{-20.0625},
			ops: []i2ctest.IO{
				{W: []byte{6}, R: []byte{0x00, 0x54}},
				{W: []byte{7}, R: []byte{0x04, 0x00}},
				{W: []byte{1}, R: []byte{0x02, 0x00}},
				{W: []byte{5}, R: []byte{0x1E, 0xBF}},
				{W: []byte{1}, R: []byte{0x02, 0x00}},
			},
		},
		{
			// The chip is busy once; checksum worked out by hand with another program.
			name: "aht20 at 25 °C and 50 %", config: &AHT20{Bus: "1", Address: 0x38}, addr: 0x38, want: []float64{25, 50},
			ops: []i2ctest.IO{
				{W: []byte{0x71}, R: []byte{0x10}},
				{W: []byte{0xBE, 0x08, 0x00}},
				{W: []byte{0xAC, 0x33, 0x00}},
				{R: []byte{0x98, 0, 0, 0, 0, 0, 0}},
				{R: []byte{0x18, 0x80, 0x00, 0x06, 0x00, 0x00, 0x00}}, // its checksum is filled in below
			},
		},
		{
			// 0xBEEF has the checksum 0x92 in all of Sensirion's data sheets.
			name: "sht3x with 0xBEEF", config: &SHT3x{Bus: "1", Address: 0x45, Precision: high}, addr: 0x45, want: []float64{85.52, 74.58},
			ops: []i2ctest.IO{
				{W: []byte{0x24, 0x00}},
				{R: []byte{0xBE, 0xEF, 0x92, 0xBE, 0xEF, 0x92}},
				{W: []byte{0x24, 0x00}},
				{R: []byte{0xBE, 0xEF, 0x92, 0xBE, 0xEF, 0x92}},
			},
		},
		{
			name: "sht4x with 0xBEEF, quickly", config: &SHT4x{Bus: "1", Address: 0x44, Precision: low}, addr: 0x44, want: []float64{85.52, 87.23},
			ops: []i2ctest.IO{
				{W: []byte{0xE0}},
				{R: []byte{0xBE, 0xEF, 0x92, 0xBE, 0xEF, 0x92}},
				{W: []byte{0xE0}},
				{R: []byte{0xBE, 0xEF, 0x92, 0xBE, 0xEF, 0x92}},
			},
		},
		{
			// The examples of the SCD4x's data sheet: 500 ppm, 25 °C, 37 %, its serial
			// number and its altitude.
			name: "scd4x at 500 ppm", config: &SCD4x{Bus: "1", Address: 0x62, SelfCalibration: true, Altitude: 1950}, addr: 0x62, want: []float64{500, 25, 37},
			ops: []i2ctest.IO{
				{W: []byte{0x36, 0xF6}},
				{W: []byte{0x3F, 0x86}},
				{W: []byte{0x36, 0x82}},
				{R: []byte{0xF8, 0x96, 0x31, 0x9F, 0x07, 0xC2, 0x3B, 0xBE, 0x89}},
				{W: []byte{0x24, 0x27, 0x07, 0x9E, 0x09}},
				{W: []byte{0x24, 0x16, 0x00, 0x01, 0xB0}},
				{W: []byte{0x21, 0xB1}},
				{W: []byte{0xE4, 0xB8}},
				{R: []byte{0x80, 0x06, 0x04}}, // its checksum is filled in below
				{W: []byte{0xEC, 0x05}},
				{R: []byte{0x01, 0xF4, 0x33, 0x66, 0x67, 0xA2, 0x5E, 0xB9, 0x3C}},
			},
		},
		{
			// The example of the BH1750FVI's data sheet: 1000 0011 1001 0000 is 28067 lx.
			name: "bh1750 at 28067 lx", config: &BH1750{Bus: "1", Address: 0x5C}, addr: 0x5C, want: []float64{28066.67},
			ops: []i2ctest.IO{
				{W: []byte{0x01}},
				{W: []byte{0x20}},
				{R: []byte{0x83, 0x90}},
			},
		},
		{
			// SBOS448, its worked example: a load of 10 A over 2 mΩ (20 mV) at 11.98 V.
			name: "ina219 at 10 A", config: &INA219{Bus: "1", Address: 0x40, Shunt: 0.002, Average: 128}, addr: 0x40, want: []float64{11.98, 10, 119.8},
			ops: []i2ctest.IO{
				{W: []byte{0}, R: []byte{0x39, 0x9F}},
				{W: []byte{0, 0x3F, 0xFF}},
				{W: []byte{1}, R: []byte{0x07, 0xD0}},
				{W: []byte{2}, R: []byte{0x5D, 0x98}},
				{W: []byte{0}, R: []byte{0x3F, 0xFF}},
			},
		},
		{
			// SBAS444: 0x8000 is the negative end, 0x4000 half the range. It is
			// busy once.
			name: "ads1115 at half of 2.048 V", config: &ADS1x15{Bus: "1", Address: 0x49, Chip: "ads1115", Inputs: []string{"a2"}, Range: 2.048, Rate: 860}, addr: 0x49, want: []float64{1.024},
			ops: []i2ctest.IO{
				{W: []byte{1, 0xE5, 0xE3}},
				{W: []byte{1}, R: []byte{0x65, 0xE3}},
				{W: []byte{1}, R: []byte{0xE5, 0xE3}},
				{W: []byte{0}, R: []byte{0x00, 0x00}},
				{W: []byte{1}, R: []byte{0xE5, 0xE3}},
				{W: []byte{1, 0xE5, 0xE3}},
				{W: []byte{1}, R: []byte{0xE5, 0xE3}},
				{W: []byte{0}, R: []byte{0x40, 0x00}},
				{W: []byte{1}, R: []byte{0xE5, 0xE3}},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &i2ctest.Playback{DontPanic: true}
				for _, op := range tt.ops {
					op.Addr = tt.addr
					switch { // checksums that no data sheet has
					case len(op.R) == 7 && op.R[0] == 0x18:
						op.R[6] = crc8(op.R[:6])
					case len(op.R) == 3:
						op.R[2] = crc8(op.R[:2])
					}
					b.Ops = append(b.Ops, op)
				}
				if err := tt.config.Validate(); err != nil {
					t.Fatal(err)
				}
				env := on(t, b)
				env.I2C = func(string) (periph.BusCloser, error) { return b, nil }
				s, err := tt.config.Open(t.Context(), env)
				if err != nil {
					t.Fatal(err)
				}
				rs, err := s.Sample(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				var got []float64
				for _, r := range rs {
					got = append(got, r.Value)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("values (-want +got):\n%s", diff)
				}
				if err := s.Close(); err != nil { // all of it was played
					t.Error(err)
				}
			})
		})
	}
}
