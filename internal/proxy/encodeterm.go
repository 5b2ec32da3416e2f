package proxy

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Where the addresses are in an IPv4 header, and bits of conntrack.
const (
	offsetSource      = 12
	offsetDestination = 16

	// linux/netfilter/nf_conntrack_common.h
	statusAssured        = 1 << 2 // IPS_ASSURED
	statusDestinationNAT = 1 << 5 // IPS_DST_NAT
	directionOriginal    = 0      // IP_CT_DIR_ORIGINAL
	directionReply       = 1      // IP_CT_DIR_REPLY

	icmpUnreachable = 3 // ICMP_DEST_UNREACH in linux/icmp.h
)

// tcpFlagBits are the bits of the flags in the byte of a TCP header that has them.
var tcpFlagBits = map[string]byte{"fin": 1, "syn": 2, "rst": 4, "ack": 16}

// term returns the expressions that a term stands for.
func (e *encoder) term(term Term) []expr.Any {
	switch t := term.(type) {
	case addressIn:
		return inPrefix(t)
	case interfaceIs:
		key := expr.MetaKeyIIFNAME
		if t.out {
			key = expr.MetaKeyOIFNAME
		}
		name := make([]byte, unix.IFNAMSIZ)
		copy(name, t.name)
		return []expr.Any{&expr.Meta{Key: key, Register: register}, compare(t.not, name)}
	case addressLocal:
		return []expr.Any{
			&expr.Fib{Register: register, ResultADDRTYPE: true, FlagSADDR: t.source, FlagDADDR: !t.source},
			compare(false, native(unix.RTN_LOCAL)),
		}
	case protocolIs:
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}, compare(false, []byte{byte(t.protocol)})}
	case translated:
		return hasBit(false, expr.CtKeySTATUS, statusDestinationNAT)
	case assured:
		return hasBit(t.not, expr.CtKeySTATUS, statusAssured)
	case invalid:
		return hasBit(false, expr.CtKeySTATE, expr.CtStateBitINVALID)
	case answers:
		return []expr.Any{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: register}, compare(false, []byte{directionReply})}
	case tcpFlags:
		return withFlags(t)
	case unreachable:
		return []expr.Any{protocolTo(register), compare(false, []byte{unix.IPPROTO_ICMP}),
			&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}, compare(false, []byte{icmpUnreachable})}
	case pairIn:
		return []expr.Any{address(offsetSource, register0), address(offsetDestination, register1), lookup(t.set)}
	case countPath:
		return append(tupleOf(directionOriginal, directionReply),
			&expr.Dynset{SrcRegKey: register, SetName: t.set, Operation: unix.NFT_DYNSET_OP_ADD, Exprs: []expr.Any{&expr.Counter{}}})
	case endsFirst:
		return append(tupleOf(directionReply, directionReply),
			&expr.Lookup{SourceRegister: register, SetName: t.set, Invert: true},
			&expr.Dynset{SrcRegKey: register, SetName: t.set, Operation: unix.NFT_DYNSET_OP_ADD})
	case sourceIn:
		return []expr.Any{address(offsetSource, register), lookup(t.set)}
	case dispatchAddress:
		return []expr.Any{address(offsetDestination, register0), protocolTo(register1), portTo(register2), dispatch(t.set)}
	case dispatchPort:
		return []expr.Any{protocolTo(register0), portTo(register1), dispatch(t.set)}
	case remember:
		return []expr.Any{address(offsetSource, register),
			&expr.Dynset{SrcRegKey: register, SetName: t.set, Operation: unix.NFT_DYNSET_OP_UPDATE}}
	case toOneOf:
		return e.toOneOf(t.endpoints)
	case goToOneOf:
		return e.goToOneOf(t.chains)
	}
	return []expr.Any{verdict(term)}
}

// verdict returns the expression of a term that has no parts.
func verdict(term Term) expr.Any {
	switch t := term.(type) {
	case goTo:
		return &expr.Verdict{Kind: expr.VerdictGoto, Chain: t.chain}
	case jumpTo:
		return &expr.Verdict{Kind: expr.VerdictJump, Chain: t.chain}
	case accept:
		return &expr.Verdict{Kind: expr.VerdictAccept}
	case drop:
		return &expr.Verdict{Kind: expr.VerdictDrop}
	case masquerade:
		return &expr.Masq{}
	case refuse:
		if t.reset {
			return &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}
		}
		return &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 3} // port unreachable
	}
	panic("a term that encode does not know: " + term.String())
}

func inPrefix(t addressIn) []expr.Any {
	offset := uint32(offsetDestination)
	if t.source {
		offset = offsetSource
	}
	return []expr.Any{
		address(offset, register),
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: net.CIDRMask(t.prefix.Bits(), 32), Xor: make([]byte, 4)},
		compare(t.not, masked(t.prefix)),
	}
}

func masked(p netip.Prefix) []byte { return p.Masked().Addr().AsSlice() }

func hasBit(not bool, key expr.CtKey, bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: native(bit), Xor: native(0)},
		compare(!not, native(0)),
	}
}

func withFlags(t tcpFlags) []expr.Any {
	bits := func(names string) (b byte) {
		for name := range strings.SplitSeq(names, " | ") {
			b |= tcpFlagBits[name]
		}
		return b
	}
	return []expr.Any{
		protocolTo(register), compare(false, []byte{byte(TCP)}),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{bits(t.of)}, Xor: []byte{0}},
		compare(false, []byte{bits(t.are)}),
	}
}

// tupleOf returns the expressions that match TCP connections and load the
// destination in one direction and the source in another: addresses, then ports.
func tupleOf(destination, source byte) []expr.Any {
	return []expr.Any{
		directed(expr.CtKeyPROTOCOL, directionOriginal, register), compare(false, []byte{byte(TCP)}),
		directed(unix.NFT_CT_DST_IP, destination, register0), directed(unix.NFT_CT_SRC_IP, source, register1),
		directed(expr.CtKeyPROTODST, destination, register2), directed(expr.CtKeyPROTOSRC, source, register3),
	}
}

// tupleField is an expr.Ct with a direction, for which the library writes four
// bytes where the kernel takes one.
type tupleField struct {
	*expr.Ct
	direction byte
}

func directed(key expr.CtKey, direction byte, to uint32) expr.Any {
	return tupleField{&expr.Ct{Key: key, Register: to}, direction}
}

func (f tupleField) marshal() []byte {
	return marshal([]netlink.Attribute{
		text(unix.NFTA_EXPR_NAME, "ct"),
		nested(unix.NFTA_EXPR_DATA,
			number(unix.NFTA_CT_KEY, uint32(f.Key)),
			number(unix.NFTA_CT_DREG, f.Register),
			raw(unix.NFTA_CT_DIRECTION, []byte{f.direction})),
	})
}

func address(offset uint32, to uint32) expr.Any {
	return &expr.Payload{DestRegister: to, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}
}

func protocolTo(to uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: to} }

func portTo(to uint32) expr.Any {
	return &expr.Payload{DestRegister: to, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

func lookup(set string) expr.Any { return &expr.Lookup{SourceRegister: register, SetName: set} }

func dispatch(set string) expr.Any {
	return &expr.Lookup{SourceRegister: register, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: set}
}

func compare(not bool, data []byte) expr.Any {
	op := expr.CmpOpEq
	if not {
		op = expr.CmpOpNeq
	}
	return &expr.Cmp{Op: op, Register: register, Data: data}
}

func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
