package environment

import "strings"

// Expand replaces each $(NAME) in text by lookup(NAME). A name that lookup does
// not know stays as written, and $$ stands for one $, as Kubernetes documents
// for env values, commands and arguments.
func Expand(text string, lookup func(name string) (string, bool)) string {
	if !strings.Contains(text, "$") {
		return text
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 || i+1 == len(text) {
			b.WriteString(text)
			return b.String()
		}
		b.WriteString(text[:i])
		rest := text[i+1:]
		switch rest[0] {
		case '$':
			b.WriteByte('$')
			text = rest[1:]
		case '(':
			end := strings.IndexByte(rest, ')')
			if end < 0 {
				b.WriteString("$(")
				text = rest[1:]
				continue
			}
			if value, ok := lookup(rest[1:end]); ok {
				b.WriteString(value)
			} else {
				b.WriteString("$" + rest[:end+1])
			}
			text = rest[end+1:]
		default:
			b.WriteByte('$')
			b.WriteByte(rest[0])
			text = rest[1:]
		}
	}
}
