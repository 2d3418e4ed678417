package block

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

var update = flag.Bool("update", false, "write docs/decoders/vectors.json anew")

var vectorsFile = filepath.Join("..", "..", "docs", "decoders", "vectors.json")

// vector is a block and what any decoder must make of it: Decoded is what the
// decoders in docs/decoders print, Refuse says that they must fail.
type vector struct {
	Name    string `json:"name"`
	Block   string `json:"block"`
	Decoded any    `json:"decoded,omitempty"`
	Refuse  bool   `json:"refuse,omitempty"`
}

type vectorCase struct {
	name string
	id   ID
	rows []Row
}

// vectorRows are the readings that the vectors hold: together they use every
// form that a column can take.
func vectorRows() []vectorCase {
	id := func(resolution uint8) ID { v := telemetry; v.Resolution = resolution; return v }
	unsynced := ID{Stream: edgeagent.StreamTelemetry, Epoch: 1, First: 1<<53 - 3, Run: 0xFFFFFFFF, Unsynced: true}
	const start = 1772323200_000000000
	columns := func(n, series int, value func(r *rand.Rand, i int) float64) []Row {
		r := rand.New(rand.NewPCG(11, 12))
		rows := make([]Row, n*series)
		for i := range rows {
			at := start + int64(i/series)*1e9 + int64(r.IntN(9))*1e6*int64(i%series%2)
			rows[i] = Row{uint32(1 + i%series), at, value(r, i/series), 0}
		}
		return rows
	}
	bitsOf := func(bits ...uint64) []Row {
		rows := make([]Row, len(bits))
		for i, b := range bits {
			rows[i] = Row{5, start + int64(i)*1e9, math.Float64frombits(b), 0}
		}
		return rows
	}
	walk := func(step, noise float64) func(r *rand.Rand, i int) float64 {
		level := 2000.0
		return func(r *rand.Rand, _ int) float64 {
			level += step * r.NormFloat64()
			return math.Round(level+noise*r.NormFloat64()) / 100
		}
	}
	return []vectorCase{
		{"one reading", id(6), []Row{{1, start, 21.5, 0}}},
		{"two series, shared times", id(6), columns(6, 1, walk(1, 1))},
		{"before 1970, falling ids, unsynced", unsynced, []Row{
			{4_000_000_000, -1, math.Pi, 0}, {2, math.MinInt64, -1, 0}, {2, math.MaxInt64, 1e300, 0},
		}},
		{"qualities", id(9), []Row{
			{1, start, 1, 0}, {1, start + 1e9, 2, 1}, {1, start + 2e9, 3, 2}, {1, start + 3e9, 4, 2}, {2, start, 5, 0}, {2, start, 5, 3},
		}},
		{"constant", id(6), columns(8, 2, func(*rand.Rand, int) float64 { return 4.25 })},
		{"counter with a scale", id(6), columns(40, 1, func(r *rand.Rand, i int) float64 { return 8589946442 + 1000*float64(i*3+r.IntN(2)) })},
		{"parabola", id(6), columns(40, 1, func(_ *rand.Rand, i int) float64 { return float64(7*i*i - 30*i + 5) })},
		{"stationary noise", id(6), columns(60, 1, func(r *rand.Rand, _ int) float64 { return math.Round(900+8*r.NormFloat64()) / 10 })},
		{"random walk", id(6), columns(60, 1, walk(9, 0))},
		{"noisy walk", id(6), columns(150, 1, walk(9, 9))},
		{"noisier walk", id(6), columns(150, 1, walk(9, 18))},
		{"noisiest walk", id(6), columns(150, 1, walk(9, 45))},
		{"three sensors, shared and shifted times", id(6), columns(20, 5, walk(1, 1))[2:]},
		{"float32 decimals", id(6), columns(20, 1, func(r *rand.Rand, _ int) float64 { return float64(float32(r.IntN(1000)) / 10) })},
		{"float32 decimals, one infinity", id(6), columns(40, 1, func(r *rand.Rand, i int) float64 {
			if i == 9 {
				return math.Inf(-1)
			}
			return float64(float32(r.IntN(1000)) / 10)
		})},
		{"decimals, not a number and minus zero", id(6), columns(40, 1, func(r *rand.Rand, i int) float64 {
			if i%20 == 7 {
				return []float64{math.NaN(), math.Copysign(0, -1)}[i/20]
			}
			return float64(r.IntN(100)) / 4
		})},
		{"decimals after arithmetic", id(6), columns(30, 1, func(r *rand.Rand, _ int) float64 {
			return math.Float64frombits(math.Float64bits(float64(r.IntN(900))/10) + r.Uint64N(9))
		})},
		{"float32 noise", id(6), columns(20, 1, func(r *rand.Rand, _ int) float64 {
			return float64(math.Float32frombits(r.Uint32() &^ 0x4000_0000))
		})},
		{"noise", id(6), columns(20, 1, func(r *rand.Rand, _ int) float64 { return r.NormFloat64() })},
		{"any bits", id(6), bitsOf(
			0, 1, 1<<63, 0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000001, 0x7FF0000000000001, 0xFFFFFFFFFFFFFFFF,
			0x3FF0000000000000, 0x0123456789ABCDEF, 0xFEDCBA9876543210, 0x0010000000000000, 0x7FEFFFFFFFFFFFFF,
		)},
		{"few full values", id(6), columns(120, 1, func(r *rand.Rand, _ int) float64 { return float64(r.IntN(6)) * 3.3 / 4095 })},
		{"outliers", id(6), columns(100, 1, func(r *rand.Rand, i int) float64 { return float64(r.IntN(3)) + float64(i/99)*1e12 })},
		{"two rates", id(6), slices.DeleteFunc(columns(60, 5, walk(1, 1)), func(r Row) bool { return r.Series > 3 && r.Time%10e9 > 5e8 })},
		{"any order", id(0), func() []Row {
			r := rand.New(rand.NewPCG(13, 14))
			rows := make([]Row, 60)
			for i := range rows {
				rows[i] = Row{r.Uint32N(4), start + r.Int64N(1e6), float64(r.IntN(9)), edgeagent.Quality(r.IntN(2))}
			}
			return rows
		}()},
		{"more than a group", id(3), columns(300, 1, func(_ *rand.Rand, i int) float64 { return float64(i % 150 / 50) })},
		{"not numbered", ID{Epoch: 3, Run: 4, Resolution: 6}, columns(3, 2, walk(1, 1))},
	}
}

