// Package hollow is nodes in memory: a runtime, images and a network as the
// agent's interfaces promise them, without processes or namespaces. A node
// outlives the agents that use it, as a real node's containers do.
//
// In tests a Node is told what to do. A Fleet is many nodes for any workload,
// each with the real agent: it shows rollouts where no container can run, and
// many thousand pods where no machine would hold them. There a manifest says how
// its containers behave, see Behaviour.
package hollow
