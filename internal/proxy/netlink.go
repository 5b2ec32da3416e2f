package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"windlass.dev/windlass/api/v1alpha1"
)

// commitTimeout bounds how long the kernel may take to answer.
const commitTimeout = 30 * time.Second

// batchGeneration is the attribute of a batch's first message that makes the
// kernel refuse it unless its rules are of that generation (NFNL_BATCH_GENID).
const batchGeneration = 1

// Netlink is the real Kernel, spoken to through an NETLINK_NETFILTER socket.
// It needs CAP_NET_ADMIN. It is not safe for concurrent use.
//
// Batches are sent as a whole with one acknowledgement, and bound to a
// generation, which github.com/google/nftables has no way to do; expressions
// and data types are that library's.
type Netlink struct {
	netns int
	conn  *netlink.Conn
}

// NewNetlink opens the kernel's rules of a network namespace, given as an open
// file of it; 0 is that of the calling thread.
func NewNetlink(netns int) (*Netlink, error) {
	n := &Netlink{netns: netns}
	return n, n.open()
}

// Close closes the socket. The rules stay.
func (n *Netlink) Close() error {
	if n.conn == nil {
		return nil
	}
	return n.conn.Close()
}

func (n *Netlink) open() error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: n.netns})
	if err != nil {
		return fmt.Errorf("open netfilter socket: %w", err)
	}
	// A failed option costs a better error message, and large batches fail by themselves.
	_ = conn.SetOption(netlink.ExtendedAcknowledge, true)
	_ = conn.SetReadBuffer(8 << 20)
	_ = conn.SetWriteBuffer(64 << 20)
	n.conn = conn
	return nil
}

// reopen makes sure that no answer to a failed request is taken for one to the next.
func (n *Netlink) reopen() error {
	_ = n.Close()
	n.conn = nil
	return n.open()
}

// Commit implements Kernel.
func (n *Netlink) Commit(t Transaction, generation uint32) error {
	messages, err := encode(t)
	if err != nil {
		return err
	}
	err = n.send(batch(messages, generation))
	if err == nil {
		return nil
	}
	if opened := n.reopen(); opened != nil {
		return errors.Join(err, opened)
	}
	if errors.Is(err, unix.ERESTART) {
		return ErrChanged
	}
	return err
}

// batch puts the messages between the kernel's marks and asks for one answer,
// to the last of them: an error of any comes before it.
func batch(messages []netlink.Message, generation uint32) []netlink.Message {
	mark := func(kind int) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request},
			Data:   nfgenmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES),
		}
	}
	begin := mark(unix.NFNL_MSG_BATCH_BEGIN)
	begin.Data = append(begin.Data, marshal([]netlink.Attribute{number(batchGeneration, generation)})...)
	messages[len(messages)-1].Header.Flags |= netlink.Acknowledge
	return append(append([]netlink.Message{begin}, messages...), mark(unix.NFNL_MSG_BATCH_END))
}

// send sends messages and waits for the answer.
func (n *Netlink) send(messages []netlink.Message) error {
	if n.conn == nil {
		if err := n.open(); err != nil {
			return err
		}
	}
	if err := n.conn.SetDeadline(time.Now().Add(commitTimeout)); err != nil {
		return err
	}
	if _, err := n.conn.SendMessages(messages); err != nil {
		return fmt.Errorf("send %d nftables messages: %w", len(messages), err)
	}
	_, err := n.conn.Receive()
	return err
}

// Generation implements Kernel.
func (n *Netlink) Generation() (uint32, error) {
	var generation uint32
	err := n.get(unix.NFT_MSG_GETGEN, 0, nil, func(a *netlink.AttributeDecoder) error {
		generation = generationOf(a)
		return a.Err()
	})
	return generation, err
}

func generationOf(a *netlink.AttributeDecoder) (generation uint32) {
	for a.Next() {
		if a.Type() == unix.NFTA_GEN_ID {
			generation = a.Uint32()
		}
	}
	return generation
}