type rollupCase struct {
	name string
	id   ID
	src  RollupSource
	rows []RollupRow
}

// vectorRollups are the rollups that the vectors hold: columns as they are and
// guessed, with and without exceptions.
func vectorRollups() []rollupCase {
	const start = 1772323200_000000000
	minutes := func(n int, value func(r *rand.Rand, i int) float64) []RollupRow {
		r := rand.New(rand.NewPCG(15, 16))
		var readings []Row
		for i := range n * 12 {
			for s := range 2 {
				readings = append(readings, Row{uint32(1 + s), start + int64(i)*5e9, value(r, i), 0})
			}
		}
		return foldMinutes(readings)
	}
	level := 2000.0
	any1ns := ID{Stream: edgeagent.StreamRollup, First: 1}
	nan, inf := math.NaN(), math.Inf(1)
	return []rollupCase{
		{"rollup: one row", rollupID, RollupSource{edgeagent.StreamTelemetry, 1, 12, 60}, []RollupRow{{1, start, 12, 258.6, 21.5, 21.6, 21.5, 21.6}}},
		{"rollup: a walk, by the minute", rollupID, fromMinute, minutes(20, func(r *rand.Rand, _ int) float64 {
			level += 3 * r.NormFloat64()
			return math.Round(level) / 100
		})},
		{"rollup: float32 decimals", rollupID, fromMinute, minutes(9, func(r *rand.Rand, _ int) float64 {
			return float64(float32(200+r.IntN(20)) / 10)
		})},
		{"rollup: noise, thinned", rollupID, RollupSource{edgeagent.StreamRollup, 1, maxSeq, 600}, minutes(9, func(r *rand.Rand, _ int) float64 {
			return r.NormFloat64()
		})},
		{"rollup: guesses with exceptions", rollupID, fromMinute, func() []RollupRow {
			rows := minutes(24, func(r *rand.Rand, _ int) float64 { return math.Round(90000+40*r.NormFloat64()) / 100 })
			rows[0].Min, rows[5].Sum, rows[7].Max, rows[9].First = math.Copysign(0, -1), inf, 1e300, nan
			return rows
		}()},
		{"rollup: guesses out of bounds, any order", any1ns, fromMinute, []RollupRow{
			{1, 1, 1, 5, 1, 2, 1, math.MaxFloat64},
			{9, 2, 2, 1.5, 1, 2, 1, 2},
			{1, 3, maxSeq, 2.5, 4, 1 << 52, 3, 3},
			{9, 4, 3, 0.5, nan, 2, 1, 2},
			{9, 5, 4, 0.5, 1, inf, 1, nan},
			{1, 6, 4, 7, 1, 2, math.Copysign(0, -1), 0},
		}},
	}
}

