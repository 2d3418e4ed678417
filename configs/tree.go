package configs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// This file is the only one that knows the YAML library. It turns a source into a
// tree of our own, with every limit checked and every trap of YAML refused.

type nodeKind uint8

const (
	nullNode nodeKind = iota
	scalarNode
	mappingNode
	sequenceNode
	refusedNode // reported already: nobody looks at it again
)

// describe names a kind as a person would.
func (k nodeKind) describe() string {
	return [...]string{"nothing", "a single value", "a mapping", "a list", "something else"}[k]
}

// scalarStyle is how a scalar is written; it decides where a byte of its value
// stands in the source.
type scalarStyle uint8

const (
	plain scalarStyle = iota
	singleQuoted
	doubleQuoted
	literal
	elsewhere // folded, or reached through an alias: no byte has a place of its own
)

// node is one value of a file.
type node struct {
	kind    nodeKind
	style   scalarStyle
	pos     pos
	text    string  // of a scalar, quotes and escapes resolved
	entries []entry // of a mapping, in file order, no key twice
	items   []*node // of a sequence
	partial bool    // a mapping of which a key was refused
	size    int     // nodes in it, aliases written out
	height  int     // levels below and with it
}

// entry is one key of a mapping.
type entry struct {
	key   string
	at    pos
	value *node
}

// get returns the value of a key, or nil.
func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	for _, e := range n.entries {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

// parseTree parses a source. A file that is not YAML gives one problem and no
// tree; anything refused inside a YAML file gives as many problems as there are,
// and a tree of the rest. The tree of an empty file is nil.
func parseTree(src *source) (root *node, problems []*Problem) {
	// The parser is a library under development: a panic in it must not take an
	// agent down that is being sent a new configuration.
	defer func() {
		if r := recover(); r != nil {
			root, problems = nil, []*Problem{src.problem(pos{}, fmt.Sprintf("the YAML parser gave up: %v", r), "")}
		}
	}()
	tokens := lexer.Tokenize(src.text)
	if p := checkTokens(src, tokens); p != nil {
		return nil, []*Problem{p}
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, []*Problem{syntaxProblem(src, err)}
	}
	b := &builder{src: src, anchors: map[string]*node{}}
	body := b.onlyDocument(file)
	if body != nil {
		root = b.build(body, 1)
	}
	return root, b.problems
}

// checkTokens bounds what the parser would recurse or loop over.
func checkTokens(src *source, tokens token.Tokens) *Problem {
	count, flow, nested, line := 0, 0, 0, 0
	for _, tk := range tokens {
		if tk.Type == token.CommentType {
			continue
		}
		count++
		if tk.Position.Line != line {
			line, nested = tk.Position.Line, 0
		}
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow = max(0, flow-1)
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType, token.AliasType:
			nested++
		}
		switch {
		case count > maxTokens:
			return src.problem(tokenPos(tk), "the file has too many values", "split it, or move rules into files of their own")
		case flow > maxDepth || flow == 0 && nested > maxDepth:
			return src.problem(tokenPos(tk), fmt.Sprintf("nested more than %d levels deep", maxDepth), "")
		}
	}
	return nil
}

func tokenPos(tk *token.Token) pos {
	if tk == nil || tk.Position == nil {
		return pos{}
	}
	return pos{tk.Position.Line, tk.Position.Column}
}

// syntaxProblem turns the library's error into ours.
func syntaxProblem(src *source, err error) *Problem {
	at, message := pos{}, err.Error()
	if e, ok := err.(interface {
		GetToken() *token.Token
		GetMessage() string
	}); ok {
		at, message = tokenPos(e.GetToken()), e.GetMessage()
	}
	// An unexpected token sometimes bears the place behind the last line.
	if at.line > len(src.lines) {
		at = pos{len(src.lines), 1}
	}
	message = strings.ReplaceAll(message, "\t", `\t`)
	return src.problem(at, "not valid YAML: "+message, syntaxHint(message, src.line(at.line)))
}

