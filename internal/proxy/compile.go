package proxy

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// State is what the API says about Services, and the node to compile for.
type State struct {
	Node           Node
	Services       []*corev1.Service
	EndpointSlices []*discoveryv1.EndpointSlice
	Pods           []*corev1.Pod // for their host ports
}

// Compile returns the rules that serve the Services of a State on its node. It
// depends on nothing else, not even on the order of the lists.
//
// Of two Services that want the same address and port, the one whose cluster
// IP it is has it; else the older; else the one whose namespace/name sorts
// first. A host port of a pod comes after all Services. The behaviour of each field is that of
// https://kubernetes.io/docs/reference/networking/virtual-ips/.
func Compile(state State) Ruleset {
	model := NewModel(state.Node)
	for _, service := range state.Services {
		model.SetService(service)
	}
	for _, slice := range state.EndpointSlices {
		model.SetSlice(slice)
	}
	for _, pod := range state.Pods {
		model.SetPod(pod)
	}
	return model.Compile()
}

// compileService returns the part of one Service as if no other existed, or nil
// when it has no virtual address: a headless or ExternalName Service, or one
// that another proxy serves.
func compileService(node Node, service *corev1.Service, from []*discoveryv1.EndpointSlice) *Part {
	if !hasVirtualAddress(service) {
		return nil
	}
	part := &Part{Name: service.Namespace + "/" + service.Name}
	for _, port := range service.Spec.Ports {
		protocol, ok := protocolOf(port.Protocol)
		if !ok || port.Port < 1 || port.Port > 65535 {
			continue
		}
		compiler := portCompiler{node: node, service: service, port: port, protocol: protocol, part: part,
			endpoints: readyEndpoints(node.Name, port, from)}
		compiler.compile()
	}
	sortElements(part)
	return part
}

func hasVirtualAddress(service *corev1.Service) bool {
	_, foreign := service.Labels["service.kubernetes.io/service-proxy-name"]
	return !foreign && service.Spec.Type != corev1.ServiceTypeExternalName && len(clusterAddresses(service)) > 0
}

// portCompiler adds the rules of one port of a Service to the Service's part.
type portCompiler struct {
	node      Node
	service   *corev1.Service
	port      corev1.ServicePort
	protocol  Protocol
	endpoints endpoints
	part      *Part
}

// compile adds chains that choose an endpoint, then the ways into them. Which
// chain a way leads to depends on the Service's spec alone: when endpoints
// change, only rules inside chains do, which a packet sees all of or none.
func (c *portCompiler) compile() {
	inside, outside := c.targets()
	c.enterBy(clusterAddresses(c.service), inside)
	c.enterBy(addresses4(c.service.Spec.ExternalIPs), outside)
	c.enterBy(balancerAddresses(c.service), c.allowed(outside))
	if c.port.NodePort > 0 && c.port.NodePort <= 65535 && hasNodePorts(c.service) {
		c.enter(Element{Set: setNodePorts, Key: Key{Protocol: c.protocol, Port: uint16(c.port.NodePort)}, Goto: outside})
	}
	for _, endpoint := range c.endpoints.all {
		c.enter(Element{Set: setHairpins, Key: Key{Address: endpoint.Addr(), Second: endpoint.Addr()}})
	}
}

// enterBy adds the port on some addresses as ways into a chain.
func (c *portCompiler) enterBy(addresses []netip.Addr, chain string) {
	for _, address := range addresses {
		c.enter(Element{Set: setServices, Key: Key{Address: address, Protocol: c.protocol, Port: uint16(c.port.Port)}, Goto: chain})
	}
}

// allowed returns the chain that takes packets to a load balancer address: the
// given one, or, with loadBalancerSourceRanges, one that lets only those by.
func (c *portCompiler) allowed(chain string) string {
	if len(c.service.Spec.LoadBalancerSourceRanges) == 0 || len(balancerAddresses(c.service)) == 0 {
		return chain
	}
	guard := Chain{Name: c.name("allowed")}
	for _, text := range c.service.Spec.LoadBalancerSourceRanges {
		if prefix, err := netip.ParsePrefix(strings.TrimSpace(text)); err == nil && prefix.Addr().Is4() {
			guard.Rules = append(guard.Rules, Rule{addressIn{source: true, prefix: prefix.Masked()}, goTo{chain}})
		}
	}
	guard.Rules = append(guard.Rules, Rule{goTo{chainDiscard}})
	c.addChain(guard)
	return guard.Name
}

// enter adds an element, unless the Service has one of that key already.
func (c *portCompiler) enter(e Element) {
	if !slices.ContainsFunc(c.part.Elements, func(x Element) bool { return x.slot() == e.slot() }) {
		c.part.Elements = append(c.part.Elements, e)
	}
}

// targets adds the chains of the port and returns those that take packets to
// the cluster IP (inside), and to node ports, external addresses and load
// balancer addresses (outside).
func (c *portCompiler) targets() (inside, outside string) {
	all := c.name("service")
	c.addChain(Chain{Name: all, Rules: c.choose(c.endpoints.all, chainUnserved)})
	inside, outside = all, all
	insideLocal := c.service.Spec.InternalTrafficPolicy != nil && *c.service.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	outsideLocal := c.service.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if !insideLocal && !outsideLocal {
		return inside, outside
	}
	// Endpoints elsewhere but none here: dropped, as Kubernetes specifies.
	otherwise := chainDiscard
	if len(c.endpoints.all) == 0 {
		otherwise = chainUnserved
	}
	local := c.name("local")
	c.addChain(Chain{Name: local, Rules: c.choose(c.endpoints.local, otherwise)})
	if insideLocal {
		inside = local
	}
	if outsideLocal {
		// What comes from pods and from this machine is not from outside.
		outside = c.name("external")
		c.addChain(Chain{Name: outside, Rules: []Rule{
			{addressIn{source: true, prefix: c.node.PodRange}, goTo{all}},
			{addressLocal{source: true}, goTo{all}},
			{goTo{local}},
		}})
	}
	return inside, outside
}

