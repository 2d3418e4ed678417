package expression

import (
	"math"
	"strconv"
	"strings"
)

// Bounds of a source.
const (
	MaxLength = 4 << 10 // bytes
	MaxDepth  = 64      // levels of brackets, calls, signs, powers and branches
)

type nodeKind uint8

const (
	numberNode  nodeKind = iota // num
	boolNode                    // num is 0 or 1
	inputNode                   // slot, known to the checker only
	unaryNode                   // ops[0] is "-", "+" or "not"
	binaryNode                  // ops[0] is "+" … "or"
	compareNode                 // args[0] ops[0] args[1] ops[1] args[2] …
	inNode                      // args[0] in args[1:]
	ternaryNode                 // args[0] ? args[1] : args[2]
	elvisNode                   // args[0] ?: args[1]
	callNode                    // name(args…); slot is its place if it needs one
	textNode                    // name is what stands between the quotes
)

// node is a part of a parsed source.
type node struct {
	kind     nodeKind
	pos, end int // bytes of the source
	num      float64
	name     string // of an input or a function
	slot     int
	slotted  bool // a call whose value stands in slot
	ops      []string
	args     []*node
	typ      valueType // set by the checker
}

// binary holds the precedences of expr; a higher one binds tighter.
var binary = map[string]int{
	"or": 10, "||": 10, "and": 15, "&&": 15,
	"==": 20, "!=": 20, "<": 20, ">": 20, "<=": 20, ">=": 20, "in": 20,
	"+": 30, "-": 30, "*": 60, "/": 60, "%": 60, "**": powerPrec, "^": powerPrec,
}

const (
	notPrec   = 50
	signPrec  = 90
	powerPrec = 100
)

// spelling maps the second way to write an operator to the first.
var spelling = map[string]string{"||": "or", "&&": "and", "!": "not", "^": "**"}

func canonical(op string) string {
	if s, ok := spelling[op]; ok {
		return s
	}
	return op
}

// refused says what the parts of expr are called that this language leaves out.
var refused = map[string]string{
	"|": "pipes", "..": "ranges", "??": "defaults for nil", "?.": "optional members", ".": "members and methods",
	"[": "indexes", "{": "maps and closures", "#": "closures", ";": "sequences", "let": "variables", "=": "assignments",
	"if": "if blocks", "else": "if blocks", "::": "built-in prefixes",
	"matches": "text operators", "contains": "text operators", "startsWith": "text operators", "endsWith": "text operators",
}

// instead says what to write in place of something refused.
var instead = map[string]string{
	"..": `, write "1 <= x <= 5"`,
	".":  ", give the series a name under inputs and use that",
	"=":  `, "==" compares`,
	"if": `, write "condition ? a : b"`,
	"|":  `, "or" joins conditions`,
	"::": "",
}

// parser is a Pratt parser. After the first error it stands at the end of the
// source, so that every loop ends.
type parser struct {
	toks  []token
	i     int
	depth int
	err   *Error
}

func parse(src string) (*node, error) {
	if len(src) > MaxLength {
		return nil, errorAt(MaxLength, len(src), "the expression has %d bytes, more than %d", len(src), MaxLength)
	}
	toks, err := tokens(src)
	if err != nil {
		return nil, err
	}
	p := &parser{toks: toks}
	if p.tok().kind == tokenEnd {
		return nil, errorAt(0, 0, "the expression is empty")
	}
	n := p.expression(0)
	if p.err == nil && p.tok().kind != tokenEnd {
		p.unexpected()
	}
	if p.err != nil {
		return nil, p.err
	}
	return n, nil
}

func (p *parser) tok() token { return p.toks[p.i] }

func (p *parser) next() token {
	t := p.toks[p.i]
	if t.kind != tokenEnd {
		p.i++
	}
	return t
}

func (p *parser) fail(t token, format string, args ...any) *node {
	if p.err == nil {
		p.err = errorAt(t.pos, t.end, format, args...)
	}
	p.i = len(p.toks) - 1
	return &node{pos: t.pos, end: t.end}
}

// unexpected fails at the current token and says what it is.
func (p *parser) unexpected() *node {
	t := p.tok()
	switch {
	case p.err != nil:
		return p.fail(t, "")
	case t.kind == tokenEnd:
		return p.fail(t, "the expression ends too early")
	case t.kind == tokenText:
		return p.fail(t, "texts stand in the brackets of some functions only, as in avg(x, \"5m\")")
	case t.kind == tokenOp && refused[t.text] != "":
		return p.fail(t, "%s (%q) are not part of rule expressions%s", refused[t.text], t.text, instead[t.text])
	case t.kind == tokenName:
		return p.fail(t, "unexpected %q, want an operator%s", t.text, meantOperator(t.text))
	default:
		return p.fail(t, "unexpected %q", t.text)
	}
}

