// Package sealed wraps bytes so that whoever steals the card reads nothing and
// changes nothing unnoticed: AES-256 in Galois/Counter Mode, with the parts that
// are easily got wrong taken away from the caller.
//
// A box is
//
//	"EX" · version u8 (1) · 0 · length of the plaintext u32 · key id, 8 bytes · nonce, 12 bytes · ciphertext · tag, 16 bytes
//
// little endian, and [Overhead] bytes longer than what is in it. The length lets
// boxes be found in a file whose structure is lost. Whole blocks are wrapped, and
// unwrapping gives the exact bytes again: what is sent does not depend on whether
// it was encrypted at rest. Wrapping comes after compression, which could not
// shrink ciphertext.
//
// # Guarantees
//
// A nonce is 96 random bits from the operating system for each box. It is never
// derived from a number: after a crash the same sequence number is given to
// another record, and the same nonce with other content would open both.
//
// A box opens only under its key and the associated data it was sealed with. The
// associated data say where it belongs (the key in a file, the stream), so that a
// good box cannot stand in for another. It is not stored.
//
// The key id is the first 8 bytes of the SHA-256 of the key. It tells a wrong key
// ([ErrKey]) from damage ([ErrDamaged]); it is no secret and says nothing of a
// random key. It is not believed blindly: a box in which nothing but the id was
// damaged opens all the same.
//
// Secrets do not print: a [Key] shows its id whatever the verb.
//
// # Limits
//
// Lengths, times of writing and the number of boxes stay visible, and a box that
// is replaced by an older one of the same place is not noticed. A key is good for
// 2^32 boxes, after which two random nonces might be the same: 100 boxes a second
// for 16 months, 10 a second for 13 years. Memory is not protected: the key is in
// it, and swap may hold what was read.
//
// # Concurrency
//
// Nothing here starts a goroutine. A [Key] does not change and is safe for
// concurrent use.
package sealed
