package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The messages and attributes of ctnetlink, from linux/netfilter/nfnetlink.h
// and nfnetlink_conntrack.h.
const (
	subsysConntrack = 1
	conntrackGet    = 1
	conntrackDelete = 2

	ctaTupleOriginal = 1
	ctaTupleReply    = 2
	ctaStatus        = 3
	ctaID            = 12
	ctaZone          = 18
	ctaFilter        = 25

	ctaTupleIP    = 1
	ctaTupleProto = 2

	ctaIPv4Source      = 1
	ctaIPv4Destination = 2

	ctaProtoNumber      = 1
	ctaProtoSource      = 2
	ctaProtoDestination = 3

	ctaFilterOriginal = 1
	ctaFilterReply    = 2

	statusAnswered = 1 << 1 // IPS_SEEN_REPLY

	filterIPSource    = 1 << 0
	filterProtoNumber = 1 << 3
)

// Conntrack is the real Flows. It needs CAP_NET_ADMIN, and Linux 5.8 to be
// quick: an older one lists all entries where a newer lists those asked for.
type Conntrack struct{ netns int }

// NewConntrack returns the connection tracking of a network namespace, given
// as an open file of it; 0 is that of the calling thread.
func NewConntrack(netns int) *Conntrack { return &Conntrack{netns: netns} }

// Forget implements Flows.
func (c *Conntrack) Forget(protocol Protocol, server netip.Addr, stale func(Flow) bool) (int, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: c.netns})
	if err != nil {
		return 0, fmt.Errorf("open conntrack socket: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(commitTimeout)); err != nil {
		return 0, fmt.Errorf("open conntrack socket: %w", err)
	}
	listed, err := conn.Execute(conntrackMessage(conntrackGet, netlink.Dump, conntrackFilter(protocol, server)))
	if err != nil {
		return 0, fmt.Errorf("list connections: %w", err)
	}
	forgotten := 0
	for _, message := range listed {
		flow, handle, err := readFlow(message.Data)
		if err != nil {
			return forgotten, fmt.Errorf("list connections: %w", err)
		}
		matches := (protocol == 0 || flow.Protocol == protocol) && (!server.IsValid() || flow.Server.Addr() == server)
		if !matches || !stale(flow) {
			continue
		}
		_, err = conn.Execute(conntrackMessage(conntrackDelete, netlink.Acknowledge, handle))
		switch {
		case err == nil:
			forgotten++
		case !errors.Is(err, unix.ENOENT): // it ended meanwhile
			return forgotten, fmt.Errorf("forget connection %v: %w", flow, err)
		}
	}
	return forgotten, nil
}

func conntrackMessage(kind int, flags netlink.HeaderFlags, attributes []netlink.Attribute) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(subsysConntrack<<8 | kind), Flags: netlink.Request | flags},
		Data:   append(nfgenmsg(unix.AF_INET, 0), marshal(attributes)...),
	}
}

// conntrackFilter returns the attributes that make the kernel list only the
// entries of a protocol and a server.
func conntrackFilter(protocol Protocol, server netip.Addr) []netlink.Attribute {
	var filters, tuples []netlink.Attribute
	if protocol != 0 {
		filters = append(filters, raw(ctaFilterOriginal, native(filterProtoNumber)))
		tuples = append(tuples, nested(ctaTupleOriginal, nested(ctaTupleProto, raw(ctaProtoNumber, []byte{byte(protocol)}))))
	}
	if server.IsValid() {
		filters = append(filters, raw(ctaFilterReply, native(filterIPSource)))
		tuples = append(tuples, nested(ctaTupleReply, nested(ctaTupleIP, raw(ctaIPv4Source, server.AsSlice()))))
	}
	if len(filters) == 0 {
		return nil
	}
	return append(tuples, nested(ctaFilter, filters...))
}

// readFlow reads an entry, and returns with it the attributes that name
// exactly it when it is deleted: the tuple of its answers, which has the server.
// A client that takes its port again meanwhile makes another entry of the same
// original tuple, to another server, and the kernel may give that the same ID.
func readFlow(message []byte) (flow Flow, handle []netlink.Attribute, err error) {
	if len(message) < 4 {
		return flow, nil, fmt.Errorf("an entry of %d bytes", len(message))
	}
	attributes, err := netlink.UnmarshalAttributes(message[4:])
	if err != nil {
		return flow, nil, err
	}
	var original, reply tuple
	answered := false
	for _, a := range attributes {
		switch a.Type &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER) {
		case ctaTupleOriginal:
			if err := original.read(a.Data); err != nil {
				return flow, nil, err
			}
		case ctaTupleReply:
			if err := reply.read(a.Data); err != nil {
				return flow, nil, err
			}
			handle = append(handle, a)
		case ctaStatus:
			answered = len(a.Data) == 4 && binary.BigEndian.Uint32(a.Data)&statusAnswered != 0
		case ctaID, ctaZone:
			handle = append(handle, a)
		}
	}
	return Flow{Protocol: original.protocol, Client: original.source, Destination: original.destination, Server: reply.source, Answered: answered}, handle, nil
}

// tuple is one direction of an entry.
type tuple struct {
	protocol            Protocol
	source, destination netip.AddrPort
}

func (t *tuple) read(data []byte) error {
	decoder, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return err
	}
	decoder.ByteOrder = binary.BigEndian
	var from, to netip.Addr
	var fromPort, toPort uint16
	for decoder.Next() {
		switch decoder.Type() {
		case ctaTupleIP:
			decoder.Nested(func(ip *netlink.AttributeDecoder) error {
				for ip.Next() {
					switch ip.Type() {
					case ctaIPv4Source:
						from, _ = netip.AddrFromSlice(ip.Bytes())
					case ctaIPv4Destination:
						to, _ = netip.AddrFromSlice(ip.Bytes())
					}
				}
				return ip.Err()
			})
		case ctaTupleProto:
			decoder.Nested(func(proto *netlink.AttributeDecoder) error {
				proto.ByteOrder = binary.BigEndian
				for proto.Next() {
					switch proto.Type() {
					case ctaProtoNumber:
						t.protocol = Protocol(proto.Uint8())
					case ctaProtoSource:
						fromPort = proto.Uint16()
					case ctaProtoDestination:
						toPort = proto.Uint16()
					}
				}
				return proto.Err()
			})
		}
	}
	t.source, t.destination = netip.AddrPortFrom(from, fromPort), netip.AddrPortFrom(to, toPort)
	return decoder.Err()
}
