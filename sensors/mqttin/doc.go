// Package mqttin will take readings from devices that publish to a local MQTT
// broker; it is empty in this release.
package mqttin