func makeVectors(t *testing.T) []vector {
	t.Helper()
	var e Encoder
	var vs []vector
	add := func(name string, b []byte, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		vs = append(vs, vector{Name: name, Block: hex.EncodeToString(b), Decoded: printed(t, b)})
	}
	for _, c := range vectorRows() {
		b, err := e.Readings(nil, c.id, c.rows)
		add(c.name, b, err)
	}
	for _, c := range vectorRollups() {
		b, err := e.Rollup(nil, c.id, c.src, c.rows)
		add(c.name, b, err)
	}
	b, err := e.Events(nil, ID{Stream: edgeagent.StreamAlarm, Epoch: 2, First: 9, Run: 3}, someEvents())
	add("events", b, err)
	b, err = e.Events(nil, ID{Stream: edgeagent.StreamEvent, Epoch: 2, First: 9, Run: 3}, []edgeagent.Event{someCapture(t)})
	add("events: a capture", b, err)
	b, err = e.Series(nil, "gw-7", 0xffee000000000001, someSeries())
	add("series", b, err)
	b, err = e.Marks(nil, someMarks())
	add("marks", b, err)
	return append(vs, refusals(t)...)
}

// refusals are blocks that every decoder must refuse.
func refusals(t *testing.T) []vector {
	good := samples(t)[KindReadings]
	change := func(name string, of []byte, sum bool, at int, x byte) vector {
		b := slices.Clone(of)
		b[at] = x
		if sum {
			fix(b)
		}
		return vector{Name: name, Block: hex.EncodeToString(b), Refuse: true}
	}
	return []vector{
		change("refuse: bit flipped in the payload", good, false, len(good)-1, good[len(good)-1]^1),
		change("refuse: bit flipped in the header", good, false, offFirst, good[offFirst]^4),
		change("refuse: version 3", good, true, offVersion, 3),
		change("refuse: kind 6", good, true, offKind, 6),
		change("refuse: flag bit 2", good, true, offFlags, 4),
		change("refuse: no magic", good, true, offMagic, 'e'),
		change("refuse: count beyond the rows", good, true, offCount, good[offCount]+1),
		change("refuse: rollup of events", samples(t)[KindRollup], true, HeaderSize, 2),
		change("refuse: rollup without readings", samples(t)[KindRollup], true, HeaderSize+11, 0),
		{Name: "refuse: cut short", Block: hex.EncodeToString(good[:len(good)-1]), Refuse: true},
	}
}

