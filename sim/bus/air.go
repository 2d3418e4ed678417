package bus

import (
	"math"
	"time"
)

// Weather is a small deterministic model of the air: slow waves and a little
// noise, as a function of elapsed time. The zero value is mild weather at sea level.
type Weather struct {
	Seed    uint64
	Celsius float64 // mean temperature; 0 stands for 21
}

// At returns the weather after elapsed: degrees Celsius, pascal, percent.
func (w Weather) At(elapsed time.Duration) (celsius, pascal, percent float64) {
	mean := w.Celsius
	if mean == 0 {
		mean = 21
	}
	s := elapsed.Seconds()
	phase := 2 * math.Pi * w.noise(0, 0)
	celsius = mean + 1.2*math.Sin(2*math.Pi*s/600+phase) + 0.04*(w.noise(1, elapsed)-0.5)
	pascal = 101325 + 180*math.Sin(2*math.Pi*s/3600+phase) + 3*(w.noise(2, elapsed)-0.5)
	percent = 52 - 1.5*(celsius-mean) + 0.3*(w.noise(3, elapsed)-0.5)
	return celsius, pascal, percent
}

// noise returns a number in [0, 1) that holds for 100 ms (splitmix64 of seed, kind
// and time).
func (w Weather) noise(kind uint64, elapsed time.Duration) float64 {
	x := w.Seed*0x9E3779B97F4A7C15 + kind<<56 + uint64(elapsed/(100*time.Millisecond)) + 1
	x *= 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return float64((x^x>>31)>>11) / (1 << 53)
}

// Greenhouse is weather under glass with a heater that comes on too hard: once per
// period the temperature swings up by Rise degrees and back within Burst. With the
// zero values it crosses 30 °C every 20 s, for four seconds or so, first after
// about six seconds.
type Greenhouse struct {
	Weather Weather       // its mean temperature defaults to 24 °C here
	Period  time.Duration // default 20s
	Burst   time.Duration // default 8s, at most Period
	Rise    float64       // default 10 °C
}

// At returns the air in the greenhouse after elapsed: degrees Celsius, pascal,
// percent.
func (g Greenhouse) At(elapsed time.Duration) (celsius, pascal, percent float64) {
	if g.Weather.Celsius == 0 {
		g.Weather.Celsius = 24
	}
	celsius, pascal, percent = g.Weather.At(elapsed)
	heat := g.heat(elapsed)
	return celsius + heat, pascal, max(percent-2*heat, 5)
}

// heat is how much the heater adds: half a sine squared, which starts a fifth of
// a period in.
func (g Greenhouse) heat(elapsed time.Duration) float64 {
	period, burst, rise := g.Period, g.Burst, g.Rise
	if period <= 0 {
		period = 20 * time.Second
	}
	if burst <= 0 {
		burst = 8 * time.Second
	}
	if rise == 0 {
		rise = 10
	}
	in := elapsed%period - period/5
	if in < 0 || in >= burst {
		return 0
	}
	s := math.Sin(math.Pi * float64(in) / float64(burst))
	return rise * s * s
}

// Since makes air of a model that is a function of elapsed time: it begins now.
func Since(model func(elapsed time.Duration) (celsius, pascal, percent float64)) Air {
	start := time.Now()
	return func() (celsius, pascal, percent float64) { return model(time.Since(start)) }
}
