#!/usr/bin/env node
// Print the blocks of a message as JSON, one a line: see ../block-format.md.
//
// usage: decode-block.js HEX | FILE | - (standard input)
// Needs Node 16 and no packages. Integers are BigInt, as they have 64 bits.
'use strict'
const fs = require('fs')

const KINDS = ['', 'readings', 'events', 'rollup', 'series', 'marks']
const STREAMS = ['', 'alarm', 'event', 'telemetry', 'rollup']
const QUALITIES = ['good', 'suspect', 'stale', 'bad']
const s64 = (x) => BigInt.asIntN(64, x) // all arithmetic is modulo 2^64
const unzigzag = (u) => (u >> 1n) ^ -(u & 1n)
const order = (x) => BigInt.asUintN(64, x >= 0n ? x : x ^ 0x7fffffffffffffffn)
const hex = (x, digits) => x.toString(16).padStart(digits, '0')

function need (ok, why) { if (!ok) throw new Error(why) }

const CRC = Uint32Array.from({ length: 256 }, (_, i) => {
  for (let k = 0; k < 8; k++) i = (i >>> 1) ^ (i & 1 ? 0x82f63b78 : 0)
  return i
})

function crc32c (...parts) {
  let c = 0xffffffff
  for (const part of parts) for (const b of part) c = CRC[(c ^ b) & 255] ^ (c >>> 8)
  return ~c >>> 0
}

function unlz4 (src, size) {
  const out = Buffer.alloc(size)
  let i = 0; let o = 0
  const length = (n) => {
    for (let b = 255; n >= 15 && b === 255;) { b = src[i++]; n += b }
    return n
  }
  for (;;) {
    const token = src[i++]
    const literals = length(token >> 4)
    need(i + literals <= src.length && o + literals <= size, 'lz4')
    src.copy(out, o, i, i + literals)
    i += literals; o += literals
    if (i === src.length) break
    const offset = src[i] | src[i + 1] << 8
    i += 2
    const n = length(token & 15) + 4
    need(offset > 0 && offset <= o && o + n <= size, 'lz4')
    for (let k = 0; k < n; k++, o++) out[o] = out[o - offset]
  }
  need(o === size, 'lz4')
  return out
}

// bits of a float64 from its value, and back
const view = new DataView(new ArrayBuffer(8))
function bitsOf (f) { view.setFloat64(0, f); return view.getBigUint64(0) }
function floatOf (bits) { view.setBigUint64(0, bits); return view.getFloat64(0) }

class Reader {
  constructor (b) { this.b = b; this.i = 0 }

  take (n) {
    need(this.i + n <= this.b.length, 'payload too short')
    this.i += n
    return this.b.subarray(this.i - n, this.i)
  }

  byte () { return this.take(1)[0] }

  uvarint () {
    let x = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const b = this.byte()
      x |= BigInt(b & 127) << shift
      if (b < 128) { need(x < 1n << 64n, 'varint'); return x }
    }
    throw new Error('varint')
  }

  varint () { return unzigzag(this.uvarint()) }
  count (max) { const n = this.uvarint(); need(n <= max, 'count'); return Number(n) }

  // little endian number of what is left, at most n bytes
  number (n) {
    return BigInt('0x00' + Buffer.from(this.b.subarray(this.i, this.i + n)).reverse().toString('hex'))
  }

  packed (n, width) {
    const size = Math.ceil(n * width / 8)
    const x = this.number(size)
    this.take(size)
    return Array.from({ length: n }, (_, k) => BigInt.asUintN(width, x >> BigInt(k * width)))
  }

  group (n) {
    const d = this.byte()
    if (d <= 64) return this.packed(n, d)
    need(d <= 105, 'group descriptor')
    const k = d - 65; const out = []; const x = this.number(10 * n)
    let at = 0
    for (let j = 0; j < n; j++) {
      const code = BigInt.asUintN(64, x >> BigInt(at))
      let q = 0
      while (q < 16 && !(code >> BigInt(q) & 1n)) q++
      out.push(q === 16 ? BigInt.asUintN(64, x >> BigInt(at + 16))
        : BigInt(q) << BigInt(k) | BigInt.asUintN(k, code >> BigInt(q + 1)))
      at += q === 16 ? 80 : q + 1 + k
    }
    this.take(Math.ceil(at / 8))
    return out
  }

  integers (n) {
    const first = this.varint()
    if (n === 1) return [first]
    const form = this.byte(); const predictor = form & 7
    need(form < 64 && predictor < 7 && (predictor || form === 0), 'column form')
    if (predictor === 0) return Array(n).fill(first)
    const scale = form & 8 ? this.uvarint() : 1n
    const slope = predictor >= 2 ? this.varint() : 0n
    const offset = form & 16 ? this.varint() : 0n
    let r = []
    while (r.length < n - 1) r = r.concat(this.group(Math.min(256, n - 1 - r.length)))
    if (!(form & 32)) r = r.map(unzigzag)
    let y = 0n; let step = slope; let level = slope; let line = 2048n
    const out = [first]
    for (const x of r) {
      let p
      if (predictor === 1) p = y
      else if (predictor === 2) p = y + step
      else if (predictor === 3) p = (line = s64(line + slope)) >> 12n
      else p = s64(level + 2048n) >> 12n
      const v = s64(p + x + offset)
      step = v - y
      y = v
      if (predictor > 3) level = s64(level + (s64((v << 12n) - level) >> BigInt(predictor - 3)) + slope)
      out.push(s64(first + v * scale))
    }
    return out
  }

  values (n, tag, guess) {
    const form = tag & 7; const e = tag >> 4
    need(e === 0 || form <= 4, 'tag')
    if (form === 7) {
      const m = this.count(n)
      need(m > 0, 'dictionary')
      const words = this.integers(m)
      return this.integers(n).map((i) => { need(i >= 0n && i < m, 'dictionary'); return order(words[i]) })
    }
    const exceptions = []
    if (form === 1 || form === 3) {
      for (let k = this.count(n), at = 0; k > 0; k--) {
        at += this.count(n - 1)
        need(at < n, 'exception')
        exceptions.push([at, this.take(8).readBigUInt64LE()])
      }
    }
    let d = this.integers(n)
    if (guess) {
      need(form < 4, 'guess')
      d = d.map((x, i) => s64(x + rounded(guess[i] * Number('1e' + e))))
    }
    const ulps = form === 4 ? this.integers(n) : null
    const out = d.map((x, i) => BigInt.asUintN(64, value(form, e, x) + (ulps ? ulps[i] : 0n)))
    for (const [at, bits] of exceptions) out[at] = bits
    return out
  }
}

