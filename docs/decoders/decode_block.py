#!/usr/bin/env python3
"""Print the blocks of a message as JSON, one a line: see ../block-format.md.

usage: decode_block.py HEX | FILE | - (standard input)
Needs nothing but Python 3.8; uses the lz4 module if there is one."""
import json, math, os, struct, sys

KINDS = {1: "readings", 2: "events", 3: "rollup", 4: "series", 5: "marks"}
STREAMS = ["", "alarm", "event", "telemetry", "rollup"]
QUALITIES = ["good", "suspect", "stale", "bad"]
CONSTANT, DELTA, CURVE, LINE = range(4)  # predictors; 4 to 6 are levels

CRC = []
for i in range(256):
    for _ in range(8):
        i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
    CRC.append(i)

def crc32c(data):
    c = 0xFFFFFFFF
    for b in data:
        c = CRC[(c ^ b) & 255] ^ c >> 8
    return c ^ 0xFFFFFFFF

def need(ok, why):
    if not ok:
        raise ValueError(why)

def s64(x):  # all arithmetic is modulo 2^64
    return (x + (1 << 63)) % (1 << 64) - (1 << 63)

def unlz4(src, size):
    try:
        import lz4.block
        return lz4.block.decompress(src, uncompressed_size=size)
    except ImportError:
        pass
    out, i = bytearray(), 0
    def length(n, i):
        while n >= 15:
            n, i, b = n + src[i], i + 1, src[i]
            if b < 255:
                break
        return n, i
    while True:
        token, i = src[i], i + 1
        n, i = length(token >> 4, i)
        out += src[i:i + n]
        i += n
        if i >= len(src):
            return bytes(out)
        offset, i = src[i] | src[i + 1] << 8, i + 2
        n, i = length(token & 15, i)
        need(0 < offset <= len(out) and len(out) + n + 4 <= size, "lz4")
        for _ in range(n + 4):
            out.append(out[-offset])

