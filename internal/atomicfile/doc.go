// Package atomicfile replaces small files so that whoever reads one sees the old
// content or the new, never a part or a mixture, whatever is interrupted when: the
// program, the system or the power.
//
// [WriteFile] writes a temporary file in the same directory, syncs it, renames it
// over the old one and syncs the directory. When it has returned nil the new
// content survives a power cut; when it has returned an error the old content is
// still there, except after a failed sync of the directory, when either of them
// is. Temporary files that a crash left behind are removed by [Sweep].
//
// Both functions are safe for concurrent use; of two writers of one path the last
// to rename wins. The whole content is held in memory: this is for state files of
// kilobytes, not for data. On Windows directories cannot be synced, so there the
// promise is atomicity without the power cut.
package atomicfile
