package gpio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The structures and numbers of include/uapi/linux/gpio.h, version 2. All of them
// are laid out the same on 32 and 64 bits.

const (
	getChipInfo  = 0x8044b401 // _IOR(0xB4, 0x01, struct gpiochip_info)
	getLineInfo  = 0xc100b405 // _IOWR(0xB4, 0x05, struct gpio_v2_line_info)
	getLine      = 0xc250b407 // _IOWR(0xB4, 0x07, struct gpio_v2_line_request)
	getLevels    = 0xc010b40e // _IOWR(0xB4, 0x0E, struct gpio_v2_line_values)
	setLevels    = 0xc010b40f // _IOWR(0xB4, 0x0F, struct gpio_v2_line_values)
	attrValues   = 2
	attrDebounce = 3
	edgeRising   = 1 // id of an event
)

const (
	flagActiveLow uint64 = 1 << (iota + 1)
	flagInput
	flagOutput
	flagRising
	flagFalling
	_ // open drain
	_ // open source
	flagPullUp
	flagPullDown
	flagNoPull
)

type chipInfo struct {
	name, label [32]byte
	lines       uint32
}

type attribute struct {
	id, _ uint32
	value uint64 // a debounce time is its first 32 bits
}

type configAttribute struct {
	attribute
	mask uint64
}

type lineConfig struct {
	flags uint64
	count uint32
	_     [5]uint32
	attrs [10]configAttribute
}

type lineRequest struct {
	offsets  [64]uint32
	consumer [32]byte
	config   lineConfig
	lines    uint32
	events   uint32
	_        [5]uint32
	fd       int32
}

type lineInfo struct {
	name, consumer [32]byte
	offset, attrs  uint32
	flags          uint64
	_              [10]attribute
	_              [4]uint32
}

type lineLevels struct{ bits, mask uint64 }

type lineEvent struct {
	at                       uint64 // CLOCK_MONOTONIC, ns
	id, offset, seq, lineSeq uint32
	_                        [6]uint32
}

const eventSize = int(unsafe.Sizeof(lineEvent{}))

// queued is how many edges the kernel holds for a line, the most it allows.
const queued = 1024

func ioctl(fd uintptr, number uint, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(number), uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// kernel opens lines of the chips below root/dev.
func kernel(root string) opener {
	return func(r request) (line, error) {
		chip, offset, err := find(filepath.Join("/", root, "dev"), r.place)
		if err != nil {
			return nil, err
		}
		defer chip.Close()
		return open(chip, offset, r)
	}
}

// find opens the chip of a line.
func find(dev string, p Place) (chip *os.File, offset uint32, err error) {
	name, line, number := p.resolve()
	if path := devicePath(dev, name); path != "" {
		chip, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return nil, 0, err
		}
		offset, err := offsetOf(chip, line, number)
		if err != nil {
			chip.Close()
		}
		return chip, offset, err
	}
	return search(dev, name, line, number)
}

// devicePath returns the path of a chip that is named by its device, else "".
func devicePath(dev, name string) string {
	switch {
	case strings.HasPrefix(name, "/dev/"):
		return filepath.Join(dev, strings.TrimPrefix(name, "/dev/"))
	case strings.HasPrefix(name, "gpiochip"):
		return filepath.Join(dev, name)
	}
	return ""
}

// search looks through all chips for one with this label, or for a line of this
// name.
func search(dev, label, line string, number int) (*os.File, uint32, error) {
	paths, err := filepath.Glob(filepath.Join(dev, "gpiochip*"))
	if err != nil {
		return nil, 0, err
	}
	slices.Sort(paths)
	var refused error
	seen := false
	for _, path := range paths {
		chip, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			refused = err
			continue
		}
		info, err := infoOf(chip)
		if err == nil && (label == "" || text(info.label[:]) == label) {
			seen = true
			offset, err := offsetOf(chip, line, number)
			if err == nil {
				return chip, offset, nil
			}
		}
		chip.Close()
	}
	switch {
	case refused != nil:
		return nil, 0, refused
	case label != "" && !seen:
		return nil, 0, fmt.Errorf("no chip %q: %w", label, fs.ErrNotExist)
	}
	return nil, 0, fmt.Errorf("no such line on any chip: %w", fs.ErrNotExist)
}

func infoOf(chip *os.File) (info chipInfo, err error) {
	err = control(chip, getChipInfo, unsafe.Pointer(&info))
	return info, err
}

