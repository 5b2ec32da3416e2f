package persistentvolume

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"windlass.dev/windlass/api/v1alpha1"
)

// show prints a plan in a line: what is bound, asked for, or told.
func (p claimPlan) show() string {
	var out []string
	if p.Volume != nil {
		out = append(out, "bind "+p.Volume.Name)
	}
	if p.Claim != nil {
		out = append(out, fmt.Sprintf("write volume=%s node=%s provisioner=%s", p.Claim.Spec.VolumeName,
			p.Claim.Annotations[volume.AnnSelectedNode], p.Claim.Annotations[volume.AnnStorageProvisioner]))
	}
	if p.Status != nil {
		size := p.Status.Capacity[corev1.ResourceStorage]
		out = append(out, fmt.Sprintf("%s %s", p.Status.Phase, size.String()))
	}
	for _, e := range p.Events {
		out = append(out, fmt.Sprintf("%s %s: %s", e.Type, e.Reason, e.Message))
	}
	return strings.Join(out, "; ")
}

var (
	delayedNone = makeClass("hand", volume.NotSupportedProvisioner, storagev1.VolumeBindingWaitForFirstConsumer)
	delayed     = makeClass("local", v1alpha1.LocalProvisioner, storagev1.VolumeBindingWaitForFirstConsumer)
	immediate   = makeClass("now", v1alpha1.LocalProvisioner, storagev1.VolumeBindingImmediate)
	external    = makeClass("ext", "example.com/disks", storagev1.VolumeBindingImmediate)
)

