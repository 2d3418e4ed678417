#!/usr/bin/env node
// Prints the blocks of a message as JSON, one a line: see ../block-format.md.
// usage: decode-block.js HEX | FILE | - (standard input). Needs only Node 16.
'use strict'
const fs = require('fs')

const KINDS = ['', 'readings', 'events', 'rollup', 'series', 'marks']
const STREAMS = ['', 'alarm', 'event', 'telemetry', 'rollup']
const QUALITIES = ['good', 'suspect', 'stale', 'bad']
const fail = (why) => { throw new Error(why) }
const need = (ok, why) => ok || fail(why)
const s64 = (x) => BigInt.asIntN(64, x) // integers are BigInts, modulo 2^64
const unzigzag = (u) => (u >> 1n) ^ -(u & 1n)
const hex = (x, digits) => BigInt.asUintN(4 * digits, BigInt(x)).toString(16).padStart(digits, '0')

const view = new DataView(new ArrayBuffer(8)) // the same bits as another type
const bitsOf = (float) => { view.setFloat64(0, float); return view.getBigInt64(0) }
const floatOf = (bits) => { view.setBigInt64(0, bits); return view.getFloat64(0) }
const float32Of = (bits) => { view.setInt32(0, Number(bits)); return view.getFloat32(0) }

function crc32c (data) {
  let crc = -1
  for (const byte of data) {
    crc ^= byte
    for (let k = 0; k < 8; k++) crc = (crc >>> 1) ^ (0x82f63b78 & -(crc & 1))
  }
  return ~crc >>> 0
}

function unlz4 (data, size) {
  const r = new Reader(data); const out = []
  while (out.length < size) {
    const token = r.byte()
    out.push(...r.take(r.extended(token >> 4)))
    if (r.at < data.length) {
      const offset = r.byte() | r.byte() << 8
      for (let n = Math.min(r.extended(token & 15) + 4, size); n > 0; n--) out.push(out[out.length - offset])
    }
  }
  return Buffer.from(out)
}