function value (form, e, x) {
  if (form === 6) return order(x)
  if (form === 5) {
    need(x === BigInt.asIntN(32, x), 'float32')
    view.setInt32(0, Number(x >= 0n ? x : x ^ 0x7fffffffn))
    const f = view.getFloat32(0)
    need(f === f, 'float32')
    return bitsOf(f)
  }
  const f = Number(x) / Number('1e' + e)
  return bitsOf(form === 2 || form === 3 ? Math.fround(f) : f)
}

function rounded (x) {
  x = Math.floor(x + 0.5)
  return Math.abs(x) < 2 ** 53 ? BigInt(x) : 0n
}

function orderOfRows (r, n) {
  const ids = []
  for (let k = r.count(n), last = 0n; k > 0; k--) ids.push(Number(last += r.varint()))
  need(ids.length > 0, 'series')
  const ns = ids.length; const succ = ids.map((_, i) => (i + 1) % ns)
  const mode = r.byte()
  need(mode < 2, 'order')
  const rows = mode === 1 ? r.packed(n, 32 - Math.clz32(ns - 1)).map(Number) : []
  for (let last = ns - 1; rows.length < n;) {
    for (let run = r.count(n - rows.length); run > 0; run--) rows.push(last = succ[last])
    if (rows.length < n) rows.push(last = succ[last] = r.count(ns - 1))
  }
  const columns = ids.map((id) => ({ id, count: 0, at: 0 }))
  for (const s of rows) { need(s < ns, 'order'); columns[s].count++ }
  return [rows, columns]
}

function times (r, columns, s, unit, base) {
  const ref = r.count(2 * s); const c = columns[s]
  need(c.count > 0, 'series')
  c.times = ref ? columns[s - (ref + 1 >> 1)].times.slice((ref + 1) % 2).slice(0, c.count)
    : r.integers(c.count).map((t) => s64((base + t) * unit))
  need(c.times.length === c.count, 'times')
}

function rollups (r, n, unit, base) {
  const [rows, columns] = orderOfRows(r, n)
  columns.forEach((c, s) => {
    times(r, columns, s, unit, base)
    c.counts = r.integers(c.count).map((k) => { need(k > 0n && k < 1n << 53n, 'count'); return Number(k) })
    const f = [] // last, first, min, max, sum
    const guesses = [null, (_, i) => f[0][Math.max(i - 1, 0)],
      (x, i) => x < f[1][i] ? x : f[1][i], (x, i) => x > f[1][i] ? x : f[1][i],
      (_, i) => (f[2][i] + f[3][i]) * c.counts[i] / 2]
    c.values = guesses.map((guess, k) => {
      const tag = r.byte()
      need(!(tag & 8) || guess, 'guess')
      const bits = r.values(c.count, tag, tag & 8 ? f[0].map(guess) : null)
      f.push(bits.map(floatOf))
      return bits
    })
  })
  return rows.map((s) => {
    const c = columns[s]; const i = c.at++
    const [last, first, min, max, sum] = c.values.map((bits) => hex(bits[i], 16))
    return { series: c.id, time: String(c.times[i]), count: c.counts[i], sum, min, max, first, last }
  })
}

