package bus

import "sort"

// calibration holds the factory constants of a BME280, named as in the data sheet
// (BST-BME280-DS002, section 4.2.2).
type calibration struct {
	t1                             uint16
	t2, t3                         int16
	p1                             uint16
	p2, p3, p4, p5, p6, p7, p8, p9 int16
	h1, h3                         uint8
	h2, h4, h5                     int16
	h6                             int8
}

// sample280 has the constants of the worked example in Bosch's BMP280 data sheet
// (section 3.12), and typical ones for humidity, for which there is no example.
var sample280 = calibration{
	t1: 27504, t2: 26435, t3: -1000,
	p1: 36477, p2: -10685, p3: 3024, p4: 2855, p5: 140, p6: -7, p7: 15500, p8: -14600, p9: 6000,
	h1: 75, h2: 362, h3: 0, h4: 321, h5: 50, h6: 30,
}

// Raw values of a quantity that was not measured.
const (
	skipped20 = 0x80000
	skipped16 = 0x8000
)

// temperature returns hundredths of a degree and the fine temperature that the
// other two formulas need, from 20 raw bits.
func (c *calibration) temperature(raw int32) (centi, fine int32) {
	v1 := (((raw >> 3) - (int32(c.t1) << 1)) * int32(c.t2)) >> 11
	d := (raw >> 4) - int32(c.t1)
	v2 := (((d * d) >> 12) * int32(c.t3)) >> 14
	fine = v1 + v2
	return (fine*5 + 128) >> 8, fine
}

// pressure returns 1/256 Pa from 20 raw bits. It falls as raw rises.
func (c *calibration) pressure(raw, fine int32) int64 {
	v1 := int64(fine) - 128000
	v2 := v1*v1*int64(c.p6) + ((v1 * int64(c.p5)) << 17) + (int64(c.p4) << 35)
	v1 = ((v1 * v1 * int64(c.p3)) >> 8) + ((v1 * int64(c.p2)) << 12)
	v1 = (((int64(1) << 47) + v1) * int64(c.p1)) >> 33
	if v1 == 0 {
		return 0
	}
	p := (((int64(1048576-raw) << 31) - v2) * 3125) / v1
	v1 = (int64(c.p9) * (p >> 13) * (p >> 13)) >> 25
	v2 = (int64(c.p8) * p) >> 19
	return ((p + v1 + v2) >> 8) + (int64(c.p7) << 4)
}

// humidity returns 1/1024 % from 16 raw bits, held between 0 and 100 %.
func (c *calibration) humidity(raw, fine int32) int64 {
	v := int64(fine) - 76800
	a := ((int64(raw) << 14) - (int64(c.h4) << 20) - int64(c.h5)*v + 16384) >> 15
	b := ((v*int64(c.h6))>>10*(((v*int64(c.h3))>>11)+32768))>>10 + 2097152
	x := a * ((b*int64(c.h2) + 8192) >> 14)
	x -= ((((x >> 15) * (x >> 15)) >> 7) * int64(c.h1)) >> 4
	return min(max(x, 0), 419430400) >> 12
}

// adc returns the raw values from which a driver computes the given air: the
// formulas above, inverted by bisection. What the converter cannot express comes
// out as its nearest end.
func (c *calibration) adc(celsius, pascal, percent float64) (t, p, h int32) {
	const top20, top16 = 1<<20 - 1, 1<<16 - 1
	t = nearest(top20, celsius*100, func(raw int32) float64 {
		centi, _ := c.temperature(raw)
		return float64(centi)
	})
	_, fine := c.temperature(t)
	p = top20 - nearest(top20, pascal*256, func(x int32) float64 { return float64(c.pressure(top20-x, fine)) })
	h = nearest(top16, percent*1024, func(raw int32) float64 { return float64(c.humidity(raw, fine)) })
	return t, p, h
}

// nearest returns the x in [0, top] for which the rising function f comes nearest
// to want.
func nearest(top int32, want float64, f func(int32) float64) int32 {
	x := int32(sort.Search(int(top), func(i int) bool { return f(int32(i)) >= want }))
	if x > 0 && want-f(x-1) < f(x)-want {
		return x - 1
	}
	return x
}
