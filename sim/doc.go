// Package sim runs the real agent in process and replaces only its lowest seams: the
// bus (register-level chips, so the real driver runs), the dialer, the file system
// root. What is simulated is the world, never the agent.
//
// This release holds [Demo]: one gateway with broker and receiver, an outage on
// demand, and a verdict that counts every record. Scenarios, fleets and fault
// timelines are not part of it yet.
//
// [SensorWorld] is a sensor by itself, with a seed and with faults to inject, against
// which anomaly detectors are tested.
package sim