// syntaxHint knows the mistakes that people make most often.
func syntaxHint(message, line string) string {
	_, value, _ := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	says := func(part string) bool { return strings.Contains(message, part) }
	switch {
	case says(`'\t'`), strings.HasPrefix(strings.TrimLeft(line, " "), "\t"):
		return "indent with spaces, not with tabs"
	case strings.HasPrefix(value, "{{"):
		return "put quotes around a value that begins with {{"
	case says("reserved character"), strings.HasPrefix(value, "%"):
		return "put quotes around the value"
	case says("could not find end character"):
		return "close the quotes"
	case says("block sequence entries"):
		return `begin the list on a line of its own: "- " and the first item`
	case says("non-map value"):
		return `a mapping cannot hold "- " items beside its keys`
	case says("mapping value is not allowed") && strings.Contains(value, ": "):
		return `put quotes around a value that holds ": "`
	case says("not allowed in this context"):
		return "keys of one mapping start in the same column"
	}
	return ""
}

// builder makes our tree of the library's.
type builder struct {
	src      *source
	anchors  map[string]*node
	problems []*Problem
	nodes    int

	lineNumber int // of line, which saves startOf from taking it apart for each value
	line       []rune
}

func (b *builder) refuse(at pos, message, hint string) {
	if len(b.problems) <= 2*maxProblems {
		b.problems = append(b.problems, b.src.problem(at, message, hint))
	}
}

// onlyDocument returns the body of the one document of a file, nil if it is
// empty.
func (b *builder) onlyDocument(file *ast.File) ast.Node {
	var body ast.Node
	for i, doc := range file.Docs {
		if _, ok := doc.Body.(*ast.DirectiveNode); ok {
			b.refuse(tokenPos(doc.Body.GetToken()), "directives are not supported", "remove the line")
			continue
		}
		if i > 0 && doc.Start != nil && (body != nil || file.Docs[i-1].Start != nil) {
			b.refuse(tokenPos(doc.Start), "the file holds a second document", "keep one document in a file")
			break
		}
		body = doc.Body
	}
	if b.problems != nil {
		return nil
	}
	return body
}

// build converts one value at the given depth.
func (b *builder) build(n ast.Node, depth int) *node {
	b.nodes++
	at := tokenPos(n.GetToken())
	if depth > maxDepth {
		b.refuse(at, fmt.Sprintf("nested more than %d levels deep", maxDepth), "")
		return refused(at)
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return b.mapping(n, depth)
	case *ast.SequenceNode:
		return b.sequence(n, depth)
	case *ast.AnchorNode:
		return b.anchor(n, depth)
	case *ast.AliasNode:
		return b.alias(n, depth)
	case *ast.NullNode:
		return &node{kind: nullNode, pos: at, text: n.Token.Value, size: 1, height: 1}
	case *ast.LiteralNode:
		style := literal
		if strings.HasPrefix(n.Start.Value, ">") {
			style = elsewhere
		}
		return &node{kind: scalarNode, style: style, pos: at, text: n.Value.Value, size: 1, height: 1}
	case *ast.TagNode:
		b.refuse(at, "tags such as "+quote(n.Start.Value)+" are not supported", "remove it; put quotes around a value that is text")
		return refused(at)
	case ast.ScalarNode:
		return b.scalar(n.GetToken())
	}
	b.refuse(at, fmt.Sprintf("%s is not supported here", strings.ToLower(n.Type().YAMLName())), "")
	return refused(at)
}

func refused(at pos) *node { return &node{kind: refusedNode, pos: at, size: 1, height: 1} }

func (b *builder) scalar(tk *token.Token) *node {
	style, at := plain, tokenPos(tk)
	switch tk.Type {
	case token.SingleQuoteType:
		style = singleQuoted
	case token.DoubleQuoteType:
		style = doubleQuoted
	default:
		at = b.startOf(at, tk.Value)
	}
	return &node{kind: scalarNode, style: style, pos: at, text: tk.Value, size: 1, height: 1}
}

// maxShift bounds how far the parser's place of a plain scalar can be wrong before
// it is left as it is.
const maxShift = 200

