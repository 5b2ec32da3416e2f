package proxy

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/mdlayher/netlink"
)

// FuzzReadBack: whatever the kernel says of a table, reading it ends without a panic.
func FuzzReadBack(f *testing.F) {
	messages, err := encode(content{}.changeTo(Compile(manyServices(2))).transaction)
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range messages {
		f.Add(m.Data[4:])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := Contents{Chains: map[string]ChainContents{}, Sets: map[string]map[Key]string{}}
		readers := []func(*netlink.AttributeDecoder) error{c.readChain, c.readRule, c.readSet}
		for _, set := range slices.Concat(sharedSets, pathSets) {
			readers = append(readers, func(a *netlink.AttributeDecoder) error { return readElements(a, set, func(elementContents) {}) })
		}
		for _, read := range readers {
			decoder, err := netlink.NewAttributeDecoder(data)
			if err != nil {
				return
			}
			decoder.ByteOrder = binary.BigEndian
			_ = read(decoder)
		}
	})
}

// FuzzReadFlow: what is read of an entry without an error can be named again, by
// its server and not by where it was sent, which a later entry may share.
func FuzzReadFlow(f *testing.F) {
	tuple := func(kind uint16, from, to []byte) netlink.Attribute {
		return nested(kind, nested(ctaTupleIP, raw(ctaIPv4Source, from), raw(ctaIPv4Destination, to)),
			nested(ctaTupleProto, raw(ctaProtoNumber, []byte{6}), raw(ctaProtoSource, []byte{1, 2}), raw(ctaProtoDestination, []byte{0, 80})))
	}
	f.Add(append(nfgenmsg(2, 0), marshal([]netlink.Attribute{
		tuple(ctaTupleOriginal, []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}), tuple(ctaTupleReply, []byte{10, 0, 0, 3}, []byte{10, 0, 0, 1}),
		raw(ctaID, []byte{0, 0, 0, 1})})...))
	f.Fuzz(func(t *testing.T, data []byte) {
		flow, handle, err := readFlow(data)
		if err != nil {
			return
		}
		again, _, err := readFlow(append(nfgenmsg(2, 0), marshal(handle)...))
		if err != nil || again.Server != flow.Server || again.Destination.IsValid() {
			t.Errorf("%+v is named as %+v, %v", flow, again, err)
		}
	})
}

// FuzzRuleIdentity: any user data of a rule is read without a panic.
func FuzzRuleIdentity(f *testing.F) {
	f.Add([]byte{ruleIdentityType, 8, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte{0, 200, 1})
	f.Fuzz(func(t *testing.T, data []byte) { ruleIdentity(data) })
}
