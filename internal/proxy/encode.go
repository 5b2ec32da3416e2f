package proxy

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Registers: the first of 16 bytes, which is also the first four of 4 bytes.
const (
	register  = unix.NFT_REG_1
	register0 = unix.NFT_REG32_00
	register1 = unix.NFT_REG32_00 + 1
	register2 = unix.NFT_REG32_00 + 2
	register3 = unix.NFT_REG32_00 + 3
)

// ruleIdentityType marks the part of a rule's user data that holds the hash of
// its text. The nft command knows no such type and passes over it.
const ruleIdentityType = 100

// elementsPerMessage keeps a list of elements below the 64 KiB of one attribute.
const elementsPerMessage = 200

// encoder turns a Transaction into the messages of one nftables batch, as
// linux/netfilter/nf_tables.h defines them.
type encoder struct {
	messages []netlink.Message
	lastSet  uint32 // identifies sets without a name inside the batch
	err      error
}

func encode(t Transaction) ([]netlink.Message, error) {
	e := &encoder{}
	for _, op := range t {
		e.op(op)
	}
	return e.messages, e.err
}

func (e *encoder) op(op Op) {
	switch op.Kind {
	case ReplaceTable:
		e.message(unix.NFT_MSG_NEWTABLE, netlink.Create, text(unix.NFTA_TABLE_NAME, TableName))
		e.message(unix.NFT_MSG_DELTABLE, 0, text(unix.NFTA_TABLE_NAME, TableName))
		e.message(unix.NFT_MSG_NEWTABLE, netlink.Create, text(unix.NFTA_TABLE_NAME, TableName))
	case AddSet:
		e.addSet(op.Set)
	case AddChain:
		e.addChain(op.Chain)
	case AddRules:
		for _, rule := range op.Chain.Rules {
			e.addRule(op.Chain.Name, rule)
		}
	case FlushChain:
		e.message(unix.NFT_MSG_DELRULE, 0, text(unix.NFTA_RULE_TABLE, TableName), text(unix.NFTA_RULE_CHAIN, op.Chain.Name))
	case AddElements:
		e.elements(unix.NFT_MSG_NEWSETELEM, op.Set.Name, 0, encodeElements(op.Elements))
	case DeleteElements:
		e.elements(unix.NFT_MSG_DELSETELEM, op.Set.Name, 0, encodeElements(op.Elements))
	case DeleteChain:
		e.message(unix.NFT_MSG_DELCHAIN, 0, text(unix.NFTA_CHAIN_TABLE, TableName), text(unix.NFTA_CHAIN_NAME, op.Chain.Name))
	case DeleteSet:
		e.message(unix.NFT_MSG_DELSET, 0, text(unix.NFTA_SET_TABLE, TableName), text(unix.NFTA_SET_NAME, op.Set.Name))
	}
}

func (e *encoder) message(kind int, flags netlink.HeaderFlags, attributes ...netlink.Attribute) {
	e.messages = append(e.messages, netlink.Message{
		Header: netlink.Header{Type: messageType(kind), Flags: netlink.Request | flags},
		Data:   append(nfgenmsg(unix.NFPROTO_IPV4, 0), marshal(attributes)...),
	})
}

func messageType(kind int) netlink.HeaderType {
	return netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind)
}

// nfgenmsg is the header that follows netlink's own in every netfilter message.
func nfgenmsg(family byte, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
}

// marshal encodes attributes. They are all made here, so they are never too long.
func marshal(attributes []netlink.Attribute) []byte {
	b, err := netlink.MarshalAttributes(attributes)
	if err != nil {
		panic(fmt.Sprintf("netlink attributes of our own making: %v", err))
	}
	return b
}

func text(kind uint16, s string) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: append([]byte(s), 0)}
}

func number(kind uint16, n uint32) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: binaryutil.BigEndian.PutUint32(n)}
}

func nested(kind uint16, inner ...netlink.Attribute) netlink.Attribute {
	return netlink.Attribute{Type: kind | unix.NLA_F_NESTED, Data: marshal(inner)}
}

func raw(kind uint16, b []byte) netlink.Attribute { return netlink.Attribute{Type: kind, Data: b} }

var hookNumbers = map[string]uint32{
	"prerouting": unix.NF_INET_PRE_ROUTING, "input": unix.NF_INET_LOCAL_IN, "forward": unix.NF_INET_FORWARD,
	"output": unix.NF_INET_LOCAL_OUT, "postrouting": unix.NF_INET_POST_ROUTING,
}