// printed is what a decoder prints of a block.
func printed(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var d Decoder
	h, err := Check(b)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{
		"kind": h.Kind.String(), "stream": "", "epoch": h.Epoch.String(), "run": h.Run.String(),
		"first": uint64(h.First), "count": h.Count, "unsynced": h.Unsynced,
	}
	if h.Stream != 0 {
		out["stream"] = h.Stream.String()
	}
	switch h.Kind {
	case KindReadings:
		rows, _, err := d.Readings(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		out["rows"] = printedRows(rows)
	case KindRollup:
		rows, src, _, err := d.Rollup(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		out["source"] = map[string]any{"stream": src.Stream.String(), "from": uint64(src.From), "to": uint64(src.To), "bucket_s": src.Bucket}
		out["rows"] = printedRollup(rows)
	default:
		out["records"] = printedRecords(t, &d, b, h.Kind)
	}
	return out
}

func printedRows(rows []Row) []any {
	out := make([]any, len(rows))
	for i, r := range rows {
		row := map[string]any{
			"series": r.Series, "time": strconv.FormatInt(r.Time, 10), "quality": r.Quality.String(),
			"bits": fmt.Sprintf("%016x", math.Float64bits(r.Value)), "value": any(r.Value),
		}
		if math.IsNaN(r.Value) || math.IsInf(r.Value, 0) {
			row["value"] = nil
		}
		out[i] = row
	}
	return out
}

// printedRollup prints values by their bits only: the vectors of readings say what
// number they are.
func printedRollup(rows []RollupRow) []any {
	out := make([]any, len(rows))
	for i, r := range rows {
		row := map[string]any{"series": r.Series, "time": strconv.FormatInt(r.Time, 10), "count": r.Count}
		for name, v := range map[string]float64{"sum": r.Sum, "min": r.Min, "max": r.Max, "first": r.First, "last": r.Last} {
			row[name] = fmt.Sprintf("%016x", math.Float64bits(v))
		}
		out[i] = row
	}
	return out
}

// printedRecords reads the CBOR maps of a block as they stand there. Integers
// beyond 53 bits print as strings.
func printedRecords(t *testing.T, d *Decoder, b []byte, k Kind) []any {
	t.Helper()
	_, r, err := d.open(b, k)
	if err != nil {
		t.Fatal(err)
	}
	var records []any
	for r.left() > 0 {
		var m map[string]any
		if !r.record(&m) {
			t.Fatal("no map")
		}
		records = append(records, printable(m))
	}
	return records
}

func printable(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			v[k] = printable(x)
		}
	case map[any]any:
		m := map[string]any{}
		for k, x := range v {
			m[k.(string)] = printable(x)
		}
		return m
	case []any:
		for i, x := range v {
			v[i] = printable(x)
		}
	case []byte:
		return hex.EncodeToString(v)
	case uint64:
		if v >= 1<<53 {
			return strconv.FormatUint(v, 10)
		}
	case int64:
		if v <= -1<<53 {
			return strconv.FormatInt(v, 10)
		}
	}
	return v
}