// choose returns rules that send each new connection to one of the targets,
// or, when there is none, go on in another chain.
//
// The last rule is for a packet that meets the rules as they are replaced: the
// map of the rule before it may be empty already for such a packet.
func (c *portCompiler) choose(targets []netip.AddrPort, otherwise string) []Rule {
	if len(targets) == 0 {
		return []Rule{{goTo{otherwise}}}
	}
	if timeout := affinity(c.service); timeout > 0 {
		return c.chooseRemembered(targets, timeout)
	}
	last := targets[len(targets)-1:]
	if len(targets) == 1 {
		return []Rule{{protocolIs{c.protocol}, toOneOf{last}}}
	}
	return []Rule{{protocolIs{c.protocol}, toOneOf{targets}}, {protocolIs{c.protocol}, toOneOf{last}}}
}

// chooseRemembered returns rules that send a client to the endpoint it had
// last, if it is still one and the time is not over, and otherwise to any.
// Each endpoint has a set of its clients and a chain that adds to it. The
// timeout is in the set's name because the kernel cannot change it later.
func (c *portCompiler) chooseRemembered(targets []netip.AddrPort, timeout time.Duration) []Rule {
	var rules []Rule
	var chains []string
	for _, target := range targets {
		clients := c.name("affinity", target.Addr().String(), fmt.Sprint(target.Port()), fmt.Sprint(timeout.Seconds()))
		chain := c.name("endpoint", target.Addr().String(), fmt.Sprint(target.Port()))
		c.addSet(Set{Name: clients, Key: []Type{TypeAddress}, Dynamic: true, Timeout: timeout})
		c.addChain(Chain{Name: chain, Rules: []Rule{
			{remember{clients}},
			{protocolIs{c.protocol}, toOneOf{[]netip.AddrPort{target}}},
		}})
		rules = append(rules, Rule{sourceIn{clients}, goTo{chain}})
		chains = append(chains, chain)
	}
	last := chains[len(chains)-1]
	if len(chains) > 1 {
		rules = append(rules, Rule{goToOneOf{chains}})
	}
	return append(rules, Rule{goTo{last}})
}

func (c *portCompiler) addChain(chain Chain) {
	if !slices.ContainsFunc(c.part.Chains, func(x Chain) bool { return x.Name == chain.Name }) {
		c.part.Chains = append(c.part.Chains, chain)
	}
}

func (c *portCompiler) addSet(set Set) {
	if !slices.ContainsFunc(c.part.Sets, func(x Set) bool { return x.Name == set.Name }) {
		c.part.Sets = append(c.part.Sets, set)
	}
}

// name returns the name of a chain or set of this port.
func (c *portCompiler) name(kind string, more ...string) string {
	port := c.port.Name
	if port == "" {
		port = fmt.Sprint(c.port.Port)
	}
	return boundedName(append([]string{kind, c.service.Namespace, c.service.Name, port}, more...)...)
}

// boundedName joins the fields of a name. The kernel takes 127 bytes: a longer
// name keeps its beginning and ends in a hash of the whole.
func boundedName(fields ...string) string {
	name := strings.Join(fields, "/")
	if len(name) <= 127 {
		return name
	}
	hash := fnv.New64a()
	hash.Write([]byte(name))
	return fmt.Sprintf("%s/%016x", name[:110], hash.Sum64())
}

func clusterAddresses(service *corev1.Service) []netip.Addr {
	texts := service.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{service.Spec.ClusterIP}
	}
	return addresses4(texts)
}

// balancerAddresses returns the addresses that a load balancer was given for
// the Service and that its packets come with.
func balancerAddresses(service *corev1.Service) []netip.Addr {
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	var texts []string
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if ingress.IPMode == nil || *ingress.IPMode == corev1.LoadBalancerIPModeVIP {
			texts = append(texts, ingress.IP)
		}
	}
	return addresses4(texts)
}

func addresses4(texts []string) []netip.Addr {
	var found []netip.Addr
	for _, text := range texts {
		if address, err := netip.ParseAddr(text); err == nil && address.Is4() {
			found = append(found, address)
		}
	}
	return found
}

func hasNodePorts(service *corev1.Service) bool {
	return service.Spec.Type == corev1.ServiceTypeNodePort || service.Spec.Type == corev1.ServiceTypeLoadBalancer
}

// affinity returns for how long a client stays with its endpoint; 0 is not at all.
func affinity(service *corev1.Service) time.Duration {
	if service.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	config := service.Spec.SessionAffinityConfig
	if config == nil || config.ClientIP == nil || config.ClientIP.TimeoutSeconds == nil || *config.ClientIP.TimeoutSeconds <= 0 {
		return time.Duration(corev1.DefaultClientIPServiceAffinitySeconds) * time.Second
	}
	return time.Duration(*config.ClientIP.TimeoutSeconds) * time.Second
}

func protocolOf(p corev1.Protocol) (Protocol, bool) {
	switch protocolOrTCP(p) {
	case corev1.ProtocolTCP:
		return TCP, true
	case corev1.ProtocolUDP:
		return UDP, true
	case corev1.ProtocolSCTP:
		return SCTP, true
	}
	return 0, false
}

func sortElements(part *Part) {
	slices.SortFunc(part.Elements, func(x, y Element) int {
		if c := strings.Compare(x.Set, y.Set); c != 0 {
			return c
		}
		return x.Key.compare(y.Key)
	})
}
