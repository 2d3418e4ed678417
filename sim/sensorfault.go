package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// SensorFault is a way in which a sensor misleads whoever believes it.
type SensorFault int

// The faults, with the sizes that [SensorWorld.Inject] draws. A span is the range
// that the sensor's readings have in two quiet weeks, noise their standard deviation
// about what is measured.
const (
	// SensorStuck repeats one value for 12 to 24 h.
	SensorStuck SensorFault = iota
	// SensorSpike is off by 0.5 to 2 spans, either way, in one reading.
	SensorSpike
	// SensorStep is off by 0.5 to 1.5 spans, either way, for 6 to 24 h.
	SensorStep
	// SensorDrift goes off by 0.5 to 1 span a day, either way, for 4 to 6 days.
	SensorDrift
	// SensorNoise has 6 to 12 times the noise, and a tenth of a span more, for 6 to
	// 12 h: less is hidden where the world itself is restless.
	SensorNoise
	// SensorGap gives no reading for 10 min to 6 h, or 10 intervals if that is more.
	SensorGap
	// SensorFaults is how many there are.
	SensorFaults
)

var sensorFaultNames = [SensorFaults]string{"stuck", "spike", "step", "drift", "noise", "gap"}

// String returns the name used in tables.
func (f SensorFault) String() string {
	if f >= 0 && f < SensorFaults {
		return sensorFaultNames[f]
	}
	return fmt.Sprintf("fault(%d)", int(f))
}

// SensorPlace is where a simulated sensor is.
type SensorPlace int

// The places.
const (
	Room      SensorPlace = iota // temperature indoors: a day's curve, slow changes
	Outdoors                     // temperature outdoors: a larger curve, weather of two days
	ColdStore                    // its compressor goes on and off, its door opens by day
	Pump                         // vibration: runs from 6 to 22 h, heavy-tailed noise
	Barometer                    // air pressure: no day, weather of three days
	Humidity                     // a day's curve, noisy, coarse
	// SensorPlaces is how many there are.
	SensorPlaces
)

var sensorPlaceNames = [SensorPlaces]string{"room", "outdoors", "cold store", "pump", "barometer", "humidity"}

// String returns the name used in tables.
func (p SensorPlace) String() string {
	if p >= 0 && p < SensorPlaces {
		return sensorPlaceNames[p]
	}
	return fmt.Sprintf("place(%d)", int(p))
}

// sensorNature is what a place is like.
type sensorNature struct {
	mean, curve   float64       // level, and half of the day's swing
	slow          float64       // standard deviation of slow changes
	memory        time.Duration // of these
	noise         float64       // standard deviation
	resolution    float64
	span          float64 // the range of two quiet weeks
	min, max      float64 // what the sensor can show
	doors, cycles bool    // of the cold store
	shifts        bool    // of the pump
}

func (p SensorPlace) nature() sensorNature {
	switch p {
	case Room:
		return sensorNature{mean: 21, curve: 1.5, slow: 0.3, memory: 6 * time.Hour, noise: 0.05, resolution: 0.01, span: 5, min: -40, max: 85}
	case Outdoors:
		return sensorNature{mean: 10, curve: 5, slow: 2, memory: 48 * time.Hour, noise: 0.1, resolution: 0.1, span: 18, min: -60, max: 85}
	case ColdStore:
		return sensorNature{mean: 4, slow: 0.1, memory: 12 * time.Hour, noise: 0.05, resolution: 0.0625, span: 5, min: -55, max: 125, doors: true, cycles: true}
	case Pump:
		return sensorNature{mean: 0.1, slow: 0.05, memory: 12 * time.Hour, noise: 0.15, resolution: 0.001, span: 4, min: 0, max: 50, shifts: true}
	case Barometer:
		return sensorNature{mean: 1013, slow: 6, memory: 72 * time.Hour, noise: 0.1, resolution: 0.01, span: 25, min: 300, max: 1100}
	default:
		return sensorNature{mean: 50, curve: 8, slow: 3, memory: 12 * time.Hour, noise: 0.4, resolution: 0.1, span: 32, min: 0, max: 100}
	}
}

// SensorFacts are what a data sheet would say of the sensor.
type SensorFacts struct {
	Min, Max, Resolution float64
	Every                time.Duration
}

// SensorWorld gives the readings of one sensor, seeded: the same seed gives the same
// readings. It is a value: a copy goes on from where it was copied, so that one past
// can have several futures. Make it with [NewSensorWorld].
type SensorWorld struct {
	nature sensorNature
	every  time.Duration
	random rand.PCG
	n      int64 // readings made

	slow, phase float64
	door, warm  float64 // of the air, of the sensor
	period      float64 // s, of the compressor's cycle that goes on
	last        float64

	fault     SensorFault
	from, to  int64 // readings that are faulty
	size      float64
	injecting bool
}

