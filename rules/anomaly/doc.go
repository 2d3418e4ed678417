// Package anomaly is empty in this release: it is the place of the streaming
// anomaly detectors that rules will be able to ask.
package anomaly