func (e *encoder) addChain(c Chain) {
	attributes := []netlink.Attribute{text(unix.NFTA_CHAIN_TABLE, TableName), text(unix.NFTA_CHAIN_NAME, c.Name)}
	if c.Hook != nil {
		attributes = append(attributes,
			nested(unix.NFTA_CHAIN_HOOK,
				number(unix.NFTA_HOOK_HOOKNUM, hookNumbers[c.Hook.Name]),
				number(unix.NFTA_HOOK_PRIORITY, uint32(c.Hook.Priority))),
			number(unix.NFTA_CHAIN_POLICY, uint32(nftables.ChainPolicyAccept)),
			text(unix.NFTA_CHAIN_TYPE, c.Hook.Type))
	}
	e.message(unix.NFT_MSG_NEWCHAIN, netlink.Create|netlink.Excl, attributes...)
}

var fieldTypes = map[Type]nftables.SetDatatype{
	TypeAddress: nftables.TypeIPAddr, TypeProtocol: nftables.TypeInetProto, TypePort: nftables.TypeInetService,
}

func (e *encoder) addSet(s Set) {
	fields := make([]nftables.SetDatatype, len(s.Key))
	for i, f := range s.Key {
		fields[i] = fieldTypes[f]
	}
	key := nftables.MustConcatSetType(fields...)
	flags, attributes := uint32(0), []netlink.Attribute(nil)
	if s.Verdict {
		flags |= unix.NFT_SET_MAP
		attributes = append(attributes, number(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT), number(unix.NFTA_SET_DATA_LEN, 0))
	}
	if s.Dynamic {
		flags |= unix.NFT_SET_EVAL
		attributes = append(attributes, nested(unix.NFTA_SET_DESC, number(unix.NFTA_SET_DESC_SIZE, dynamicSetSize)))
	}
	if s.Timeout > 0 {
		flags |= unix.NFT_SET_TIMEOUT
		attributes = append(attributes, raw(unix.NFTA_SET_TIMEOUT, binaryutil.BigEndian.PutUint64(uint64(s.Timeout.Milliseconds()))))
	}
	e.newSet(s.Name, flags, key, attributes...)
}

// newSet adds a set and returns the number it has inside the batch.
func (e *encoder) newSet(name string, flags uint32, key nftables.SetDatatype, more ...netlink.Attribute) uint32 {
	e.lastSet++
	e.message(unix.NFT_MSG_NEWSET, netlink.Create|netlink.Excl, append([]netlink.Attribute{
		text(unix.NFTA_SET_TABLE, TableName),
		text(unix.NFTA_SET_NAME, name),
		number(unix.NFTA_SET_FLAGS, flags),
		number(unix.NFTA_SET_KEY_TYPE, key.GetNFTMagic()),
		number(unix.NFTA_SET_KEY_LEN, key.Bytes),
		number(unix.NFTA_SET_ID, e.lastSet),
	}, more...)...)
	return e.lastSet
}

// elements adds or deletes encoded elements of a set, in as many messages as they need.
func (e *encoder) elements(kind int, set string, id uint32, items []netlink.Attribute) {
	flags := netlink.HeaderFlags(0)
	if kind == unix.NFT_MSG_NEWSETELEM {
		flags = netlink.Create | netlink.Excl
	}
	for len(items) > 0 {
		n := min(len(items), elementsPerMessage)
		e.message(kind, flags,
			text(unix.NFTA_SET_ELEM_LIST_TABLE, TableName),
			text(unix.NFTA_SET_ELEM_LIST_SET, set),
			number(unix.NFTA_SET_ELEM_LIST_SET_ID, id),
			nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, items[:n]...))
		items = items[n:]
	}
}

func encodeElements(elements []Element) []netlink.Attribute {
	items := make([]netlink.Attribute, len(elements))
	for i, e := range elements {
		attributes := []netlink.Attribute{nested(unix.NFTA_SET_ELEM_KEY, raw(unix.NFTA_DATA_VALUE, e.Key.encode()))}
		if e.Goto != "" {
			attributes = append(attributes, verdictData(e.Goto))
		}
		items[i] = nested(unix.NFTA_LIST_ELEM, attributes...)
	}
	return items
}

func verdictData(chain string) netlink.Attribute {
	goTo := int32(unix.NFT_GOTO)
	return nested(unix.NFTA_SET_ELEM_DATA, nested(unix.NFTA_DATA_VERDICT,
		number(unix.NFTA_VERDICT_CODE, uint32(goTo)), text(unix.NFTA_VERDICT_CHAIN, chain)))
}

// encode returns the key as the kernel keeps it: each field in network byte
// order, filled up to four bytes.
func (k Key) encode() []byte {
	var b []byte
	if k.Address.IsValid() {
		b = append(b, k.Address.AsSlice()...)
	}
	if k.Second.IsValid() {
		b = append(b, k.Second.AsSlice()...)
	}
	if k.Protocol != 0 {
		b = append(b, byte(k.Protocol), 0, 0, 0)
	}
	if k.Port != 0 {
		b = append(binary.BigEndian.AppendUint16(b, k.Port), 0, 0)
	}
	if k.SecondPort != 0 {
		b = append(binary.BigEndian.AppendUint16(b, k.SecondPort), 0, 0)
	}
	return b
}

