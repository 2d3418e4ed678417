#!/usr/bin/env python3
"""Prints the blocks of a message as JSON, one a line: see ../block-format.md.
usage: decode_block.py HEX | FILE | - (standard input). Needs Python 3.8 and standard.py."""
import json, math, os, struct, sys
from standard import Cursor, cbor, crc32c, need, unlz4, unzigzag

KINDS = ["", "readings", "events", "rollup", "series", "marks"]
STREAMS = ["", "alarm", "event", "telemetry", "rollup"]
QUALITIES = ["good", "suspect", "stale", "bad"]

def s64(x):  # integers are modulo 2^64
    return (x + 2**63) % 2**64 - 2**63

def recast(have, want, xs):  # the same bits as other types
    return struct.unpack(f"<{len(xs)}{want}", struct.pack(f"<{len(xs)}{have}", *xs))

class Columns(Cursor):
    def numbers(self, n):
        out = []
        while len(out) < n:
            d, used, x = self.byte(), 0, int.from_bytes(self.data[self.at:self.at + 2560], "little")
            need(d <= 105, "group")
            for _ in range(min(256, n - len(out))):
                zeros, skip, width = 0, 0, d
                if d > 64:  # Rice code
                    while zeros < 16 and not x >> zeros & 1:
                        zeros += 1
                    skip, width = (zeros + 1, d - 65) if zeros < 16 else (16, 64)
                out.append(zeros % 16 << width | x >> skip & (1 << width) - 1)
                x, used = x >> skip + width, used + skip + width
            self.take((used + 7) // 8)
        return out
    def integers(self, n):
        first, form = self.varint(), self.byte() if n > 1 else 0
        predictor, flags = form & 7, form >> 3
        need(flags < 8 and predictor < 7 and (predictor or not flags), "column")
        scale = self.uvarint() if flags & 1 else 1
        slope = self.varint() if predictor > 1 else 0
        offset = self.varint() if flags & 2 else 0
        y, step, level, line, out = 0, slope, slope, 2048, [first]
        for u in self.numbers(n - 1) if predictor else [0] * (n - 1):
            line = s64(line + slope)
            guess = [0, y, y + step, line >> 12, s64(level + 2048) >> 12][min(predictor, 4)]
            before, y = y, s64(guess + offset + (u if flags & 4 else unzigzag(u)))
            step = y - before
            level = s64(level + (s64((y << 12) - level) >> max(predictor - 3, 0)) + slope)
            out.append(s64(first + y * scale))
        return out
    def values(self, n, tag, guess=()):  # bits of float64s
        form, power, words, places = tag & 7, 10.0 ** (tag >> 4), [], []
        if form in (1, 3, 7):  # exceptions or a dictionary
            m = self.uvarint(n)
            places = self.integers(m) if form < 7 else []
            words = self.integers(m)
        d = self.integers(n)
        for i, g in enumerate(guess):
            g = math.floor(g * power + 0.5) if abs(g * power) < 2**53 else 0
            d[i] = s64(d[i] + (g if abs(g) < 2**53 else 0))
        if form < 5:
            floats = [x / power for x in d]
            floats = recast("f", "f", floats) if form in (2, 3) else floats
            d = list(recast("d", "q", floats))
            d = [x + u for x, u in zip(d, self.integers(n))] if form == 4 else d
        elif form == 5:
            d = recast("d", "q", recast("i", "f", [x if x >= 0 else x ^ 2**31 - 1 for x in d]))
        else:
            d = [words[x] for x in d] if form == 7 else d
            d = [x if x >= 0 else x ^ 2**63 - 1 for x in d]
        for at, bits in zip(places, words):
            d[at] = bits
        return [x % 2**64 for x in d]

def rows(r, kind, n, base, unit):
    ids, order = r.integers(r.uvarint(n)), []
    following, last = [*range(1, len(ids)), 0], len(ids) - 1
    for turn in r.numbers(n):
        following[last] = last = turn - 1 if turn else following[last]
        order.append(last)
    columns = []
    for s in range(len(ids)):
        m, tag = order.count(s), r.byte() if kind == 1 else 0
        ref = r.uvarint(2 * s)
        if ref:
            times = columns[s - (ref + 1) // 2][0][(ref + 1) % 2:][:m]
        else:
            times = [str(s64((base + t) * unit)) for t in r.integers(m)]
        need(len(times) == m, "times")
        columns.append([times, *(readings(r, m, tag) if kind == 1 else rollup(r, m))])
    names = ["time", "bits", "value", "quality"] if kind == 1 else ["time", "count", "last", "first", "min", "max", "sum"]
    left = [zip(*c) for c in columns]
    return [{"series": ids[s], **dict(zip(names, next(left[s])))} for s in order]

def readings(r, n, tag):
    bits, qualities = r.values(n, tag), [] if tag & 8 else ["good"] * n
    while len(qualities) < n:
        run = r.uvarint(4 * n)
        need(run > 3, "qualities")
        qualities += [QUALITIES[run & 3]] * (run >> 2)
    return ["%016x" % b for b in bits], [v if math.isfinite(v) else None for v in recast("Q", "d", bits)], qualities

def rollup(r, n):
    counts = r.integers(n)
    need(min(counts) > 0, "counts")
    columns = []
    for guess in [
        lambda: (),
        lambda last: last[:1] + last[:-1],
        lambda last, first: [b if b < a else a for b, a in zip(last, first)],
        lambda last, first, low: [b if b > a else a for b, a in zip(last, first)],
        lambda last, first, low, high: [(a + b) * n / 2 for a, b, n in zip(low, high, counts)],
    ]:
        tag = r.byte()
        columns.append(recast("Q", "d", r.values(n, tag, guess(*columns) if tag & 8 else ())))
    return counts, *(["%016x" % b for b in recast("d", "Q", c)] for c in columns)

def block(b):
    need(b[:2] == b"EB", "not a block")
    version, kind, crc, flags, stream, resolution, count, epoch, first, run, raw, stored, top, start, end = \
        struct.unpack_from("<BBIHBBIQQIIIIqq", b, 2)
    need(version == 2 and 0 < kind < 6 and flags < 4, "of a later version")
    need(len(b) >= 64 + stored and crc == crc32c(b[:4] + b[8:64 + stored]), "damaged")
    payload = b[64:64 + stored]
    r = Columns(unlz4(payload, raw) if flags & 1 else payload)
    out = {"kind": KINDS[kind], "stream": STREAMS[stream], "epoch": "%016x" % epoch, "first": first,
           "run": "%08x" % run, "count": count, "unsynced": flags & 2 != 0}
    if kind == 3:
        source = [r.uvarint() for _ in range(4)]
        need(source[0] in (3, 4), "source")
        out["source"] = {"stream": STREAMS[source[0]], "from": source[1], "to": source[1] + source[2], "bucket_s": source[3]}
    if kind in (1, 3):
        out["rows"] = rows(r, kind, count, start // 10**resolution, 10**resolution)
    else:
        out["records"] = []
        while r.at < raw:
            out["records"].append(cbor(r))
    need(r.at == len(r.data) == raw, "length")
    return out, b[64 + stored:]

def main(arg):
    data = sys.stdin.buffer.read() if arg == "-" else open(arg, "rb").read() if os.path.exists(arg) else bytes.fromhex(arg)
    need(data, "not a block")
    while data:
        out, data = block(data)
        print(json.dumps(out))

try:
    main(*sys.argv[1:])
except (TypeError, ValueError, IndexError, KeyError, struct.error, OverflowError) as e:
    sys.exit(f"decode_block: {e}")
