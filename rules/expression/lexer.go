package expression

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenNumber
	tokenName
	tokenOp   // operators, brackets and words such as "and"
	tokenText // a quoted text, which the parser refuses
)

type token struct {
	kind     tokenKind
	text     string
	pos, end int
}

func (t token) is(op string) bool { return t.kind == tokenOp && t.text == op }

// words are the names that are operators.
var words = map[string]bool{
	"and": true, "or": true, "not": true, "in": true, "let": true, "if": true, "else": true,
	"matches": true, "contains": true, "startsWith": true, "endsWith": true,
}

// operators, longest first where one begins another.
var operators = []string{
	"**", "&&", "||", "==", "!=", "<=", ">=", "..", "??", "?.", "::",
	"+", "-", "*", "/", "%", "^", "<", ">", "!", "?", ":", "(", ")", "[", "]", ",",
	"|", ".", "=", "{", "}", "#", ";",
}

// lexer splits a source into tokens.
type lexer struct {
	src string
	pos int
}

// tokens returns all tokens of src; the last one is tokenEnd.
func tokens(src string) ([]token, error) {
	l := lexer{src: src}
	var out []token
	for {
		t, err := l.next()
		if err != nil {
			return nil, err
		}
		out = append(out, t)
		if t.kind == tokenEnd {
			return out, nil
		}
	}
}

func (l *lexer) next() (token, error) {
	if err := l.skipBlanks(); err != nil {
		return token{}, err
	}
	start := l.pos
	if start == len(l.src) {
		return token{kind: tokenEnd, pos: start, end: start}, nil
	}
	r, size := utf8.DecodeRuneInString(l.src[start:])
	switch {
	case isDigit(l.src[start]) || l.src[start] == '.' && start+1 < len(l.src) && isDigit(l.src[start+1]):
		return l.number()
	case isNameRune(r):
		return l.name(), nil
	case r == '"' || r == '\'' || r == '`':
		return l.text(byte(r)), nil
	}
	for _, op := range operators {
		if strings.HasPrefix(l.src[start:], op) {
			l.pos += len(op)
			return token{tokenOp, op, start, l.pos}, nil
		}
	}
	return token{}, errorAt(start, start+size, "unexpected character %q", l.src[start:start+size])
}

// skipBlanks moves over white space and comments.
func (l *lexer) skipBlanks() error {
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case unicode.IsSpace(r):
			l.pos += size
		case strings.HasPrefix(rest, "//"):
			if i := strings.IndexByte(rest, '\n'); i >= 0 {
				l.pos += i
			} else {
				l.pos = len(l.src)
			}
		case strings.HasPrefix(rest, "/*"):
			i := strings.Index(rest[2:], "*/")
			if i < 0 {
				return errorAt(l.pos, l.pos+2, "the comment is not closed with */")
			}
			l.pos += 2 + i + 2
		default:
			return nil
		}
	}
	return nil
}

// number takes a number in any of expr's notations; what the digits say is the
// parser's business.
func (l *lexer) number() (token, error) {
	start := l.pos
	digits := "0123456789_"
	if l.accept("0") {
		switch {
		case l.accept("xX"):
			digits = "0123456789abcdefABCDEF_"
		case l.accept("oO"):
			digits = "01234567_"
		case l.accept("bB"):
			digits = "01_"
		}
	}
	l.acceptRun(digits)
	if l.accept(".") {
		if l.pos < len(l.src) && l.src[l.pos] == '.' { // 1..2 is a range
			l.pos--
			return token{tokenNumber, l.src[start:l.pos], start, l.pos}, nil
		}
		l.acceptRun(digits)
	}
	if l.accept("eE") {
		l.accept("+-")
		l.acceptRun(digits)
	}
	if r, _ := utf8.DecodeRuneInString(l.src[l.pos:]); l.pos < len(l.src) && isNameRune(r) {
		l.name()
		return token{}, errorAt(start, l.pos, "bad number %q", l.src[start:l.pos])
	}
	return token{tokenNumber, l.src[start:l.pos], start, l.pos}, nil
}

func (l *lexer) accept(set string) bool {
	if l.pos < len(l.src) && strings.IndexByte(set, l.src[l.pos]) >= 0 {
		l.pos++
		return true
	}
	return false
}

func (l *lexer) acceptRun(set string) {
	for l.accept(set) {
	}
}

func (l *lexer) name() token {
	start := l.pos
	for l.pos < len(l.src) {
		r, size := utf8.DecodeRuneInString(l.src[l.pos:])
		if !isNameRune(r) {
			break
		}
		l.pos += size
	}
	word := l.src[start:l.pos]
	kind := tokenName
	if words[word] {
		kind = tokenOp
	}
	return token{kind, word, start, l.pos}
}

// text takes a quoted text up to its closing quote, or to the end.
func (l *lexer) text(quote byte) token {
	start := l.pos
	l.pos++
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		l.pos++
		if c == '\\' && quote != '`' && l.pos < len(l.src) {
			l.pos++
		} else if c == quote {
			break
		}
	}
	return token{tokenText, l.src[start:l.pos], start, l.pos}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isNameRune(r rune) bool {
	return r == '_' || r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r))
}

// maxName bounds the name of an input, in bytes.
const maxName = 64

// ValidName reports whether an input may be called name: letters, digits and
// underscores, no digit first, at most 64 bytes, and not a word of the language.
func ValidName(name string) bool {
	switch {
	case name == "" || len(name) > maxName || words[name] || isDigit(name[0]):
		return false
	case name == "true" || name == "false" || name == "nil":
		return false
	}
	for _, r := range name {
		if !isNameRune(r) {
			return false
		}
	}
	return true
}
