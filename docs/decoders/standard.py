"""What most languages have a library for: a cursor with LEB128 numbers, CRC-32C, raw
LZ4 blocks, CBOR. decode_block.py is built on it."""

def need(ok, why):
    if not ok:
        raise ValueError(why)

def unzigzag(u):
    return u >> 1 ^ -(u & 1)

class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0
    def take(self, n):
        need(self.at + n <= len(self.data), "cut short")
        self.at += n
        return self.data[self.at - n:self.at]
    def byte(self):
        return self.take(1)[0]
    def uvarint(self, most=2**64 - 1):
        x, shift, b = 0, 0, 128
        while b >= 128:
            b = self.byte()
            x, shift = x | (b & 127) << shift, shift + 7
        need(x <= most, "number out of bounds")
        return x
    def varint(self):
        return unzigzag(self.uvarint())

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF

def extended(r, n):  # a length of LZ4
    more = n == 15
    while more:
        more = r.byte()
        n, more = n + more, more == 255
    return n

def unlz4(data, size):
    r, out = Cursor(data), bytearray()
    while len(out) < size:
        literals, match = divmod(r.byte(), 16)
        out += r.take(extended(r, literals))
        if r.at < len(data):
            offset = int.from_bytes(r.take(2), "little")
            for _ in range(min(extended(r, match) + 4, size)):
                out.append(out[-offset])
    return bytes(out)

def cbor(r):
    head = r.byte()
    major, n = head >> 5, head & 31
    n = n if n < 24 or major == 7 else int.from_bytes(r.take(1 << n - 24), "big")
    if major < 2:
        n = n if major == 0 else -1 - n
        return n if abs(n) < 2**53 else str(n)
    if major < 4:
        return r.take(n).decode() if major == 3 else r.take(n).hex()
    if major == 4:
        return [cbor(r) for _ in range(n)]
    if major == 5:
        return {cbor(r): cbor(r) for _ in range(n)}
    return {20: False, 21: True, 22: None}[n]
