package sensors

import "time"

// Datasheet is what a driver knows of the hardware it reads, from the makers' data
// sheets. The reference of sensors is written from it.
type Datasheet struct {
	Chips     string // makers and names
	Documents string // numbers of the data sheets
	// Conversion is how long a measurement takes at most, with the default
	// settings; 0 if the chip measures all the time by itself.
	Conversion time.Duration
	Metrics    []Metric
	// Doubts says in a sentence or two how the driver knows that a value is the
	// chip's own, and what it cannot know.
	Doubts string
}

// Described is a [DriverConfig] whose metrics depend on its keys; else those of the
// [Datasheet] count.
type Described interface{ Metrics() []Metric }

// Metric is one quantity that a driver reads.
type Metric struct {
	Name, Unit string
	// Min and Max are the ends of the range in which the chip measures. What is
	// beyond has the quality bad.
	Min, Max float64
	// MaxRate is how fast the quantity can change at the chip, in units per
	// second: what changes faster is suspect. 0: there is no bound.
	MaxRate float64
	// Step is the resolution with the default settings, Accuracy the typical error
	// as the data sheet gives it.
	Step     float64
	Accuracy string
}