// offsetOf finds the line of a chip.
func offsetOf(chip *os.File, name string, number int) (uint32, error) {
	info, err := infoOf(chip)
	if err != nil {
		return 0, fmt.Errorf("ask chip: %w", err)
	}
	if number >= 0 {
		if uint64(number) >= uint64(info.lines) {
			return 0, fmt.Errorf("%s has lines 0 to %d: %w", text(info.name[:]), int(info.lines)-1, fs.ErrNotExist)
		}
		return uint32(number), nil //nolint:gosec // below the chip's count
	}
	for i := range info.lines {
		l := lineInfo{offset: i}
		if err := control(chip, getLineInfo, unsafe.Pointer(&l)); err != nil {
			return 0, fmt.Errorf("ask line %d: %w", i, err)
		}
		if text(l.name[:]) == name {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%s has no line %s: %w", text(info.name[:]), name, fs.ErrNotExist)
}

// text reads a name that ends with a zero byte.
func text(b []byte) string {
	before, _, _ := bytes.Cut(b, []byte{0})
	return string(before)
}

// control calls an ioctl without taking the file away from Go's poller.
func control(f *os.File, number uint, arg unsafe.Pointer) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var called error
	if err := raw.Control(func(fd uintptr) { called = ioctl(fd, number, arg) }); err != nil {
		return err
	}
	return called
}

// encode writes a request in the kernel's words.
func encode(offset uint32, r request) lineRequest {
	k := lineRequest{lines: 1}
	k.offsets[0] = offset
	copy(k.consumer[:], "edgeagent")
	add := func(id uint32, value uint64) {
		k.config.attrs[k.config.count] = configAttribute{attribute{id: id, value: value}, 1}
		k.config.count++
	}
	on := func(flag uint64, set bool) {
		if set {
			k.config.flags |= flag
		}
	}
	on(flagActiveLow, r.place.Active == "low")
	if r.output {
		on(flagOutput, true)
		level := uint64(0)
		if r.high {
			level = 1
		}
		add(attrValues, level)
		return k
	}
	on(flagInput, true)
	on(flagPullUp, r.bias == "up")
	on(flagPullDown, r.bias == "down")
	on(flagNoPull, r.bias == "off")
	on(flagRising, r.rising)
	on(flagFalling, r.falling)
	if r.rising || r.falling {
		k.events = queued
	}
	if r.debounce > 0 {
		a := attribute{}
		*(*uint32)(unsafe.Pointer(&a.value)) = uint32(r.debounce.Microseconds()) //nolint:gosec // at most 1 s
		add(attrDebounce, a.value)
	}
	return k
}

func open(chip *os.File, offset uint32, r request) (line, error) {
	k := encode(offset, r)
	if err := control(chip, getLine, unsafe.Pointer(&k)); err != nil {
		return nil, err
	}
	if err := syscall.SetNonblock(int(k.fd), true); err != nil { // so that reads obey deadlines
		return nil, errors.Join(err, syscall.Close(int(k.fd)))
	}
	return &kernelLine{file: os.NewFile(uintptr(k.fd), r.place.String())}, nil
}

type kernelLine struct {
	file *os.File
	buf  [64 * eventSize]byte
	held int // bytes of buf that are edges not yet given
}

func (l *kernelLine) level() (bool, error) {
	v := lineLevels{mask: 1}
	err := control(l.file, getLevels, unsafe.Pointer(&v))
	return v.bits&1 != 0, err
}

func (l *kernelLine) set(high bool) error {
	v := lineLevels{mask: 1}
	if high {
		v.bits = 1
	}
	return control(l.file, setLevels, unsafe.Pointer(&v))
}

// await reads what comes first and holds it for edges.
func (l *kernelLine) await(ctx context.Context) error {
	if l.held > 0 || ctx.Err() != nil {
		return nil
	}
	if err := l.file.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var err error
	l.held, err = l.file.Read(l.buf[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

func (l *kernelLine) edges(dst []edge) ([]edge, error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return dst, err
	}
	// At most what the queue holds twice over: a line that never stops must not
	// hold its reader.
	for range 2 * queued * eventSize / len(l.buf) {
		dst = decode(dst, l.buf[:l.held], monotonic())
		l.held = 0
		var called error
		if err := raw.Control(func(fd uintptr) { l.held, called = syscall.Read(int(fd), l.buf[:]) }); err != nil {
			return dst, err
		}
		if l.held <= 0 {
			l.held = 0
			if called == nil || errors.Is(called, syscall.EAGAIN) {
				return dst, nil
			}
			if !errors.Is(called, syscall.EINTR) {
				return dst, called
			}
		}
	}
	return dst, nil
}

func decode(dst []edge, b []byte, now uint64) []edge {
	for ; len(b) >= eventSize; b = b[eventSize:] {
		var ev lineEvent
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&ev)), eventSize), b)
		dst = append(dst, edge{high: ev.id == edgeRising, age: time.Duration(now - min(ev.at, now)), number: ev.lineSeq}) //nolint:gosec // ns since boot
	}
	return dst
}

func monotonic() uint64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return uint64(ts.Nano()) //nolint:gosec // never negative
}

func (l *kernelLine) Close() error {
	err := l.file.Close()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// hintFor says what to do about an error.
func hintFor(err error) string {
	switch {
	case errors.Is(err, syscall.EBUSY):
		return "something else holds the line: \"gpioinfo\" says who; a running agent holds its own"
	case errors.Is(err, fs.ErrPermission):
		return "add the user to the group gpio, and look at the owner of /dev/gpiochip*"
	case errors.Is(err, fs.ErrNotExist):
		return "\"gpioinfo\" lists chips and lines: check the keys chip and line"
	case errors.Is(err, syscall.ENOTTY), errors.Is(err, syscall.EINVAL):
		return "this needs version 2 of the kernel's GPIO interface (Linux 5.10), and a line that can do what is asked of it"
	}
	return "check the keys chip and line"
}
