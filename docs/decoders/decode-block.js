#!/usr/bin/env node
// Prints the blocks of a message as JSON, one a line: see ../block-format.md.
// usage: decode-block.js HEX | FILE | - (standard input). Needs Node 16 and standard.js.
'use strict'
const fs = require('fs')
const { Cursor, bitsOf, cbor, crc32c, fail, float32Of, floatOf, need, unlz4, unzigzag } = require('./standard.js')

const STREAMS = ['', 'alarm', 'event', 'telemetry', 'rollup']
const s64 = (x) => BigInt.asIntN(64, x) // integers are BigInts, modulo 2^64
const hex = (x, digits) => BigInt.asUintN(4 * digits, BigInt(x)).toString(16).padStart(digits, '0')

class Columns extends Cursor {
  numbers (n) {
    const out = []
    while (out.length < n) {
      const d = this.byte(); let used = 0
      need(d <= 105, 'group')
      let x = BigInt('0x0' + Buffer.from(this.data.subarray(this.at, this.at + 2560)).reverse().toString('hex'))
      for (let left = Math.min(256, n - out.length); left > 0; left--) {
        let zeros = 0; let skip = 0; let width = d
        if (d > 64) { // Rice code
          while (zeros < 16 && !(x >> BigInt(zeros) & 1n)) zeros++
          ;[skip, width] = zeros < 16 ? [zeros + 1, d - 65] : [16, 64]
        }
        out.push(BigInt(zeros % 16) << BigInt(width) | BigInt.asUintN(width, x >> BigInt(skip)))
        x >>= BigInt(skip + width); used += skip + width
      }
      this.take(Math.ceil(used / 8))
    }
    return out
  }
  integers (n) {
    const first = this.varint(); const form = n > 1 ? this.byte() : 0
    const predictor = form & 7; const flags = form >> 3
    need(flags < 8 && predictor < 7 && (predictor || !flags), 'column')
    const scale = flags & 1 ? this.uvarint() : 1n
    const slope = predictor > 1 ? this.varint() : 0n
    const offset = flags & 2 ? this.varint() : 0n
    let y = 0n; let step = slope; let level = slope; let line = 2048n; const out = [first]
    for (const u of predictor ? this.numbers(n - 1) : Array(n - 1).fill(0n)) {
      line = s64(line + slope)
      const guess = [0n, y, y + step, line >> 12n, s64(level + 2048n) >> 12n][Math.min(predictor, 4)]
      const before = y
      y = s64(guess + offset + (flags & 4 ? u : unzigzag(u)))
      step = y - before
      level = s64(level + (s64((y << 12n) - level) >> BigInt(Math.max(predictor - 3, 0))) + slope)
      out.push(s64(first + y * scale))
    }
    return out
  }
  values (n, tag, guess) { // bits of float64s
    const form = tag & 7; const power = Number('1e' + (tag >> 4))
    const m = [1, 3, 7].includes(form) ? this.count(n) : 0 // exceptions or a dictionary
    const places = m && form < 7 ? this.integers(m) : []
    const words = m ? this.integers(m) : []
    const d = this.integers(n).map((x, i) => {
      const g = guess ? Math.floor(guess[i] * power + 0.5) : 0
      return s64(x + (Math.abs(g) < 2 ** 53 ? BigInt(g) : 0n))
    })
    const ulps = form === 4 ? this.integers(n) : []
    const bits = d.map((x, i) => {
      if (form < 5) {
        const float = Number(x) / power
        return bitsOf(form === 2 || form === 3 ? Math.fround(float) : float) + (ulps[i] ?? 0n)
      }
      if (form === 5) return bitsOf(float32Of(x >= 0n ? x : x ^ 0x7fffffffn))
      const word = form === 7 ? words[x] : x
      return word >= 0n ? word : word ^ 0x7fffffffffffffffn
    })
    places.forEach((at, i) => { bits[at] = words[i] })
    return bits.map(s64)
  }
}