// startOf corrects the place of a plain scalar: the parser takes the spaces at the
// end of the line for part of what stands before it.
func (b *builder) startOf(at pos, text string) pos {
	if at.line != b.lineNumber {
		b.lineNumber, b.line = at.line, []rune(b.src.line(at.line))
	}
	first, _, _ := strings.Cut(text, " ")
	word := []rune(first)
	for col := min(at.col, len(b.line)); col >= max(1, at.col-maxShift); col-- {
		if rest := b.line[col-1:]; len(rest) >= len(word) && slices.Equal(rest[:len(word)], word) {
			return pos{at.line, col}
		}
	}
	return at
}

func (b *builder) mapping(n *ast.MappingNode, depth int) *node {
	out := &node{kind: mappingNode, pos: tokenPos(n.Start), size: 1, height: 1}
	seen := make(map[string]pos, len(n.Values))
	for _, v := range n.Values {
		key, at, ok := b.key(v.Key)
		if len(out.entries) == 0 && !n.IsFlowStyle {
			out.pos = at // the library puts a block mapping at its first colon
		}
		value := b.build(v.Value, depth+1)
		if !ok {
			out.partial = true
			continue
		}
		if value.kind == nullNode && value.text == "null" && v.Value.GetToken().Type == token.ImplicitNullType {
			value.pos = at
		}
		if first, twice := seen[key]; twice {
			b.refuse(at, "key "+quote(key)+" is set twice", fmt.Sprintf("it is first set on line %d", first.line))
			continue
		}
		seen[key] = at
		out.entries = append(out.entries, entry{key, at, value})
		out.add(value)
	}
	return out
}

// add accounts for a child.
func (n *node) add(child *node) {
	n.size += child.size
	n.height = max(n.height, child.height+1)
}

// key returns the text and the place of a mapping's key.
func (b *builder) key(k ast.MapKeyNode) (text string, at pos, ok bool) {
	at = tokenPos(k.GetToken())
	switch k := k.(type) {
	case *ast.MergeKeyNode:
		b.refuse(at, `merge keys ("<<") are not supported`, "write the keys out")
	case *ast.StringNode:
		return k.Value, at, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		return k.GetToken().Value, at, true
	default:
		b.refuse(at, "a key must be a plain word", "write it as key: value")
	}
	return "", at, false
}

func (b *builder) sequence(n *ast.SequenceNode, depth int) *node {
	out := &node{kind: sequenceNode, pos: tokenPos(n.Start), size: 1, height: 1}
	for _, v := range n.Values {
		item := b.build(v, depth+1)
		out.items = append(out.items, item)
		out.add(item)
	}
	return out
}

// anchor registers a value under its name once it is complete, so that no value
// can hold itself.
func (b *builder) anchor(n *ast.AnchorNode, depth int) *node {
	if n.Value == nil || n.Name == nil {
		b.refuse(tokenPos(n.Start), "an anchor needs a name and a value", "")
		return refused(tokenPos(n.Start))
	}
	value := b.build(n.Value, depth)
	b.anchors[n.Name.GetToken().Value] = value
	return value
}

// alias stands for the value of an anchor before it. It counts as if the value
// were written out, which bounds how far aliases of aliases can grow.
func (b *builder) alias(n *ast.AliasNode, depth int) *node {
	at := tokenPos(n.Start)
	if n.Value == nil {
		return refused(at)
	}
	name := n.Value.GetToken().Value
	target, ok := b.anchors[name]
	switch {
	case !ok:
		b.refuse(at, fmt.Sprintf("alias %s names no anchor above it", quote("*"+name)), "")
		return refused(at)
	case target.size > maxAliasSize || b.nodes+target.size > maxNodes:
		b.refuse(at, fmt.Sprintf("alias %s makes the file too large", quote("*"+name)), "write the values out")
		return refused(at)
	case depth+target.height-1 > maxDepth:
		b.refuse(at, fmt.Sprintf("alias %s nests more than %d levels deep", quote("*"+name), maxDepth), "")
		return refused(at)
	}
	b.nodes += target.size
	twin := *target
	twin.pos, twin.style = at, elsewhere
	return &twin
}