// get sends one request and calls each for every message of the answer.
func (n *Netlink) get(kind int, flags netlink.HeaderFlags, attributes []netlink.Attribute, each func(*netlink.AttributeDecoder) error) error {
	if n.conn == nil {
		if err := n.open(); err != nil {
			return err
		}
	}
	if err := n.conn.SetDeadline(time.Now().Add(commitTimeout)); err != nil {
		return err
	}
	answers, err := n.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: messageType(kind), Flags: netlink.Request | flags},
		Data:   append(nfgenmsg(unix.NFPROTO_IPV4, 0), marshal(attributes)...),
	})
	if err != nil {
		return errors.Join(err, n.reopen())
	}
	for _, answer := range answers {
		if len(answer.Data) < 4 {
			return fmt.Errorf("nftables message of %d bytes", len(answer.Data))
		}
		decoder, err := netlink.NewAttributeDecoder(answer.Data[4:])
		if err != nil {
			return fmt.Errorf("nftables message: %w", err)
		}
		decoder.ByteOrder = binary.BigEndian
		if err := each(decoder); err != nil {
			return fmt.Errorf("nftables message: %w", err)
		}
	}
	return nil
}

// Contents implements Kernel.
func (n *Netlink) Contents() (Contents, error) {
	c := Contents{Chains: map[string]ChainContents{}, Sets: map[string]map[Key]string{}}
	inTable := []netlink.Attribute{text(unix.NFTA_RULE_TABLE, TableName)} // attribute 1 of every kind of request
	err := n.get(unix.NFT_MSG_GETTABLE, 0, inTable, func(a *netlink.AttributeDecoder) error { return a.Err() })
	if errors.Is(err, syscall.ENOENT) {
		return Contents{}, nil
	}
	if err != nil {
		return Contents{}, err
	}
	if err := n.get(unix.NFT_MSG_GETCHAIN, netlink.Dump, inTable, c.readChain); err != nil {
		return Contents{}, err
	}
	if err := n.get(unix.NFT_MSG_GETRULE, netlink.Dump, inTable, c.readRule); err != nil {
		return Contents{}, err
	}
	if err := n.get(unix.NFT_MSG_GETSET, netlink.Dump, inTable, c.readSet); err != nil {
		return Contents{}, err
	}
	for _, set := range sharedSets {
		if c.Sets[set.Name] == nil {
			continue
		}
		if err := n.elements(set, func(e elementContents) { c.Sets[set.Name][e.key] = e.chain }); err != nil {
			return Contents{}, err
		}
	}
	return c, nil
}

// elements calls each for every element of a set; for none when there is no such set.
func (n *Netlink) elements(set Set, each func(elementContents)) error {
	request := []netlink.Attribute{text(unix.NFTA_SET_ELEM_LIST_TABLE, TableName), text(unix.NFTA_SET_ELEM_LIST_SET, set.Name)}
	err := n.get(unix.NFT_MSG_GETSETELEM, netlink.Dump, request, func(a *netlink.AttributeDecoder) error {
		return readElements(a, set, each)
	})
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

// Counts implements Counters.
func (n *Netlink) Counts() (map[Path]v1alpha1.TrafficCount, error) {
	counts := map[Path]v1alpha1.TrafficCount{}
	for _, set := range pathSets {
		if err := n.elements(set, func(e elementContents) { addCount(counts, set.Name, e.key, e.packets) }); err != nil {
			return nil, fmt.Errorf("read set %s: %w", set.Name, err)
		}
	}
	return counts, nil
}

// Watch calls changed after each commit of anybody in the network namespace,
// ours too, and when commits may have been missed, until ctx ends.
func (n *Netlink) Watch(ctx context.Context, changed func()) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: n.netns})
	if err != nil {
		return fmt.Errorf("open netfilter socket: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return fmt.Errorf("listen to nftables changes: %w", err)
	}
	// Closing does not wake a reader; a deadline does.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		messages, err := conn.Receive()
		switch {
		case ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded):
			return ctx.Err()
		case errors.Is(err, unix.ENOBUFS): // more came than fits: something changed
			changed()
			continue
		case err != nil:
			return fmt.Errorf("listen to nftables changes: %w", err)
		}
		for _, m := range messages {
			if m.Header.Type == messageType(unix.NFT_MSG_NEWGEN) {
				changed()
			}
		}
	}
}