func meantOperator(name string) string {
	switch low := strings.ToLower(name); low {
	case "and", "or", "in", "not":
		return ": write it in lower case, " + strconv.Quote(low)
	}
	return ""
}

func (p *parser) expect(op string) token {
	switch t := p.tok(); {
	case t.is(op):
	case t.kind == tokenEnd:
		p.fail(t, "the expression ends too early, %q is missing", op)
	default:
		p.unexpected()
	}
	return p.next()
}

// enter counts a level of nesting; leave ends it.
func (p *parser) enter(t token) bool {
	if p.depth++; p.depth > MaxDepth {
		p.fail(t, "nested more than %d levels deep", MaxDepth)
		return false
	}
	return true
}

func (p *parser) leave() { p.depth-- }

// expression parses operators that bind at least as tightly as least.
func (p *parser) expression(least int) *node {
	left := p.primary()
	for p.err == nil {
		t := p.tok()
		negate := t.is("not")
		if negate {
			if t = p.toks[min(p.i+1, len(p.toks)-1)]; !t.is("in") {
				return p.fail(p.tok(), `unexpected "not", want an operator`)
			}
		}
		prec, ok := binary[t.text]
		if t.kind != tokenOp || !ok || prec < least {
			break
		}
		if negate {
			p.next()
		}
		left = p.infix(left, prec)
		if negate {
			left = &node{kind: unaryNode, ops: []string{"not"}, args: []*node{left}, pos: left.pos, end: left.end}
		}
	}
	if least == 0 {
		left = p.conditional(left)
	}
	return left
}

// infix parses what follows left: an operator of precedence prec and its right
// side.
func (p *parser) infix(left *node, prec int) *node {
	t := p.next()
	op := canonical(t.text)
	switch {
	case op == "in":
		return p.in(left)
	case isOrder(op):
		return p.chain(left, t, prec)
	case op == "**":
		if !p.enter(t) {
			return left
		}
		defer p.leave()
		return p.binaryNode(op, left, p.expression(prec))
	default:
		return p.binaryNode(op, left, p.expression(prec+1))
	}
}

func (p *parser) binaryNode(op string, left, right *node) *node {
	kind := binaryNode
	if op == "==" || op == "!=" {
		kind = compareNode
	}
	return &node{kind: kind, ops: []string{op}, args: []*node{left, right}, pos: left.pos, end: right.end}
}

func isOrder(op string) bool { return op == "<" || op == "<=" || op == ">" || op == ">=" }

// chain parses a < b <= c, which means a < b and b <= c.
func (p *parser) chain(left *node, op token, prec int) *node {
	n := &node{kind: compareNode, args: []*node{left}, pos: left.pos}
	for {
		right := p.expression(prec + 1)
		n.ops, n.args, n.end = append(n.ops, op.text), append(n.args, right), right.end
		if op = p.tok(); op.kind != tokenOp || !isOrder(op.text) {
			return n
		}
		p.next()
	}
}

// in parses the list after "in".
func (p *parser) in(left *node) *node {
	t := p.tok()
	n := &node{kind: inNode, args: []*node{left}, pos: left.pos}
	if !t.is("[") {
		if p.err == nil && p.i+1 < len(p.toks) && p.toks[p.i+1].is("..") {
			p.i++
			return p.unexpected()
		}
		return p.fail(t, `"in" wants a list such as [1, 2]`)
	}
	if !p.enter(t) {
		return n
	}
	defer p.leave()
	p.next()
	n.args = p.list(n.args, "]")
	n.end = p.expect("]").end
	if p.err == nil && len(n.args) == 1 {
		return p.fail(t, "the list is empty")
	}
	return n
}

// list parses expressions up to, and without, the closing bracket.
func (p *parser) list(dst []*node, closing string) []*node {
	for first := true; p.err == nil && !p.tok().is(closing); first = false {
		if !first {
			if !p.tok().is(",") {
				p.expect(closing)
				break
			}
			if p.next(); p.tok().is(closing) {
				break
			}
		}
		dst = append(dst, p.expression(0))
	}
	return dst
}

// conditional parses the branches after a condition, if there are any.
func (p *parser) conditional(cond *node) *node {
	for p.tok().is("?") {
		t := p.next()
		if !p.enter(t) {
			return cond
		}
		n := &node{kind: ternaryNode, args: []*node{cond}, pos: cond.pos}
		if p.tok().is(":") {
			n.kind = elvisNode
		} else {
			n.args = append(n.args, p.expression(0))
		}
		p.expect(":")
		last := p.expression(0)
		n.args, n.end = append(n.args, last), last.end
		p.leave()
		cond = n
	}
	return cond
}

