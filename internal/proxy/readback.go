package proxy

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The functions below read what the kernel says of the table. They take
// whatever it sends: what is not ours ends up as contents that equal none.

// A dump may answer for all tables: what is of another is passed over.

func (c Contents) readChain(a *netlink.AttributeDecoder) error {
	var table, name string
	var hook Hook
	for a.Next() {
		switch a.Type() {
		case unix.NFTA_CHAIN_TABLE:
			table = a.String()
		case unix.NFTA_CHAIN_NAME:
			name = a.String()
		case unix.NFTA_CHAIN_TYPE:
			hook.Type = a.String()
		case unix.NFTA_CHAIN_HOOK:
			a.Nested(hook.read)
		}
	}
	switch {
	case table != TableName:
	case hook.Name == "":
		c.Chains[name] = ChainContents{}
	default:
		c.Chains[name] = ChainContents{Hook: hook.String()}
	}
	return a.Err()
}

func (h *Hook) read(a *netlink.AttributeDecoder) error {
	for a.Next() {
		switch a.Type() {
		case unix.NFTA_HOOK_HOOKNUM:
			number := a.Uint32()
			h.Name = fmt.Sprint("hook ", number)
			for name, n := range hookNumbers {
				if n == number {
					h.Name = name
				}
			}
		case unix.NFTA_HOOK_PRIORITY:
			h.Priority = int32(a.Uint32())
		}
	}
	return a.Err()
}

func (c Contents) readRule(a *netlink.AttributeDecoder) error {
	var table, chain string
	var identity uint64
	for a.Next() {
		switch a.Type() {
		case unix.NFTA_RULE_TABLE:
			table = a.String()
		case unix.NFTA_RULE_CHAIN:
			chain = a.String()
		case unix.NFTA_RULE_USERDATA:
			identity = ruleIdentity(a.Bytes())
		}
	}
	if table == TableName {
		contents := c.Chains[chain]
		contents.Rules = append(contents.Rules, identity)
		c.Chains[chain] = contents
	}
	return a.Err()
}

// ruleIdentity finds the identity in a rule's user data, a list of type,
// length and value; 0 when there is none, as in a rule that others added.
func ruleIdentity(data []byte) uint64 {
	for len(data) >= 2 && len(data) >= 2+int(data[1]) {
		kind, value := data[0], data[2:2+int(data[1])]
		if kind == ruleIdentityType && len(value) == 8 {
			return binary.BigEndian.Uint64(value)
		}
		data = data[2+len(value):]
	}
	return 0
}

func (c Contents) readSet(a *netlink.AttributeDecoder) error {
	var table, name string
	var flags uint32
	for a.Next() {
		switch a.Type() {
		case unix.NFTA_SET_TABLE:
			table = a.String()
		case unix.NFTA_SET_NAME:
			name = a.String()
		case unix.NFTA_SET_FLAGS:
			flags = a.Uint32()
		}
	}
	if table == TableName && flags&unix.NFT_SET_ANONYMOUS == 0 {
		c.Sets[name] = map[Key]string{}
	}
	return a.Err()
}

// readElements calls each for every element of a set in a message.
func readElements(a *netlink.AttributeDecoder, set Set, each func(elementContents)) error {
	for a.Next() {
		if a.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		a.Nested(func(list *netlink.AttributeDecoder) error {
			for list.Next() {
				list.Nested(func(item *netlink.AttributeDecoder) error {
					var found elementContents
					if err := found.read(item, set); err != nil {
						return err
					}
					each(found)
					return nil
				})
			}
			return list.Err()
		})
	}
	return a.Err()
}

// elementContents is what can be read back of an element.
type elementContents struct {
	key     Key
	chain   string // where a map's entry goes to
	packets uint64 // that its counter has seen
}

func (e *elementContents) read(a *netlink.AttributeDecoder, set Set) error {
	var err error
	for a.Next() {
		switch a.Type() {
		case unix.NFTA_SET_ELEM_KEY:
			inside(a, unix.NFTA_DATA_VALUE, func(value *netlink.AttributeDecoder) error {
				e.key, err = decodeKey(set.Key, value.Bytes())
				return err
			})
		case unix.NFTA_SET_ELEM_DATA:
			inside(a, unix.NFTA_DATA_VERDICT, func(verdict *netlink.AttributeDecoder) error {
				inside(verdict, unix.NFTA_VERDICT_CHAIN, func(chain *netlink.AttributeDecoder) error {
					e.chain = chain.String()
					return nil
				})
				return nil
			})
		case unix.NFTA_SET_ELEM_EXPR:
			inside(a, unix.NFTA_EXPR_DATA, func(counter *netlink.AttributeDecoder) error {
				inside(counter, unix.NFTA_COUNTER_PACKETS, func(packets *netlink.AttributeDecoder) error {
					e.packets = packets.Uint64()
					return nil
				})
				return nil
			})
		}
	}
	return a.Err()
}

// inside reads the attributes inside the present one and calls read at those of
// a type.
func inside(a *netlink.AttributeDecoder, kind uint16, read func(*netlink.AttributeDecoder) error) {
	a.Nested(func(inner *netlink.AttributeDecoder) error {
		for inner.Next() {
			if inner.Type() != kind {
				continue
			}
			if err := read(inner); err != nil {
				return err
			}
		}
		return inner.Err()
	})
}

// decodeKey is the inverse of Key.encode for a set of these field types.
func decodeKey(types []Type, b []byte) (Key, error) {
	if len(b) != 4*len(types) {
		return Key{}, fmt.Errorf("a key of %d bytes for %d fields", len(b), len(types))
	}
	var key Key
	for i, t := range types {
		field := [4]byte(b[4*i:])
		switch {
		case t == TypeAddress && !key.Address.IsValid():
			key.Address = netip.AddrFrom4(field)
		case t == TypeAddress:
			key.Second = netip.AddrFrom4(field)
		case t == TypeProtocol:
			key.Protocol = Protocol(field[0])
		case t == TypePort && key.Port == 0:
			key.Port = binary.BigEndian.Uint16(field[:])
		case t == TypePort:
			key.SecondPort = binary.BigEndian.Uint16(field[:])
		}
	}
	return key, nil
}
