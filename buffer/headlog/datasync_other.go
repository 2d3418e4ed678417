//go:build !linux

package headlog

// Datasync syncs the file with its metadata.
func (f diskFile) Datasync() error { return f.Sync() }