// TestClaimPlans: what is done about a claim, and what is told of it, in Kubernetes' words.
func TestClaimPlans(t *testing.T) {
	const waitsFor = "Normal ExternalProvisioning: Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. " +
		"If volume creation is delayed, please verify that the provisioner is running and correctly registered."
	limited := immediate.DeepCopy()
	limited.AllowedTopologies = []corev1.TopologySelectorTerm{{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: corev1.LabelHostname, Values: []string{"b"}}}}}
	for _, test := range []struct {
		name    string
		claim   *corev1.PersistentVolumeClaim
		class   *storagev1.StorageClass
		volumes []*corev1.PersistentVolume
		nodes   []string
		node    string // that is selected
		pod     string
		want    string
	}{
		{name: "the smallest that fits", claim: makeClaim("c", "2Gi"),
			volumes: []*corev1.PersistentVolume{makeVolume("a", "1Gi"), makeVolume("b", "9Gi"), makeVolume("c", "3Gi")},
			want:    "bind c; write volume=c node= provisioner=; Bound 3Gi"},
		{name: "fewest access modes first, as Kubernetes has it", claim: makeClaim("c", "1Gi"),
			volumes: []*corev1.PersistentVolume{makeVolume("a", "1Gi", withModes(corev1.ReadWriteOnce, corev1.ReadWriteMany)), makeVolume("b", "9Gi")},
			want:    "bind b; write volume=b node= provisioner=; Bound 9Gi"},
		{name: "one that names it comes before all others", claim: makeClaim("c", "1Gi"),
			volumes: []*corev1.PersistentVolume{makeVolume("a", "1Gi"), makeVolume("b", "9Gi", claimedBy("c", ""))},
			want:    "bind b; write volume=b node= provisioner=; Bound 9Gi"},
		{name: "one that names another does not count", claim: makeClaim("c", "1Gi"), volumes: []*corev1.PersistentVolume{makeVolume("a", "1Gi", claimedBy("d", ""))},
			want: "Normal FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		{name: "neither does one that is released, or going", claim: makeClaim("c", "1Gi"),
			volumes: []*corev1.PersistentVolume{makeVolume("a", "1Gi", claimedBy("c", "uid-before"), inPhase(corev1.VolumeReleased)), makeVolume("b", "1Gi", going)},
			want:    "Normal FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		{name: "by its labels", claim: makeClaim("c", "1Gi", selecting("disk", "ssd")), volumes: []*corev1.PersistentVolume{makeVolume("a", "1Gi"), makeVolume("b", "2Gi", labelled("disk", "ssd"))},
			want: "bind b; write volume=b node= provisioner=; Bound 2Gi"},
		{name: "by its access mode", claim: makeClaim("c", "1Gi", forModes(corev1.ReadWriteMany)), volumes: []*corev1.PersistentVolume{makeVolume("a", "1Gi")},
			want: "Normal FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		{name: "by its volume mode", claim: makeClaim("c", "1Gi", asBlock), volumes: []*corev1.PersistentVolume{makeVolume("a", "1Gi")},
			want: "Normal FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		{name: "of its class only", claim: makeClaim("c", "1Gi", ofClass("ext")), class: external, volumes: []*corev1.PersistentVolume{makeVolume("a", "1Gi"), makeVolume("b", "5Gi", inClass("ext"))},
			want: "bind b; write volume=b node= provisioner=; Bound 5Gi"},
		{name: "its class does not exist", claim: makeClaim("c", "1Gi", ofClass("none")),
			want: `Warning ProvisioningFailed: storageclass.storage.k8s.io "none" not found`},
		{name: "an external provisioner is asked", claim: makeClaim("c", "1Gi", ofClass("ext")), class: external,
			want: "write volume= node= provisioner=example.com/disks; " + fmt.Sprintf(waitsFor, "example.com/disks")},

		{name: "no consumer yet", claim: makeClaim("c", "1Gi", ofClass("local")), class: delayed, nodes: []string{"a"},
			want: "Normal WaitForFirstConsumer: waiting for first consumer to be created before binding"},
		{name: "not even to a volume that is there", claim: makeClaim("c", "1Gi", ofClass("hand")), class: delayedNone, volumes: []*corev1.PersistentVolume{makeVolume("v", "1Gi", inClass("hand"))},
			want: "Normal WaitForFirstConsumer: waiting for first consumer to be created before binding"},
		{name: "a pod waits", claim: makeClaim("c", "1Gi", ofClass("local")), class: delayed, nodes: []string{"a"}, pod: "web-0",
			want: "Normal WaitForPodScheduled: waiting for pod web-0 to be scheduled"},
		{name: "a node is selected", claim: makeClaim("c", "1Gi", ofClass("local"), onNode("a")), class: delayed, nodes: []string{"a"}, node: "a",
			want: "write volume= node=a provisioner=windlass.dev/local; " + fmt.Sprintf(waitsFor, "windlass.dev/local")},
		{name: "the volume of that node, not the smaller of another", claim: makeClaim("c", "1Gi", ofClass("hand"), onNode("a")), class: delayedNone, nodes: []string{"a", "b"}, node: "a",
			volumes: []*corev1.PersistentVolume{makeVolume("v", "1Gi", inClass("hand"), at("b")), makeVolume("w", "2Gi", inClass("hand"), at("a"))},
			want:    "bind w; write volume=w node=a provisioner=; Bound 2Gi"},
		{name: "the selected node has none any more", claim: makeClaim("c", "1Gi", ofClass("hand"), onNode("a")), class: delayedNone, nodes: []string{"a"}, node: "a",
			want: "write volume= node= provisioner=kubernetes.io/no-provisioner; Warning FailedBinding: no persistent volume available for this claim on node a: another is selected"},
		{name: "the selected node is gone", claim: makeClaim("c", "1Gi", ofClass("local"), onNode("gone")), class: delayed, nodes: []string{"a"},
			want: "write volume= node= provisioner=windlass.dev/local; Warning ProvisioningFailed: node gone is gone or not ready: another is selected"},
		{name: "no volume of another node while the selected one is not ready", claim: makeClaim("c", "1Gi", ofClass("hand"), onNode("gone")), class: delayedNone, nodes: []string{"b"},
			volumes: []*corev1.PersistentVolume{makeVolume("v", "1Gi", inClass("hand"), at("b"))},
			want:    "write volume= node= provisioner=kubernetes.io/no-provisioner; Warning ProvisioningFailed: node gone is gone or not ready: another is selected"},
		{name: "the volume that was made for it, though another node is selected by now", claim: makeClaim("c", "1Gi", ofClass("local"), onNode("b")), class: delayed, nodes: []string{"a", "b"}, node: "b",
			volumes: []*corev1.PersistentVolume{makeVolume("v", "1Gi", inClass("local"), at("a"), madeLocally, claimedBy("c", "uid-c"))},
			want:    "write volume=v node=b provisioner=; Bound 1Gi"},
		{name: "not if it is going", claim: makeClaim("c", "1Gi", ofClass("local"), onNode("b")), class: delayed, nodes: []string{"a", "b"}, node: "b",
			volumes: []*corev1.PersistentVolume{makeVolume("v", "1Gi", inClass("local"), at("a"), madeLocally, claimedBy("c", "uid-c"), going)},
			want:    "write volume= node=b provisioner=windlass.dev/local; " + fmt.Sprintf(waitsFor, "windlass.dev/local")},
		{name: "at once, on the node with the fewest", claim: makeClaim("c", "1Gi", ofClass("now")), class: immediate, nodes: []string{"a", "b"},
			volumes: []*corev1.PersistentVolume{makeVolume("v", "1Gi", at("a"), madeLocally, claimedBy("d", "uid-d"))},
			want:    "write volume= node=b provisioner=windlass.dev/local; " + fmt.Sprintf(waitsFor, "windlass.dev/local")},
		{name: "where the class allows it", claim: makeClaim("c", "1Gi", ofClass("now")), class: limited, nodes: []string{"a", "b"},
			want: "write volume= node=b provisioner=windlass.dev/local; " + fmt.Sprintf(waitsFor, "windlass.dev/local")},
		{name: "nowhere", claim: makeClaim("c", "1Gi", ofClass("now")), class: limited, nodes: []string{"a"},
			want: "Warning ProvisioningFailed: no node is ready that the class allows volumes on"},

		{name: "the volume that it names", claim: makeClaim("c", "1Gi", wanting("v")), volumes: []*corev1.PersistentVolume{makeVolume("a", "1Gi"), makeVolume("v", "2Gi")},
			want: "bind v; write volume=v node= provisioner=; Bound 2Gi"},
		{name: "which does not exist", claim: makeClaim("c", "1Gi", wanting("v")), want: `Warning FailedBinding: persistent volume "v" not found`},
		{name: "which is too small", claim: makeClaim("c", "2Gi", wanting("v")), volumes: []*corev1.PersistentVolume{makeVolume("v", "1Gi")},
			want: `Warning VolumeMismatch: Cannot bind to requested volume "v": requested PV is too small`},
		{name: "which another has", claim: makeClaim("c", "1Gi", wanting("v")), volumes: []*corev1.PersistentVolume{makeVolume("v", "1Gi", claimedBy("d", "uid-d"))},
			want: `Warning FailedBinding: volume "v" already bound to a different claim.`},

		{name: "cut short between the two writes", claim: makeClaim("c", "1Gi"),
			volumes: []*corev1.PersistentVolume{makeVolume("a", "1Gi"), makeVolume("v", "5Gi", claimedBy("c", "uid-c"), byController)},
			want:    "write volume=v node= provisioner=; Bound 5Gi"},
		{name: "bound", claim: makeClaim("c", "1Gi", boundClaim("v", "1Gi")), volumes: []*corev1.PersistentVolume{makeVolume("v", "1Gi", claimedBy("c", "uid-c"))}},
		{name: "its volume has grown", claim: makeClaim("c", "2Gi", boundClaim("v", "1Gi")), volumes: []*corev1.PersistentVolume{makeVolume("v", "2Gi", madeLocally, claimedBy("c", "uid-c"))},
			want: "Bound 2Gi"},
		{name: "its volume is to grow, and somebody else has to make it", claim: makeClaim("c", "2Gi", boundClaim("v", "1Gi")), volumes: []*corev1.PersistentVolume{makeVolume("v", "1Gi", claimedBy("c", "uid-c"))},
			want: "Warning ExternalExpanding: waiting for an external controller to expand this PVC"},
		{name: "its volume is gone", claim: makeClaim("c", "1Gi", boundClaim("v", "1Gi")),
			want: "Lost 0; Warning ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!"},
		{name: "its volume is another's", claim: makeClaim("c", "1Gi", boundClaim("v", "1Gi")), volumes: []*corev1.PersistentVolume{makeVolume("v", "1Gi", claimedBy("d", "uid-d"))},
			want: "Lost 0; Warning ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly"},
		{name: "it is being deleted before it had a volume", claim: makeClaim("c", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &metav1.Time{} }),
			volumes: []*corev1.PersistentVolume{makeVolume("v", "1Gi")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			facts := claimFacts{Volumes: test.volumes, Class: test.class, Consumer: test.pod}
			for _, name := range test.nodes {
				facts.Nodes = append(facts.Nodes, makeNode(name))
				if name == test.node {
					facts.Node = makeNode(name)
				}
			}
			before := test.claim.DeepCopy()
			got := planClaim(test.claim, facts)
			if got.show() != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got.show(), test.want)
			}
			if got.Why == "" && test.want != "" || before.String() != test.claim.String() {
				t.Errorf("no reason, or the claim was changed: %q", got.Why)
			}
		})
	}
}

// TestClaimsOfNode: a claim is looked at when the node that is selected for it goes,
// though it was ready when it was last seen.
func TestClaimsOfNode(t *testing.T) {
	reader := fake.NewClientBuilder().WithObjects(makeClaim("c", "1Gi", ofClass("local"), onNode("a")), makeClaim("d", "1Gi", ofClass("local"), onNode("b"))).Build()
	gone := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
	if got := claimsOfNode(t.Context(), reader, gone); len(got) != 1 || got[0].Name != "c" {
		t.Errorf("looks at %v, want c", got)
	}
}