class Reader {
  constructor (data) { this.data = data; this.at = 0 }
  take (n) {
    need(this.at + n <= this.data.length, 'cut short')
    this.at += n
    return this.data.subarray(this.at - n, this.at)
  }
  byte () { return this.take(1)[0] }
  extended (n) { // a length of LZ4
    for (let more = n === 15, b; more; more = b === 255) n += b = this.byte()
    return n
  }
  uvarint () {
    let x = 0n
    for (let shift = 0n, b = 128; b >= 128; shift += 7n) x |= BigInt((b = this.byte()) & 127) << shift
    return x < 1n << 64n ? x : fail('number out of bounds')
  }
  varint () { return unzigzag(this.uvarint()) }
  count (most) {
    const n = Number(this.uvarint())
    return n <= most ? n : fail('number out of bounds')
  }
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

function rows (r, kind, n, base, unit) {
  const ids = r.integers(r.count(n)); const columns = []
  const following = ids.map((_, s) => (s + 1) % ids.length); let last = ids.length - 1
  const order = r.numbers(n).map((turn) => {
    if (turn > 0n) following[last] = Number(turn) - 1
    last = following[last]
    return last
  })
  ids.forEach((_, s) => {
    const m = order.filter((x) => x === s).length; const tag = kind === 1 ? r.byte() : 0
    const ref = r.count(2 * s)
    const times = ref ? columns[s - (ref + 1 >> 1)].time.slice((ref + 1) % 2).slice(0, m)
      : r.integers(m).map((t) => String(s64((base + t) * unit)))
    need(times.length === m, 'times')
    columns.push({ time: times, ...(kind === 1 ? readings(r, m, tag) : rollup(r, m)) })
  })
  const done = ids.map(() => 0)
  return order.map((s) => {
    const row = { series: Number(ids[s]) }
    for (const name in columns[s]) row[name] = columns[s][name][done[s]]
    done[s]++
    return row
  })
}

function readings (r, n, tag) {
  const bits = r.values(n, tag); const quality = tag & 8 ? [] : Array(n).fill('good')
  while (quality.length < n) {
    const run = r.count(4 * n)
    need(run > 3, 'qualities')
    quality.push(...Array(run >> 2).fill(QUALITIES[run & 3]))
  }
  return { bits: bits.map((x) => hex(x, 16)), value: bits.map(floatOf), quality } // NaN prints as null
}

function rollup (r, n) {
  const count = r.integers(n).map((k) => k > 0n ? Number(k) : fail('counts'))
  const guesses = [
    () => fail('guess of the last'),
    ([last]) => [last[0], ...last],
    ([last, first]) => last.map((x, i) => x < first[i] ? x : first[i]),
    ([last, first]) => last.map((x, i) => x > first[i] ? x : first[i]),
    ([, , min, max]) => min.map((x, i) => (x + max[i]) * count[i] / 2)
  ]
  const floats = []
  const columns = guesses.map((guess) => {
    const tag = r.byte()
    const bits = r.values(n, tag, tag & 8 ? guess(floats) : null)
    floats.push(bits.map(floatOf))
    return bits.map((x) => hex(x, 16))
  })
  const [last, first, min, max, sum] = columns
  return { count, sum, min, max, first, last }
}

function cbor (r) {
  const head = r.byte(); const major = head >> 5; let n = BigInt(head & 31)
  if (n >= 24n && major < 7) n = BigInt('0x' + r.take(1 << Number(n) - 24).toString('hex'))
  if (major === 1) n = -1n - n
  if (major < 2) return Number.isSafeInteger(Number(n)) ? Number(n) : String(n)
  if (major < 4) return r.take(Number(n)).toString(major === 3 ? 'utf8' : 'hex')
  const several = (item) => Array.from({ length: Math.min(Number(n), r.data.length) }, item)
  if (major === 4) return several(() => cbor(r))
  if (major === 5) return Object.fromEntries(several(() => [cbor(r), cbor(r)]))
  return { 20: false, 21: true, 22: null }[n]
}

function block (b) {
  need(b.toString('latin1', 0, 2) === 'EB', 'not a block')
  const kind = b[3]; const flags = b.readUInt16LE(8); const count = b.readUInt32LE(12)
  need(b[2] === 2 && kind > 0 && kind < 6 && flags < 4, 'of a later version')
  const raw = b.readUInt32LE(36); const end = 64 + b.readUInt32LE(40)
  need(b.length >= end && crc32c(Buffer.concat([b.subarray(0, 4), b.subarray(8, end)])) === b.readUInt32LE(4), 'damaged')
  const payload = b.subarray(64, end)
  const r = new Reader(flags & 1 ? unlz4(payload, raw) : payload)
  const out = {
    kind: KINDS[kind], stream: STREAMS[b[10]], epoch: hex(b.readBigUInt64LE(16), 16), first: Number(b.readBigUInt64LE(24)),
    run: hex(b.readUInt32LE(32), 8), count, unsynced: (flags & 2) !== 0
  }
  if (kind === 3) {
    const [stream, from, length, bucket] = [0, 0, 0, 0].map(() => Number(r.uvarint()))
    need(stream === 3 || stream === 4, 'source')
    out.source = { stream: STREAMS[stream], from, to: from + length, bucket_s: bucket }
  }
  const unit = 10n ** BigInt(b[11])
  if (kind === 1 || kind === 3) out.rows = rows(r, kind, count, b.readBigInt64LE(48) / unit, unit)
  else for (out.records = []; r.at < raw;) out.records.push(cbor(r))
  need(r.at === raw && r.data.length === raw, 'length')
  return [out, b.subarray(end)]
}

try {
  const arg = process.argv[2] ?? fail('usage: decode-block.js HEX | FILE | -')
  let data = arg === '-' ? fs.readFileSync(0) : fs.existsSync(arg) ? fs.readFileSync(arg) : Buffer.from(arg, 'hex')
  do {
    const [out, rest] = block(data)
    console.log(JSON.stringify(out))
    data = rest
  } while (data.length > 0)
} catch (e) {
  console.error('decode-block: ' + e.message)
  process.exit(1)
}