class Reader:
    def __init__(self, b):
        self.b, self.i = b, 0
    def take(self, n):
        need(self.i + n <= len(self.b), "payload too short")
        self.i += n
        return self.b[self.i - n:self.i]
    def byte(self):
        return self.take(1)[0]
    def uvarint(self):
        x = shift = 0
        while True:
            b = self.byte()
            x |= (b & 127) << shift
            shift += 7
            if b < 128:
                need(x < 1 << 64, "varint")
                return x
            need(shift < 70, "varint")
    def varint(self):
        return unzigzag(self.uvarint())
    def packed(self, n, width):
        x = int.from_bytes(self.take((n * width + 7) // 8), "little")
        return [x >> k * width & (1 << width) - 1 for k in range(n)]
    def group(self, n):
        d = self.byte()
        if d <= 64:
            return self.packed(n, d)
        need(d <= 105, "group descriptor")
        k, out, at = d - 65, [], 0
        x = int.from_bytes(self.b[self.i:self.i + 10 * n], "little")
        for _ in range(n):
            zeros = x >> at & 0xFFFF
            if zeros == 0:
                out.append(x >> at + 16 & (1 << 64) - 1)
                at += 80
                continue
            q = (zeros & -zeros).bit_length() - 1
            out.append(q << k | x >> at + q + 1 & (1 << k) - 1)
            at += q + 1 + k
        self.take((at + 7) // 8)
        return out
    def integers(self, n):
        first = self.varint()
        if n == 1:
            return [first]
        form = self.byte()
        predictor = form & 7
        need(form < 64 and predictor < 7 and (predictor or form == 0), "column form")
        if predictor == CONSTANT:
            return [first] * n
        scale = self.uvarint() if form & 8 else 1
        slope = self.varint() if predictor >= CURVE else 0
        offset = self.varint() if form & 16 else 0
        r = []
        while len(r) < n - 1:
            r += self.group(min(256, n - 1 - len(r)))
        if not form & 32:
            r = [unzigzag(u) for u in r]
        y = [0]
        step, level, line = slope, slope, 2048
        for x in r:
            if predictor == DELTA:
                p = y[-1]
            elif predictor == CURVE:
                p = y[-1] + step
            elif predictor == LINE:
                line = s64(line + slope)
                p = line >> 12
            else:
                p = s64(level + 2048) >> 12
            v = s64(p + x + offset)
            step = v - y[-1]
            level = s64(level + (s64((v << 12) - level) >> max(predictor - 3, 0)) + slope)
            y.append(v)
        return [s64(first + v * scale) for v in y]
    def values(self, n, tag, guess=None):
        form, e = tag & 7, tag >> 4
        need(e == 0 or form <= 4, "tag")
        if form == 7:
            m = self.uvarint()
            need(0 < m <= n, "dictionary")
            words, ids = self.integers(m), self.integers(n)
            need(all(0 <= i < m for i in ids), "dictionary")
            return [order(words[i]) for i in ids]
        exceptions, at = {}, 0
        if form in (1, 3):
            for _ in range(self.uvarint()):
                at += self.uvarint()
                need(at < n, "exception")
                exceptions[at] = int.from_bytes(self.take(8), "little")
        d = self.integers(n)
        if guess:
            need(form < 4, "guess")
            d = [s64(x + rounded(g * 10.0 ** e)) for x, g in zip(d, guess)]
        ulps = self.integers(n) if form == 4 else [0] * n
        out = [value(form, e, x) + u & (1 << 64) - 1 for x, u in zip(d, ulps)]
        for i, bits in exceptions.items():
            out[i] = bits
        return out

def unzigzag(u):
    return u >> 1 ^ -(u & 1)

def order(x):
    return (x if x >= 0 else x ^ (1 << 63) - 1) % (1 << 64)

def bits(f):
    return struct.unpack("<Q", struct.pack("<d", f))[0]

def value(form, e, x):
    if form == 6:
        return order(x)
    if form == 5:
        need(-1 << 31 <= x < 1 << 31, "float32")
        return bits(struct.unpack("<f", struct.pack("<i", x if x >= 0 else x ^ 0x7FFFFFFF))[0])
    f = float(x) / float(10 ** e)
    return bits(struct.unpack("<f", struct.pack("<f", f))[0] if form in (2, 3) else f)

def rounded(x):
    x = math.floor(x + 0.5) if abs(x) < 1 << 54 else 0
    return x if abs(x) < 1 << 53 else 0

def order_of_rows(r, n):
    ids, last = [], 0
    for _ in range(r.uvarint()):
        last += r.varint()
        ids.append(last)
    need(0 < len(ids) <= n, "series")
    rows, succ, last = [], [*range(1, len(ids)), 0], len(ids) - 1
    mode = r.byte()
    need(mode < 2, "order")
    if mode == 1:
        rows = r.packed(n, (len(ids) - 1).bit_length())
    while len(rows) < n:
        run = r.uvarint()
        need(run <= n - len(rows), "run")
        for _ in range(run):
            last = succ[last]
            rows.append(last)
        if len(rows) < n:
            succ[last] = last = r.uvarint()
            need(last < len(ids), "order")
            rows.append(last)
    return ids, rows

def times_of(r, s, count, columns, unit, base):
    ref = r.uvarint()
    need(count and (ref + 1) // 2 <= s, "series")
    if ref:
        times = columns[s - (ref + 1) // 2][0][(ref + 1) % 2:][:count]
    else:
        times = [s64((base + t) * unit) for t in r.integers(count)]
    need(len(times) == count, "times")
    return times

def rollups(r, n, unit, base):
    ids, rows = order_of_rows(r, n)
    columns = []
    for s in range(len(ids)):
        m = rows.count(s)
        times = times_of(r, s, m, columns, unit, base)
        counts = r.integers(m)
        need(all(0 < c < 1 << 53 for c in counts), "counts")
        cols = []
        for c in range(5):  # last, first, min, max, sum
            tag, guess = r.byte(), None
            if tag & 8:
                need(c > 0, "guess")
                f = [[float_of(x) for x in col] for col in cols]
                if c == 1:
                    guess = f[0][:1] + f[0][:-1]
                elif c == 2:
                    guess = [l if l < x else x for l, x in zip(f[0], f[1])]
                elif c == 3:
                    guess = [l if l > x else x for l, x in zip(f[0], f[1])]
                else:
                    guess = [(lo + hi) * k / 2 for lo, hi, k in zip(f[2], f[3], counts)]
            cols.append(r.values(m, tag, guess))
        columns.append((times, counts, *cols))
    out, at = [], [0] * len(ids)
    for s in rows:
        t, k, *v = (c[at[s]] for c in columns[s])
        at[s] += 1
        row = {"series": ids[s], "time": str(t), "count": k}
        row.update(zip(("last", "first", "min", "max", "sum"), ("%016x" % x for x in v)))
        out.append(row)
    return out

def float_of(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]

def readings(r, n, unit, base):
    ids, rows = order_of_rows(r, n)
    columns = []
    for s in range(len(ids)):
        count, tag = rows.count(s), r.byte()
        times = times_of(r, s, count, columns, unit, base)
        vals, quality = r.values(count, tag), []
        while tag & 8 and len(quality) < count:
            run = r.uvarint()
            need(0 < run >> 2 <= count - len(quality), "quality")
            quality += [run & 3] * (run >> 2)
        columns.append((times, vals, quality or [0] * count))
    out, at = [], [0] * len(ids)
    for s in rows:
        t, v, q = (c[at[s]] for c in columns[s])
        at[s] += 1
        f = struct.unpack("<d", struct.pack("<Q", v))[0]
        out.append({"series": ids[s], "time": str(t), "bits": "%016x" % v,
                    "value": f if f - f == 0 else None, "quality": QUALITIES[q]})
    return out

def cbor(r):
    head = r.byte()
    major, n = head >> 5, head & 31
    need(n < 28, "cbor")
    if n >= 24 and major != 7:
        n = int.from_bytes(r.take(1 << n - 24), "big")
    if major < 2:
        n = n if major == 0 else -1 - n
        return n if abs(n) < 1 << 53 else str(n)
    if major < 4:
        b = r.take(n)
        return b.decode() if major == 3 else b.hex()
    if major == 4:
        return [cbor(r) for _ in range(n)]
    if major == 5:
        return {cbor(r): cbor(r) for _ in range(n)}
    need(major == 7 and 20 <= n <= 22, "cbor")
    return {20: False, 21: True, 22: None}[n]

def block(b):
    need(b[:2] == b"EB" and len(b) >= 64, "not a block")
    (version, kind, crc, flags, stream, res, count, epoch, first, run, raw, stored, max_id, lo, hi) = \
        struct.unpack_from("<BBIHBBIQQIIIIqq", b, 2)
    need(version == 1 and kind in KINDS and flags < 4 and res < 10 and stream < 5, "unsupported block")
    need(len(b) >= 64 + stored, "block cut short")
    rest, b = b[64 + stored:], b[:64 + stored]
    need(crc32c(b[:4] + b[8:]) == crc, "checksum differs")
    need(0 < count <= 65536 and raw <= 4 << 20, "out of bounds")
    r = Reader(unlz4(b[64:], raw) if flags & 1 else b[64:])
    need(len(r.b) == raw, "raw length")
    out = {"kind": KINDS[kind], "stream": STREAMS[stream], "epoch": "%016x" % epoch, "first": first,
           "run": "%08x" % run, "count": count, "unsynced": flags & 2 != 0}
    if kind == 3:
        src, start, length, bucket = (r.uvarint() for _ in range(4))
        need(src in (3, 4) and 0 < start and start + length < 1 << 53 and 0 < bucket < 1 << 32, "source")
        out["source"] = {"stream": STREAMS[src], "from": start, "to": start + length, "bucket_s": bucket}
    if kind in (1, 3):
        unit = 10 ** res
        need(lo % unit == 0, "times")
        out["rows"] = rows = (readings if kind == 1 else rollups)(r, count, unit, lo // unit)
        times, ids = [int(x["time"]) for x in rows], [x["series"] for x in rows]
        need((min(times), max(times), max(ids)) == (lo, hi, max_id), "header does not match the rows")
    else:
        out["records"] = []
        while r.i < raw:
            out["records"].append(cbor(r))
    need(r.i == raw, "bytes after the end")
    return out, rest

def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    arg = sys.argv[1]
    if arg == "-":
        data = sys.stdin.buffer.read()
    else:
        data = open(arg, "rb").read() if os.path.exists(arg) else bytes.fromhex(arg)
    need(data, "not a block")
    while data:
        out, data = block(data)
        print(json.dumps(out))

if __name__ == "__main__":
    try:
        main()
    except (ValueError, IndexError, struct.error, OverflowError) as e:
        sys.exit("decode_block: %s" % e)