// identity returns what is kept in the kernel to tell a rule from others.
func (r Rule) identity() uint64 {
	if len(r) == 1 {
		if back, ok := r[0].(readBack); ok {
			return back.identity
		}
	}
	hash := fnv.New64a()
	hash.Write([]byte(r.String()))
	return hash.Sum64()
}

func (e *encoder) addRule(chain string, rule Rule) {
	var expressions []netlink.Attribute
	for _, term := range rule {
		for _, x := range e.term(term) {
			data, err := marshalExpression(x)
			if err != nil {
				e.err = fmt.Errorf("rule %q: %w", rule, err)
				return
			}
			expressions = append(expressions, netlink.Attribute{Type: unix.NFTA_LIST_ELEM | unix.NLA_F_NESTED, Data: data})
		}
	}
	identity := binary.BigEndian.AppendUint64([]byte{ruleIdentityType, 8}, rule.identity())
	e.message(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append,
		text(unix.NFTA_RULE_TABLE, TableName),
		text(unix.NFTA_RULE_CHAIN, chain),
		nested(unix.NFTA_RULE_EXPRESSIONS, expressions...),
		raw(unix.NFTA_RULE_USERDATA, identity))
}

func marshalExpression(x expr.Any) ([]byte, error) {
	if field, ok := x.(tupleField); ok {
		return field.marshal(), nil
	}
	return expr.Marshal(unix.NFPROTO_IPV4, x)
}

// oneOfMap adds a map without a name from 0, 1, … to what the items say, and
// returns the expressions that look a random one of them up.
func (e *encoder) oneOfMap(items []netlink.Attribute, target uint32, dataType ...netlink.Attribute) []expr.Any {
	const name = "__map%d" // the kernel puts a number in
	for i, data := range items {
		// A random number is in host byte order in its register.
		key := nested(unix.NFTA_SET_ELEM_KEY, raw(unix.NFTA_DATA_VALUE, binary.NativeEndian.AppendUint32(nil, uint32(i))))
		items[i] = nested(unix.NFTA_LIST_ELEM, key, data)
	}
	flags := uint32(unix.NFT_SET_ANONYMOUS | unix.NFT_SET_CONSTANT | unix.NFT_SET_MAP)
	hostOrder := append([]byte{0, 4}, binary.NativeEndian.AppendUint32(nil, 1)...) // so that nft prints the keys rightly
	id := e.newSet(name, flags, nftables.TypeInteger, append(dataType,
		nested(unix.NFTA_SET_DESC, number(unix.NFTA_SET_DESC_SIZE, uint32(len(items)))),
		raw(unix.NFTA_SET_USERDATA, hostOrder))...)
	e.elements(unix.NFT_MSG_NEWSETELEM, name, id, items)
	return []expr.Any{
		&expr.Numgen{Register: register, Modulus: uint32(len(items)), Type: unix.NFT_NG_RANDOM},
		&expr.Lookup{SourceRegister: register, DestRegister: target, IsDestRegSet: true, SetID: id, SetName: name},
	}
}

func (e *encoder) toOneOf(endpoints []netip.AddrPort) []expr.Any {
	nat := &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: register, RegProtoMin: register1}
	if len(endpoints) == 1 {
		to := endpoints[0]
		return []expr.Any{
			&expr.Immediate{Register: register, Data: to.Addr().AsSlice()},
			&expr.Immediate{Register: register1, Data: binary.BigEndian.AppendUint16(nil, to.Port())},
			nat,
		}
	}
	items := make([]netlink.Attribute, len(endpoints))
	for i, to := range endpoints {
		value := append(binary.BigEndian.AppendUint16(to.Addr().AsSlice(), to.Port()), 0, 0)
		items[i] = nested(unix.NFTA_SET_ELEM_DATA, raw(unix.NFTA_DATA_VALUE, value))
	}
	target := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	return append(e.oneOfMap(items, register,
		number(unix.NFTA_SET_DATA_TYPE, target.GetNFTMagic()), number(unix.NFTA_SET_DATA_LEN, target.Bytes)), nat)
}

func (e *encoder) goToOneOf(chains []string) []expr.Any {
	items := make([]netlink.Attribute, len(chains))
	for i, chain := range chains {
		items[i] = verdictData(chain)
	}
	return e.oneOfMap(items, unix.NFT_REG_VERDICT,
		number(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT), number(unix.NFTA_SET_DATA_LEN, 0))
}
