package service

import "io/fs"

// groupOf: Windows has no such thing.
func groupOf(fs.FileInfo) (gid int, ok bool) { return 0, false }