// TestVectors holds the encoder and the decoder against the vectors of the
// format's specification. What was written once must stay readable under version
// 2: with -update, new vectors may come but no old block may fail to decode.
// The file is the truth: the rows' generator needs not agree on every machine.
func TestVectors(t *testing.T) {
	if *update {
		b, err := json.MarshalIndent(makeVectors(t), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorsFile, append(compact(b), '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	vs := readVectors(t)
	if len(vs) < 30 {
		t.Fatalf("only %d vectors", len(vs))
	}
	for _, v := range vs {
		t.Run(v.Name, func(t *testing.T) {
			b, err := hex.DecodeString(v.Block)
			if err != nil {
				t.Fatal(err)
			}
			var d Decoder
			if err := decodeAny(&d, b); (err != nil) != v.Refuse {
				t.Fatalf("decode: %v", err)
			}
			if v.Refuse {
				return
			}
			if diff := cmp.Diff(v.Decoded, throughJSON(t, printed(t, b))); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(v.Block, hex.EncodeToString(encodeAgain(t, b))); diff != "" {
				t.Errorf("encoded again (-want +got):\n%s", diff)
			}
		})
	}
}

func readVectors(t *testing.T) []vector {
	t.Helper()
	b, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(b, &vs); err != nil {
		t.Fatal(err)
	}
	return vs
}

func throughJSON(t *testing.T, v any) (out any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// encodeAgain decodes a block and encodes what was in it.
func encodeAgain(t *testing.T, b []byte) []byte {
	t.Helper()
	var d Decoder
	var e Encoder
	h, err := Check(b)
	if err != nil {
		t.Fatal(err)
	}
	id := ID{h.Stream, h.Epoch, h.First, h.Run, h.Unsynced, h.Resolution}
	var again []byte
	switch h.Kind {
	case KindReadings:
		rows, _, _ := d.Readings(nil, b)
		again, err = e.Readings(nil, id, rows)
	case KindRollup:
		rows, src, _, _ := d.Rollup(nil, b)
		again, err = e.Rollup(nil, id, src, rows)
	case KindEvents:
		evs, _, _ := d.Events(nil, b)
		again, err = e.Events(nil, id, evs)
	case KindSeries:
		device, epoch, entries, _, _ := d.Series(b)
		again, err = e.Series(nil, device, epoch, entries)
	case KindMarks:
		m, _, _ := d.Marks(b)
		again, err = e.Marks(nil, m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// compact puts each row on a line of its own: deeper levels are folded.
func compact(b []byte) []byte {
	for _, fold := range [][2]string{{"\n     ", " "}, {"\n    }", " }"}, {"\n    ]", " ]"}} {
		b = bytes.ReplaceAll(b, []byte(fold[0]), []byte(fold[1]))
	}
	return b
}

// TestVectorsUseEveryForm keeps the vectors complete.
func TestVectorsUseEveryForm(t *testing.T) {
	var e Encoder
	seen := map[string]bool{}
	for _, v := range readVectors(t) {
		b, err := hex.DecodeString(v.Block)
		if err != nil {
			t.Fatal(err)
		}
		h, err := ParseHeader(b)
		if err != nil || v.Refuse || h.Kind != KindReadings {
			continue
		}
		seen[fmt.Sprintf("lz4 %t", h.Compressed)] = true
		var d Decoder
		rows, _, err := d.Readings(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Readings(nil, ID{h.Stream, h.Epoch, h.First, h.Run, h.Unsynced, h.Resolution}, rows); err != nil {
			t.Fatal(err)
		}
		census(t, &e, seen)
	}
	want := []string{"lz4 true", "lz4 false", "packed", "rice", "escape", "scale", "offset", "unsigned", "quality", "turn", "shared", "shifted"}
	for f := range dictionary + 1 {
		want = append(want, fmt.Sprintf("values %d", f))
	}
	for p := range level3 + 1 {
		want = append(want, fmt.Sprintf("predictor %d", p))
	}
	for _, w := range want {
		if !seen[w] {
			t.Errorf("no vector uses %s", w)
		}
	}
}

// census notes the forms of the payload that e made last, reading it as a
// decoder does.
func census(t *testing.T, e *Encoder, seen map[string]bool) {
	t.Helper()
	var d Decoder
	d.raw = append(slices.Clone(e.raw), make([]byte, padding)...)
	r := reader{b: d.raw, end: len(e.raw)}
	n := len(e.row)
	if !d.readIDs(&r, n) {
		t.Fatal("ids")
	}
	if !d.readOrder(&r, n) {
		t.Fatal("order")
	}
	for _, u := range d.bits[:n] {
		seen["turn"] = seen["turn"] || u > 0
	}
	d.time, d.bits, d.quality = make([]int64, n), make([]uint64, n), make([]edgeagent.Quality, n)
	for s := range d.ids {
		tag := d.raw[r.pos]
		seen[fmt.Sprintf("values %d", tag&tagForm)] = true
		seen["quality"] = seen["quality"] || tag&tagQuality != 0
		ref, values := d.raw[r.pos+1], r
		seen["shared"] = seen["shared"] || ref%2 == 1
		seen["shifted"] = seen["shifted"] || ref > 0 && ref%2 == 0
		values.pos++
		if ref == 0 {
			column := values
			column.pos++
			censusColumn(column, d.count[s], seen)
		}
		if !d.readTimes(&values, s) {
			t.Fatal("times")
		}
		if form := valueForm(tag & tagForm); form != decimalExcept && form != decimal32Except && form != dictionary {
			censusColumn(values, d.count[s], seen)
		}
		if !d.readSeries(&r, s) {
			t.Fatal("series")
		}
	}
}

// censusColumn notes the form of an integer column of n numbers.
func censusColumn(r reader, n int, seen map[string]bool) {
	if _, ok := r.varint(); !ok || n < 2 {
		return
	}
	form, _ := r.byte()
	p := predictor(form & formPredictor)
	seen[fmt.Sprintf("predictor %d", p)] = true
	for flag, name := range map[byte]string{formScale: "scale", formOffset: "offset", formUnsigned: "unsigned"} {
		if form&flag != 0 {
			seen[name] = true
			if flag != formUnsigned {
				r.uvarint()
			}
		}
	}
	if p == constant {
		return
	}
	if p >= curve {
		r.uvarint()
	}
	d, _ := r.byte()
	seen["packed"] = seen["packed"] || d > 0 && d <= maxWidth
	seen["rice"] = seen["rice"] || d > maxWidth
	if d > maxWidth {
		u := make([]uint64, min(n-1, groupLen))
		r.rice(u, uint(d-riceBase))
		for _, x := range u {
			seen["escape"] = seen["escape"] || x>>(d-riceBase) >= riceLimit
		}
	}
}
