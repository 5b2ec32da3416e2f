package foresight

import (
	"fmt"
	"slices"
	"strings"

	"windlass.dev/windlass/api/v1alpha1"
)

// Plan is what applying some objects will do.
type Plan struct {
	// Succeeds says whether all of it can succeed.
	Succeeds bool `json:"succeeds"`

	Deployments  []Foresight `json:"deployments,omitempty"`
	StatefulSets []Foresight `json:"statefulSets,omitempty"`
	Others       []Other     `json:"others,omitempty"`
}

// Other is what will become of an object that is no Deployment or StatefulSet.
type Other struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`

	Action  Action                 `json:"action"`
	Changes []v1alpha1.FieldChange `json:"changes,omitempty"`
	Blocks  []Finding              `json:"blocks,omitempty"`
}

// Action is what happens to an object.
type Action string

// The actions.
const (
	Created   Action = "created"
	Changed   Action = "changed"
	Unchanged Action = "unchanged"
	Refused   Action = "refused"
)

// Add takes a Deployment or StatefulSet in.
func (p *Plan) Add(f Foresight) {
	if f.Stateful {
		p.StatefulSets = append(p.StatefulSets, f)
		return
	}
	p.Deployments = append(p.Deployments, f)
}

// workloads returns the Deployments and then the StatefulSets.
func (p *Plan) workloads() []Foresight { return append(slices.Clone(p.Deployments), p.StatefulSets...) }

// AddOther takes another object in.
func (p *Plan) AddOther(o Other) { p.Others = append(p.Others, o) }

// Judge says whether all of it can succeed, and notes it.
func (p *Plan) Judge() bool {
	p.Succeeds = true
	for _, f := range p.workloads() {
		p.Succeeds = p.Succeeds && f.Succeeds()
	}
	for i := range p.Others {
		p.Succeeds = p.Succeeds && len(p.Others[i].Blocks) == 0
	}
	return p.Succeeds
}

// String is the plan for people.
func (p Plan) String() string {
	var b strings.Builder
	for _, o := range p.Others {
		b.WriteString(o.String())
	}
	for i, f := range p.workloads() {
		if i > 0 || len(p.Others) > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(f.String())
	}
	return b.String()
}

// String is the object and what changes in it.
func (o Other) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s", strings.ToLower(o.Kind), o.Name)
	if o.Namespace != "" {
		fmt.Fprintf(&b, " in namespace %s", o.Namespace)
	}
	fmt.Fprintf(&b, ": %s\n", o.Action)
	writeChanges(&b, o.Changes)
	writeFindings(&b, "Blocked by", o.Blocks)
	return b.String()
}
