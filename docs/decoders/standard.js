// What most languages have a library for: a cursor with LEB128 numbers, the bits of
// floats, CRC-32C, raw LZ4 blocks, CBOR. decode-block.js is built on it.
'use strict'

const fail = (why) => { throw new Error(why) }
const need = (ok, why) => ok || fail(why)
const unzigzag = (u) => (u >> 1n) ^ -(u & 1n)

const view = new DataView(new ArrayBuffer(8)) // the same bits as another type
const bitsOf = (float) => { view.setFloat64(0, float); return view.getBigInt64(0) }
const floatOf = (bits) => { view.setBigInt64(0, bits); return view.getFloat64(0) }
const float32Of = (bits) => { view.setInt32(0, Number(bits)); return view.getFloat32(0) }

class Cursor {
  constructor (data) { this.data = data; this.at = 0 }
  take (n) {
    need(this.at + n <= this.data.length, 'cut short')
    this.at += n
    return this.data.subarray(this.at - n, this.at)
  }
  byte () { return this.take(1)[0] }
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
}

function crc32c (data) {
  let crc = -1
  for (const byte of data) {
    crc ^= byte
    for (let k = 0; k < 8; k++) crc = (crc >>> 1) ^ (0x82f63b78 & -(crc & 1))
  }
  return ~crc >>> 0
}

function extended (r, n) { // a length of LZ4
  for (let more = n === 15, b; more; more = b === 255) n += b = r.byte()
  return n
}

function unlz4 (data, size) {
  const r = new Cursor(data); const out = []
  while (out.length < size) {
    const token = r.byte()
    out.push(...r.take(extended(r, token >> 4)))
    if (r.at < data.length) {
      const offset = r.byte() | r.byte() << 8
      for (let n = Math.min(extended(r, token & 15) + 4, size); n > 0; n--) out.push(out[out.length - offset])
    }
  }
  return Buffer.from(out)
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

module.exports = { Cursor, bitsOf, cbor, crc32c, fail, float32Of, floatOf, need, unlz4, unzigzag }
