package fit

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

func makeClaim(name, class string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class,
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func boundTo(name string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName = name
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, volume.AnnBindCompleted, "yes")
	}
}

func selected(node string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) {
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, volume.AnnSelectedNode, node)
	}
}

func onlyOnePod(c *corev1.PersistentVolumeClaim) {
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
}

func makeVolume(name, class, node string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
			}}}},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable},
	}
}

func madeFor(claim string, v *corev1.PersistentVolume) *corev1.PersistentVolume {
	v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: claim, UID: makeClaim(claim, "local").UID}
	return v
}

func using(claims ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, name := range claims {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}})
		}
	}
}

func bringing(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}})
	}
}

// TestDecideStorage: which nodes a pod's claims allow, and which claims get their
// volume on the node that is chosen; refusals in Kubernetes' words.
func TestDecideStorage(t *testing.T) {
	waits, now := storagev1.VolumeBindingWaitForFirstConsumer, storagev1.VolumeBindingImmediate
	classes := []*storagev1.StorageClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "local"}, Provisioner: "windlass.dev/local", VolumeBindingMode: &waits},
		{ObjectMeta: metav1.ObjectMeta{Name: "hand"}, Provisioner: volume.NotSupportedProvisioner, VolumeBindingMode: &waits},
		{ObjectMeta: metav1.ObjectMeta{Name: "now"}, Provisioner: "windlass.dev/local", VolumeBindingMode: &now},
		{ObjectMeta: metav1.ObjectMeta{Name: "only-b"}, Provisioner: "windlass.dev/local", VolumeBindingMode: &waits,
			AllowedTopologies: []corev1.TopologySelectorTerm{{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: corev1.LabelHostname, Values: []string{"b"}}}}}},
	}
	for _, test := range []struct {
		name    string
		claims  []*corev1.PersistentVolumeClaim
		volumes []*corev1.PersistentVolume
		there   []*corev1.Pod
		pod     *corev1.Pod
		want    string // "node: claims that get a volume there" or the message
	}{
		{name: "no claim", pod: makePod("p", using("c")),
			want: `0/2 nodes are available: persistentvolumeclaim "c" not found. To mend: create claim c in namespace default.`},
		{name: "one of the pod's own, not yet made", pod: makePod("p", bringing("v")),
			want: `0/2 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim "p-v". To mend: it takes a moment.`},
		{name: "somebody else's in its place", claims: []*corev1.PersistentVolumeClaim{makeClaim("p-v", "local")}, pod: makePod("p", bringing("v")),
			want: "0/2 nodes are available: PVC default/p-v was not created for pod default/p (pod is not owner). To mend: delete claim p-v, or rename the pod or its volume."},
		{name: "being deleted", claims: []*corev1.PersistentVolumeClaim{makeClaim("c", "local", func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = ptr.To(metav1.Now()) })}, pod: makePod("p", using("c")),
			want: `0/2 nodes are available: persistentvolumeclaim "c" is being deleted. To mend: create it again when it is gone.`},
		{name: "not bound, and not for a pod to wait for", claims: []*corev1.PersistentVolumeClaim{makeClaim("c", "now")}, pod: makePod("p", using("c")),
			want: "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. To mend: see what claim c waits for: kubectl describe pvc c -n default."},
		{name: "a new volume can be anywhere", claims: []*corev1.PersistentVolumeClaim{makeClaim("c", "local")}, pod: makePod("p", using("c")), want: "a: c"},
		{name: "the data is on a node", claims: []*corev1.PersistentVolumeClaim{makeClaim("c", "local", boundTo("v"))}, volumes: []*corev1.PersistentVolume{makeVolume("v", "local", "b")},
			pod: makePod("p", using("c")), want: "b: "},
		{name: "the data is on a node that is not there", claims: []*corev1.PersistentVolumeClaim{makeClaim("c", "local", boundTo("v"))}, volumes: []*corev1.PersistentVolume{makeVolume("v", "local", "z")},
			pod:  makePod("p", using("c")),
			want: "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity. To mend: the data of volume v is on another node: bring that one back or make room on it."},
		{name: "the volume is gone", claims: []*corev1.PersistentVolumeClaim{makeClaim("c", "local", boundTo("v"))}, pod: makePod("p", using("c")),
			want: "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s). To mend: create the claim anew; its data is lost."},
		{name: "a volume made by hand, where it is", claims: []*corev1.PersistentVolumeClaim{makeClaim("c", "hand")}, volumes: []*corev1.PersistentVolume{makeVolume("v", "hand", "b")},
			pod: makePod("p", using("c")), want: "b: c"},
		{name: "one volume is not two", claims: []*corev1.PersistentVolumeClaim{makeClaim("c", "hand"), makeClaim("d", "hand")}, volumes: []*corev1.PersistentVolume{makeVolume("v", "hand", "b")},
			pod: makePod("p", using("c", "d")),
			want: "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind. " +
				"To mend: make a volume for claim c (class hand) on node a."},
		{name: "both volumes are there", claims: []*corev1.PersistentVolumeClaim{makeClaim("c", "hand"), makeClaim("d", "hand")},
			volumes: []*corev1.PersistentVolume{makeVolume("v", "hand", "b"), makeVolume("w", "hand", "b")}, pod: makePod("p", using("c", "d")), want: "b: c d"},
		{name: "where the class allows it", claims: []*corev1.PersistentVolumeClaim{makeClaim("c", "only-b")}, pod: makePod("p", using("c")), want: "b: c"},
		{name: "where it was selected", claims: []*corev1.PersistentVolumeClaim{makeClaim("c", "local", selected("b"))}, pod: makePod("p", using("c")), want: "b: c"},
		{name: "where its volume was made, though another node was selected after that", claims: []*corev1.PersistentVolumeClaim{makeClaim("c", "local", selected("a"))},
			volumes: []*corev1.PersistentVolume{madeFor("c", makeVolume("v", "local", "b"))}, pod: makePod("p", using("c")), want: "b: c"},
		{name: "one pod only", claims: []*corev1.PersistentVolumeClaim{makeClaim("c", "local", boundTo("v"), onlyOnePod)}, volumes: []*corev1.PersistentVolume{makeVolume("v", "local", "b")},
			there: []*corev1.Pod{makePod("q", using("c"), on("b"))}, pod: makePod("p", using("c")),
			want: "0/2 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode, 1 node(s) didn't match PersistentVolume's node affinity. " +
				"To mend: pod default/q uses claim c, which allows one pod; the data of volume v is on another node: bring that one back or make room on it."},
		{name: "pods of one node share what one node may have", claims: []*corev1.PersistentVolumeClaim{makeClaim("c", "local", boundTo("v"))}, volumes: []*corev1.PersistentVolume{makeVolume("v", "local", "b")},
			there: []*corev1.Pod{makePod("q", using("c"), on("b"))}, pod: makePod("p", using("c")), want: "b: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := NewCluster()
			c.SetNode(makeNode("a"))
			c.SetNode(makeNode("b"))
			for _, class := range classes {
				c.SetClass(class)
			}
			for _, claim := range test.claims {
				c.SetClaim(claim)
			}
			for _, v := range test.volumes {
				c.SetVolume(v)
			}
			for _, p := range test.there {
				c.SetPod(NewPod(p))
			}
			d := c.Decide(NewPod(test.pod))
			got := d.Why
			if d.Node != "" {
				got = d.Node + ":"
				for _, claim := range d.Claims {
					got += " " + claim.Name
				}
				if len(d.Claims) == 0 {
					got += " "
				}
			}
			if got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}