// primary parses an operand with its signs and brackets.
func (p *parser) primary() *node {
	t := p.tok()
	switch {
	case t.is("-") || t.is("+"):
		return p.postfix(p.unary(signPrec))
	case t.is("not") || t.is("!"):
		return p.postfix(p.unary(notPrec))
	case t.is("("):
		return p.postfix(p.group())
	case t.kind == tokenNumber:
		return p.postfix(p.number())
	case t.kind == tokenName:
		return p.postfix(p.nameOrCall())
	case t.kind == tokenText:
		return p.postfix(p.text())
	case t.is("["):
		return p.fail(t, `lists are not part of rule expressions, but for the right side of "in"`)
	default:
		return p.unexpected()
	}
}

// postfix refuses what expr allows behind an operand.
func (p *parser) postfix(n *node) *node {
	if t := p.tok(); t.is("[") || t.is(".") || t.is("?.") {
		return p.unexpected()
	}
	return n
}

func (p *parser) unary(prec int) *node {
	t := p.next()
	if !p.enter(t) {
		return &node{}
	}
	defer p.leave()
	arg := p.expression(prec)
	return &node{kind: unaryNode, ops: []string{canonical(t.text)}, args: []*node{arg}, pos: t.pos, end: arg.end}
}

func (p *parser) group() *node {
	t := p.next()
	if !p.enter(t) {
		return &node{}
	}
	defer p.leave()
	n := p.expression(0)
	n.pos, n.end = t.pos, p.expect(")").end
	return n
}

func (p *parser) nameOrCall() *node {
	t := p.next()
	n := &node{kind: inputNode, name: t.text, pos: t.pos, end: t.end}
	switch {
	case p.tok().is("("):
		return p.call(n)
	case t.text == "true" || t.text == "false":
		n.kind = boolNode
		if t.text == "true" {
			n.num = 1
		}
	case t.text == "nil":
		return p.fail(t, `"nil" is not part of rule expressions, ask known(x)`)
	}
	return n
}

func (p *parser) call(n *node) *node {
	n.kind = callNode
	if why := refuseCall(n.name); why != "" {
		return p.fail(token{pos: n.pos, end: n.end}, "%s", why)
	}
	open := p.next()
	if !p.enter(open) {
		return n
	}
	defer p.leave()
	n.args = p.list(nil, ")")
	n.end = p.expect(")").end
	if n.name == "rule" && p.err == nil {
		p.ruleState(n)
	}
	return n
}

// ruleState takes the ".firing" behind rule("id").
func (p *parser) ruleState(n *node) {
	dot := p.tok()
	if !dot.is(".") {
		p.fail(token{pos: n.pos, end: n.end}, `ask for its state: rule("id").firing`)
		return
	}
	p.next()
	if t := p.next(); t.kind != tokenName || t.text != "firing" {
		p.fail(t, `a rule has no such state, want rule("id").firing`)
	} else {
		n.end = t.end
	}
}

// text takes a quoted text. There are no escapes: nothing that a text may say here
// needs one.
func (p *parser) text() *node {
	t := p.next()
	n := &node{kind: textNode, pos: t.pos, end: t.end}
	switch body := t.text[1:]; {
	case body == "" || body[len(body)-1] != t.text[0]:
		return p.fail(t, "the text is not closed with %c", t.text[0])
	case strings.ContainsAny(body, "\\\n"):
		return p.fail(t, "texts have no escapes and no line breaks")
	default:
		n.name = body[:len(body)-1]
	}
	return n
}

// number reads a literal as expr does: underscores are ignored, a leading 0 means
// nothing, integers have to fit.
func (p *parser) number() *node {
	t := p.next()
	text := strings.ToLower(strings.ReplaceAll(t.text, "_", ""))
	n := &node{kind: numberNode, pos: t.pos, end: t.end}
	base, isFloat := 0, false
	switch {
	case strings.HasPrefix(text, "0x"):
	case strings.ContainsAny(text, ".e"):
		isFloat = true
	case strings.HasPrefix(text, "0b"), strings.HasPrefix(text, "0o"):
	default:
		base = 10
	}
	if isFloat {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(v, 0) {
			return p.fail(t, "bad number %q", t.text)
		}
		n.num = v
		return n
	}
	v, err := strconv.ParseInt(text, base, 64)
	switch {
	case err != nil && !isRange(err):
		return p.fail(t, "bad number %q", t.text)
	case err != nil || v > 1<<53:
		return p.fail(t, "integer %s is too large to be exact: write it with a decimal point or below 2^53", t.text)
	}
	n.num = float64(v)
	return n
}