// NewSensorWorld returns a sensor at a place that is read at an interval.
func NewSensorWorld(p SensorPlace, every time.Duration, seed uint64) SensorWorld {
	w := SensorWorld{nature: p.nature(), every: every, period: 1800}
	w.random.Seed(seed, uint64(p))
	w.slow = w.nature.slow * rand.New(&w.random).NormFloat64()
	return w
}

// Facts returns what is known of the sensor without having read it.
func (w *SensorWorld) Facts() SensorFacts {
	return SensorFacts{w.nature.min, w.nature.max, w.nature.resolution, w.every}
}

// Next returns the time of the next reading since the start, its value, and whether
// there is one.
func (w *SensorWorld) Next() (at time.Duration, value float64, ok bool) {
	at = time.Duration(w.n) * w.every
	r := rand.New(&w.random)
	noise := w.nature.noise * r.NormFloat64()
	if w.nature.shifts { // tails are heavy
		noise *= math.Exp(0.4 * r.NormFloat64())
	}
	truth := w.truth(r, at)
	faulty := w.injecting && w.n >= w.from && w.n < w.to
	gone := float64(w.n-w.from) * w.every.Hours() / 24 // days into the fault
	w.n++
	if faulty {
		switch w.fault {
		case SensorStuck:
			return at, w.last, true
		case SensorSpike, SensorStep:
			truth += w.size
		case SensorDrift:
			truth += w.size * gone
		case SensorNoise:
			noise *= w.size
		case SensorGap:
			return at, 0, false
		}
	}
	value = math.Round((truth+noise)/w.nature.resolution) * w.nature.resolution
	w.last = max(w.nature.min, min(w.nature.max, value))
	return at, w.last, true
}

// truth is what a perfect sensor would read.
func (w *SensorWorld) truth(r *rand.Rand, at time.Duration) float64 {
	n := &w.nature
	keep := math.Exp(-w.every.Seconds() / n.memory.Seconds())
	w.slow = keep*w.slow + math.Sqrt(1-keep*keep)*n.slow*r.NormFloat64()
	hours := math.Mod(at.Hours(), 24)
	x := n.mean + w.slow - n.curve*math.Cos(2*math.Pi*(hours-3)/24)
	if n.cycles {
		x += w.compressor(r)
	}
	if n.doors {
		w.door *= math.Exp(-w.every.Seconds() / 900)
		if hours >= 7 && hours < 18 && r.Float64() < w.every.Hours()/1.5 {
			w.door += 0.5 + 1.5*r.Float64()
		}
		// The air is warm at once, the sensor in it after minutes.
		w.warm += (1 - math.Exp(-w.every.Seconds()/180)) * (min(w.door, 2.5) - w.warm)
		x += w.warm
	}
	if n.shifts && hours >= 6 && hours < 22 {
		x += 2
	}
	return x
}

// compressor is a sawtooth about 0 whose period changes from tooth to tooth.
func (w *SensorWorld) compressor(r *rand.Rand) float64 {
	w.phase += w.every.Seconds() / w.period
	if w.phase >= 1 {
		w.phase -= math.Floor(w.phase)
		w.period = 1200 + 1200*r.Float64()
	}
	return 1.2*math.Abs(2*w.phase-1) - 0.6
}

// Inject makes the next readings faulty; the fault's size and length are drawn. share
// multiplies the size: with 0 it is a fault that does nothing, the negative control of
// whoever looks for it. It returns until when the fault goes on.
func (w *SensorWorld) Inject(f SensorFault, share float64) (until time.Duration) {
	r := rand.New(&w.random)
	between := func(a, b float64) float64 { return a + (b-a)*r.Float64() }
	either := func(x float64) float64 {
		if r.Float64() < 0.5 {
			return -x
		}
		return x
	}
	var hours float64
	switch f {
	case SensorStuck:
		hours = between(12, 24)
	case SensorSpike:
		w.size = either(between(0.5, 2)) * w.nature.span
	case SensorStep:
		hours, w.size = between(6, 24), either(between(0.5, 1.5))*w.nature.span
	case SensorDrift:
		hours, w.size = between(96, 144), either(between(0.5, 1))*w.nature.span
	case SensorNoise:
		hours, w.size = between(6, 12), between(6, 12)+0.1*w.nature.span/w.nature.noise
	case SensorGap:
		hours = max(between(1.0/6, 6), 10*w.every.Hours())
	}
	w.size *= share
	if x := w.last + w.size; f == SensorSpike && (x < w.nature.min || x > w.nature.max) {
		w.size = -w.size // what the sensor cannot show is no fault
	}
	if f == SensorNoise && share == 0 {
		w.size = 1
	}
	if share == 0 && (f == SensorStuck || f == SensorGap) {
		f = SensorStep // of size 0
	}
	w.fault, w.injecting = f, true
	w.from = w.n
	w.to = w.n + max(1, int64(hours/w.every.Hours()))
	return time.Duration(w.to) * w.every
}
