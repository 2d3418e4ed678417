package sensors

// Templated is a DriverConfig of which a part may stand in a file of its own, or in one
// that comes with the program. Whoever reads configurations reads it, before Validate:
// drivers know nothing of the format.
type Templated interface {
	DriverConfig
	Template() Template
}

// Template is what has to be read.
type Template struct {
	Key string // of the configuration: where it is named
	// Name and Source are the text, or File names it, relative to the configuration.
	// All empty: there is none.
	Name   string
	Source []byte
	File   string
	Into   any   // pointer to a struct with yaml tags, and Validate
	Err    error // there is no such template
}
