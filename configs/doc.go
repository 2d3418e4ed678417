// Package configs is the only door through which YAML enters the program. It
// reads what people write by hand: the agent's configuration and the rule files.
//
// [Decode] is strict: an unknown key, a wrong type, a duplicate key, a duration
// without a unit is an error. All errors of a file that parses are reported at
// once, each with file, line, column, the line itself and, where there is one, a
// hint; a syntax error is reported alone, because nothing behind it can be
// trusted. Validation belongs to the components: they return
// [edgeagent.FieldError] and never see YAML, and this package turns the path of
// the key into a place in the file. A key that could not be read is not
// validated, so that one mistake is one error.
//
// [Load] reads the agent's [Config]. It composes the configuration of each
// component and merges the keys of a sensor's driver into the sensor's mapping.
// It opens no device and no connection, and reads no secret unless told to.
//
// Limits: 1 MiB and 30,000 YAML tokens a file, 64 levels deep, one document. Files
// are UTF-8; Windows line ends and a byte order mark are accepted. Anchors and
// aliases work while they stay small; merge keys, tags and directives are refused.
// Nothing panics on any input, and the time per file is bounded. There are no
// includes, no environment variables inside values, no layers, no schema and no
// "explain" in this version.
//
// The functions hold no state and are safe for concurrent use. A Config is a
// plain value that the caller owns.
package configs