function readings (r, n, unit, base) {
  const [rows, columns] = orderOfRows(r, n)
  columns.forEach((c, s) => {
    const tag = r.byte()
    times(r, columns, s, unit, base)
    c.values = r.values(c.count, tag)
    c.quality = tag & 8 ? [] : Array(c.count).fill(0)
    while (c.quality.length < c.count) {
      const run = r.uvarint()
      need(run >> 2n > 0n && run >> 2n <= c.count - c.quality.length, 'quality')
      c.quality.push(...Array(Number(run >> 2n)).fill(Number(run & 3n)))
    }
  })
  return rows.map((s) => {
    const c = columns[s]; const i = c.at++
    const f = floatOf(c.values[i]) // NaN and the infinities print as null
    return { series: c.id, time: String(c.times[i]), bits: hex(c.values[i], 16), value: f, quality: QUALITIES[c.quality[i]] }
  })
}

function cbor (r) {
  const head = r.byte(); const major = head >> 5; let n = BigInt(head & 31)
  need(n < 28n, 'cbor')
  if (n >= 24n && major !== 7) n = BigInt('0x' + r.take(1 << Number(n) - 24).toString('hex'))
  if (major < 2) {
    if (major === 1) n = -1n - n
    return n > -(1n << 53n) && n < 1n << 53n ? Number(n) : String(n)
  }
  if (major === 2) return r.take(Number(n)).toString('hex')
  if (major === 3) return r.take(Number(n)).toString()
  need(major !== 6 && n <= r.b.length, 'cbor')
  if (major === 4) return Array.from({ length: Number(n) }, () => cbor(r))
  if (major === 5) return Object.fromEntries(Array.from({ length: Number(n) }, () => [cbor(r), cbor(r)]))
  return { 20: false, 21: true }[n] ?? null
}

function block (b) {
  need(b.length >= 64 && b.toString('latin1', 0, 2) === 'EB', 'not a block')
  const kind = b[3]; const flags = b.readUInt16LE(8); const stream = b[10]; const resolution = b[11]
  const count = b.readUInt32LE(12); const first = b.readBigUInt64LE(24)
  const raw = b.readUInt32LE(36); const stored = b.readUInt32LE(40)
  need(b[2] === 1 && kind > 0 && kind < 6 && flags < 4 && resolution < 10 && stream < 5, 'unsupported block')
  need(b.length >= 64 + stored, 'block cut short')
  const payload = b.subarray(64, 64 + stored)
  need(crc32c(b.subarray(0, 4), b.subarray(8, 64), payload) === b.readUInt32LE(4), 'checksum differs')
  need(count > 0 && count <= 65536 && raw <= 4 << 20, 'out of bounds')
  const r = new Reader(flags & 1 ? unlz4(payload, raw) : payload)
  need(r.b.length === raw, 'raw length')
  const out = { kind: KINDS[kind], stream: STREAMS[stream], epoch: hex(b.readBigUInt64LE(16), 16), first: Number(first), run: hex(b.readUInt32LE(32), 8), count, unsynced: (flags & 2) !== 0 }
  if (kind === 3) {
    const [src, start, length, bucket] = Array.from({ length: 4 }, () => r.count(2 ** 53 - 1))
    need((src === 3 || src === 4) && start > 0 && start + length < 2 ** 53 && bucket > 0 && bucket < 2 ** 32, 'source')
    out.source = { stream: STREAMS[src], from: start, to: start + length, bucket_s: bucket }
  }
  if (kind === 1 || kind === 3) {
    const unit = 10n ** BigInt(resolution); const lo = b.readBigInt64LE(48)
    need(lo % unit === 0n, 'times')
    out.rows = (kind === 1 ? readings : rollups)(r, count, unit, lo / unit)
  } else {
    for (out.records = []; r.i < raw;) out.records.push(cbor(r))
  }
  need(r.i === raw, 'bytes after the end')
  return [out, b.subarray(64 + stored)]
}

try {
  const arg = process.argv[2]
  need(process.argv.length === 3, 'usage: decode-block.js HEX | FILE | -')
  let data = arg === '-' ? fs.readFileSync(0) : fs.existsSync(arg) ? fs.readFileSync(arg) : Buffer.from(arg, 'hex')
  need(data.length > 0, 'not a block')
  while (data.length > 0) {
    const [out, rest] = block(data)
    console.log(JSON.stringify(out))
    data = rest
  }
} catch (e) {
  console.error('decode-block: ' + e.message)
  process.exit(1)
}
