package proxy

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Where the addresses are in an IPv4 header, and bits of conntrack.
const (
	offsetSource      = 12
	offsetDestination = 16

	statusDestinationNAT = 1 << 5 // IPS_DST_NAT in linux/netfilter/nf_conntrack_common.h
)

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
		return hasBit(expr.CtKeySTATUS, statusDestinationNAT)
	case invalid:
		return hasBit(expr.CtKeySTATE, expr.CtStateBitINVALID)
	case pairIn:
		return []expr.Any{address(offsetSource, register0), address(offsetDestination, register1), lookup(t.set)}
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

func hasBit(key expr.CtKey, bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: native(bit), Xor: native(0)},
		compare(true, native(0)),
	}
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
