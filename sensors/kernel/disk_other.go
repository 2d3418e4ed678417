//go:build !linux

package kernel

import "errors"

func statfs(string) (space, error) {
	return space{}, errors.New("disk space is read on Linux only")
}