function rows (r, kind, n, start, unit) {
  const ids = r.integers(r.count(n)).map(Number); const columns = []
  const following = ids.map((_, s) => (s + 1) % ids.length); let last = ids.length - 1
  const order = r.numbers(n).map((turn) => {
    if (turn > 0n) following[last] = Number(turn) - 1
    return (last = following[last])
  })
  for (const s of ids.keys()) {
    const m = order.filter((x) => x === s).length; const tag = kind === 1 ? r.byte() : 0
    const ref = r.count(2 * s)
    const time = ref ? columns[s - (ref + 1 >> 1)].time.slice((ref + 1) % 2).slice(0, m)
      : r.integers(m).map((t) => String(s64(start + t * unit)))
    need(time.length === m, 'times')
    columns.push({ time, ...(kind === 1 ? readings(r, m, tag) : rollup(r, m)) })
  }
  const next = (s) => Object.entries(columns[s]).map(([name, column]) => [name, column.shift()])
  return order.map((s) => ({ series: ids[s], ...Object.fromEntries(next(s)) }))
}

function readings (r, n, tag) {
  const bits = r.values(n, tag); const quality = tag & 8 ? [] : Array(n).fill('good')
  while (quality.length < n) {
    const run = r.count(4 * n)
    need(run > 3, 'qualities')
    quality.push(...Array(run >> 2).fill(['good', 'suspect', 'stale', 'bad'][run & 3]))
  }
  return { bits: bits.map((x) => hex(x, 16)), value: bits.map(floatOf), quality } // NaN prints as null
}

function rollup (r, n) {
  const count = r.integers(n).map((k) => k > 0n ? Number(k) : fail('counts'))
  const column = (guess) => {
    const tag = r.byte()
    return r.values(n, tag, tag & 8 ? guess ?? fail('guess of the last') : null)
  }
  const last = column(); const l = last.map(floatOf)
  const first = column([l[0], ...l]); const f = first.map(floatOf)
  const min = column(l.map((x, i) => x < f[i] ? x : f[i]))
  const max = column(l.map((x, i) => x > f[i] ? x : f[i]))
  const sum = column(min.map((x, i) => (floatOf(x) + floatOf(max[i])) * count[i] / 2))
  const [a, b, c, d, e] = [sum, min, max, first, last].map((bits) => bits.map((x) => hex(x, 16)))
  return { count, sum: a, min: b, max: c, first: d, last: e }
}

function block (b) {
  need(b.toString('latin1', 0, 2) === 'EB', 'not a block')
  const kind = b[3]; const flags = b.readUInt16LE(8); const count = b.readUInt32LE(12)
  need(b[2] === 2 && kind > 0 && kind < 6 && flags < 4, 'of a later version')
  const raw = b.readUInt32LE(36); const end = 64 + b.readUInt32LE(40)
  need(b.length >= end && crc32c(Buffer.concat([b.subarray(0, 4), b.subarray(8, end)])) === b.readUInt32LE(4), 'damaged')
  const r = new Columns(flags & 1 ? unlz4(b.subarray(64, end), raw) : b.subarray(64, end))
  const out = {
    kind: ['readings', 'events', 'rollup', 'series', 'marks'][kind - 1], stream: STREAMS[b[10]], first: Number(b.readBigUInt64LE(24)),
    epoch: hex(b.readBigUInt64LE(16), 16), run: hex(b.readUInt32LE(32), 8), count, unsynced: (flags & 2) !== 0
  }
  if (kind === 3) {
    const [stream, from, length, bucket] = [0, 0, 0, 0].map(() => Number(r.uvarint()))
    need(stream === 3 || stream === 4, 'source')
    out.source = { stream: STREAMS[stream], from, to: from + length, bucket_s: bucket }
  }
  if (kind === 1 || kind === 3) out.rows = rows(r, kind, count, b.readBigInt64LE(48), 10n ** BigInt(b[11]))
  else for (out.records = []; r.at < raw;) out.records.push(cbor(r))
  need(r.at === raw && r.data.length === raw, 'length')
  return [out, b.subarray(end)]
}

try {
  const arg = process.argv[2] ?? fail('usage: decode-block.js HEX | FILE | -')
  let data = arg === '-' ? fs.readFileSync(0) : fs.existsSync(arg) ? fs.readFileSync(arg) : Buffer.from(arg, 'hex')
  need(data.length > 0, 'not a block')
  for (let out; data.length > 0; console.log(JSON.stringify(out))) [out, data] = block(data)
} catch (e) {
  console.error('decode-block: ' + e.message)
  process.exit(1)
}
