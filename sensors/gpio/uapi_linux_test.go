package gpio

import (
	"encoding/binary"
	"testing"
	"time"
	"unsafe"
)

// TestLayout holds the structures against the kernel's, whose sizes are part of the
// numbers of its calls.
func TestLayout(t *testing.T) {
	for _, tt := range []struct {
		name          string
		size, offset  uintptr
		number        uint
		want, wantOff uintptr
	}{
		{"gpiochip_info", unsafe.Sizeof(chipInfo{}), unsafe.Offsetof(chipInfo{}.lines), getChipInfo, 68, 64},
		{"gpio_v2_line_info", unsafe.Sizeof(lineInfo{}), unsafe.Offsetof(lineInfo{}.flags), getLineInfo, 256, 72},
		{"gpio_v2_line_request", unsafe.Sizeof(lineRequest{}), unsafe.Offsetof(lineRequest{}.fd), getLine, 592, 588},
		{"gpio_v2_line_request.config", unsafe.Sizeof(lineConfig{}), unsafe.Offsetof(lineRequest{}.config), 272 << 16, 272, 288},
		{"gpio_v2_line_config.attrs", unsafe.Sizeof(configAttribute{}), unsafe.Offsetof(lineConfig{}.attrs), 24 << 16, 24, 32},
		{"gpio_v2_line_values", unsafe.Sizeof(lineLevels{}), unsafe.Offsetof(lineLevels{}.mask), getLevels, 16, 8},
		{"gpio_v2_line_values", unsafe.Sizeof(lineLevels{}), 8, setLevels, 16, 8},
		{"gpio_v2_line_event", unsafe.Sizeof(lineEvent{}), unsafe.Offsetof(lineEvent{}.lineSeq), 48 << 16, 48, 20},
	} {
		if tt.size != tt.want || tt.offset != tt.wantOff || uintptr(tt.number>>16&0x3fff) != tt.want {
			t.Errorf("%s: size %d, want %d; offset %d, want %d; the call says %d", tt.name, tt.size, tt.want, tt.offset, tt.wantOff, tt.number>>16&0x3fff)
		}
	}
}

func TestEncode(t *testing.T) {
	out := encode(7, request{place: Place{Active: "low"}, output: true, high: true})
	if out.offsets[0] != 7 || out.lines != 1 || out.config.flags != 1<<1|1<<3 || out.config.count != 1 || out.config.attrs[0].id != 2 ||
		out.config.attrs[0].value != 1 || out.config.attrs[0].mask != 1 || text(out.consumer[:]) != "edgeagent" {
		t.Errorf("output: %+v", out)
	}
	in := encode(3, request{bias: "up", rising: true, falling: true, debounce: 5 * time.Millisecond})
	if in.config.flags != 1<<2|1<<4|1<<5|1<<8 || in.events != 1024 || in.config.attrs[0].id != 3 {
		t.Errorf("input: %+v", in)
	}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&in.config.attrs[0])), 16)
	if us := binary.NativeEndian.Uint32(raw[8:]); us != 5000 {
		t.Errorf("debounce of %d us", us)
	}
	if in := encode(3, request{bias: "down"}); in.config.flags != 1<<2|1<<9 || in.events != 0 || in.config.count != 0 {
		t.Errorf("input: %+v", in)
	}
}

func TestDecode(t *testing.T) {
	b := make([]byte, 2*eventSize+5)
	binary.NativeEndian.PutUint64(b, 1000)
	binary.NativeEndian.PutUint32(b[8:], 1)
	binary.NativeEndian.PutUint32(b[20:], 41)
	binary.NativeEndian.PutUint64(b[eventSize:], 9000)
	binary.NativeEndian.PutUint32(b[eventSize+8:], 2)
	binary.NativeEndian.PutUint32(b[eventSize+20:], 42)
	got := decode(nil, b, 5000)
	want := []edge{{true, 4000, 41}, {false, 0, 42}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
