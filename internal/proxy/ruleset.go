package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// TableName is the name of the one nftables table (family ip) that the proxy
// owns in its network namespace. Nobody else may write to it.
const TableName = "windlass"

// Ruleset is the whole desired content of the table: what Compile returns and
// what Table.Set applies. It prints as a script that `nft -f` accepts.
type Ruleset struct {
	// Parts are sorted by name. The first, whose name is empty, holds what does
	// not depend on Services. A Part is never changed once it is in a Ruleset,
	// so two Rulesets that share a Part agree on it without looking inside.
	Parts []*Part
}

// Part is what one Service, or the node itself, has in a Ruleset.
type Part struct {
	Name     string // namespace/name of the Service; empty for the node's part
	Sets     []Set
	Chains   []Chain
	Elements []Element
}

// Set is a named nftables set or map.
type Set struct {
	Name    string
	Key     []Type
	Verdict bool          // a map from the key to a chain to go to
	Dynamic bool          // filled by the kernel from packets, not by Elements
	Timeout time.Duration // of a Dynamic set: above zero, how long an element stays
}

// Type is one field of a Set's key, by its name in nft.
type Type string

// The field types that keys are made of.
const (
	TypeAddress  Type = "ipv4_addr"
	TypeProtocol Type = "inet_proto"
	TypePort     Type = "inet_service"
)

// Element is one entry of a Set that is not Dynamic. Parts may share elements
// of a set, never of a map.
type Element struct {
	Set  string
	Key  Key
	Goto string // the chain that a map's entry goes to; empty in a set
}

// Key is the key of an Element. The fields that its Set does not have are zero.
type Key struct {
	Address    netip.Addr
	Second     netip.Addr
	Protocol   Protocol
	Port       uint16
	SecondPort uint16
}

// String returns the key as nft writes it: its fields with " . " between them.
func (k Key) String() string {
	var fields []string
	if k.Address.IsValid() {
		fields = append(fields, k.Address.String())
	}
	if k.Second.IsValid() {
		fields = append(fields, k.Second.String())
	}
	if k.Protocol != 0 {
		fields = append(fields, k.Protocol.String())
	}
	if k.Port != 0 {
		fields = append(fields, fmt.Sprint(k.Port))
	}
	if k.SecondPort != 0 {
		fields = append(fields, fmt.Sprint(k.SecondPort))
	}
	return strings.Join(fields, " . ")
}

// compare orders keys by address, protocol and port.
func (k Key) compare(o Key) int {
	return cmp.Or(k.Address.Compare(o.Address), k.Second.Compare(o.Second),
		cmp.Compare(k.Protocol, o.Protocol), cmp.Compare(k.Port, o.Port), cmp.Compare(k.SecondPort, o.SecondPort))
}

// Protocol is a transport protocol by its IP protocol number.
type Protocol uint8

// The protocols that a Service may have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String returns the protocol's name as nft writes it.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return fmt.Sprint(uint8(p))
}

// Chain is a list of rules, evaluated by the kernel itself when it has a Hook
// and from other chains when it has none.
type Chain struct {
	Name  string
	Hook  *Hook
	Rules []Rule
}

// Hook says where in a packet's way a base chain is evaluated. The policy of
// every base chain is accept.
type Hook struct {
	Type     string // filter or nat
	Name     string // prerouting, input, forward, output or postrouting
	Priority int32  // lower comes first; conntrack is at -200
}

// Rule is a list of terms, evaluated from left to right until a match fails or
// a verdict is given.
type Rule []Term

// Term is a match or an action of a Rule; its String is its nft syntax and
// says all there is about it.
type Term interface{ String() string }

// String returns the rule in nft syntax.
func (r Rule) String() string {
	terms := make([]string, len(r))
	for i, term := range r {
		terms[i] = term.String()
	}
	return strings.Join(terms, " ")
}

// String returns the Ruleset as one nft script that adds the whole table.
func (r Ruleset) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table ip %s {\n", TableName)
	elements := map[string][]Element{}
	seen := map[Element]bool{}
	for _, part := range r.Parts {
		for _, e := range part.Elements {
			if !seen[e] {
				seen[e] = true
				elements[e.Set] = append(elements[e.Set], e)
			}
		}
	}
	for _, part := range r.Parts {
		for _, set := range part.Sets {
			set.print(&b, elements[set.Name])
		}
	}
	for _, part := range r.Parts {
		for _, chain := range part.Chains {
			chain.print(&b)
		}
	}
	b.WriteString("}\n")
	return b.String()
}

func (s Set) print(b *strings.Builder, elements []Element) {
	fmt.Fprintf(b, "\t%s {\n\t\t%s\n", s.header(), s.definition())
	slices.SortFunc(elements, func(x, y Element) int { return x.Key.compare(y.Key) })
	for i, e := range elements {
		switch i {
		case 0:
			fmt.Fprintf(b, "\t\telements = {\n")
		}
		fmt.Fprintf(b, "\t\t\t%s,\n", e)
		if i == len(elements)-1 {
			fmt.Fprintf(b, "\t\t}\n")
		}
	}
	b.WriteString("\t}\n")
}

func (s Set) header() string {
	if s.Verdict {
		return "map " + s.Name
	}
	return "set " + s.Name
}

func (s Set) definition() string {
	fields := make([]string, len(s.Key))
	for i, f := range s.Key {
		fields[i] = string(f)
	}
	definition := "type " + strings.Join(fields, " . ")
	if s.Verdict {
		definition += " : verdict"
	}
	if s.Dynamic {
		definition += fmt.Sprintf("; size %d; flags dynamic", dynamicSetSize)
	}
	if s.Timeout > 0 {
		definition += fmt.Sprintf(",timeout; timeout %ds", int(s.Timeout.Seconds()))
	}
	return definition + ";"
}

// String returns the element as nft writes it inside a set.
func (e Element) String() string {
	if e.Goto == "" {
		return e.Key.String()
	}
	return fmt.Sprintf("%s : goto %s", e.Key, e.Goto)
}

func (c Chain) print(b *strings.Builder) {
	fmt.Fprintf(b, "\tchain %s {\n", c.Name)
	if c.Hook != nil {
		fmt.Fprintf(b, "\t\t%s\n", c.Hook)
	}
	for _, rule := range c.Rules {
		fmt.Fprintf(b, "\t\t%s\n", rule)
	}
	b.WriteString("\t}\n")
}

// String returns the hook as nft writes it in a chain; empty for no hook.
func (h *Hook) String() string {
	if h == nil {
		return ""
	}
	return fmt.Sprintf("type %s hook %s priority %d; policy accept;", h.Type, h.Name, h.Priority)
}
