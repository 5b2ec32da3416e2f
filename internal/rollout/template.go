package rollout

import (
	"encoding/binary"
	"encoding/json"
	"hash/fnv"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hashAlphabet has the letters and digits that Kubernetes uses in generated
// names: none that spell words, none that look alike.
const hashAlphabet = "bcdfghjklmnpqrstvwxz2456789"

// hashLength is the number of letters in a template's hash.
const hashLength = 10

// templateHash returns the value of the label pod-template-hash for a pod
// template: ten letters that are safe in names and labels. The label itself does
// not count. Equal templates have equal hashes in every version of Windlass as
// long as their JSON is the same; when that changes, nothing is rolled, because
// sets are found by SameTemplate. The collision count is that of the
// Deployment's status; each value gives another hash.
func templateHash(template *corev1.PodTemplateSpec, collisionCount *int32) string {
	bare := withoutHash(template)
	encoded, err := json.Marshal(&bare)
	if err != nil {
		panic("rollout: pod template is not representable in JSON: " + err.Error()) // it came from JSON
	}
	h := fnv.New64a()
	h.Write(encoded)
	if collisionCount != nil {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(*collisionCount)))
	}
	return letters(h.Sum64())
}

// letters returns a number as letters that are safe in names and labels.
func letters(sum uint64) string {
	out := make([]byte, hashLength)
	for i := range out {
		out[i] = hashAlphabet[sum%uint64(len(hashAlphabet))]
		sum /= uint64(len(hashAlphabet))
	}
	return string(out)
}

// SameTemplate says whether two pod templates make the same pods: whether they
// are semantically equal but for the label pod-template-hash.
func SameTemplate(a, b *corev1.PodTemplateSpec) bool {
	bareA, bareB := withoutHash(a), withoutHash(b)
	return equality.Semantic.DeepEqual(&bareA, &bareB)
}

// withoutHash returns a shallow copy of a template without the hash label.
func withoutHash(template *corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	out := *template
	out.Labels = without(template.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return out
}

// newReplicaSet returns the set that runs a Deployment's template under a hash.
func newReplicaSet(deployment *appsv1.Deployment, hash string, replicas int32, annotations map[string]string) *appsv1.ReplicaSet {
	template := *deployment.Spec.Template.DeepCopy()
	template.Labels = with(template.Labels, appsv1.DefaultDeploymentUniqueLabelKey, hash)
	selector := deployment.Spec.Selector.DeepCopy()
	selector.MatchLabels = with(selector.MatchLabels, appsv1.DefaultDeploymentUniqueLabelKey, hash)
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name:            replicaSetName(deployment, hash),
			Namespace:       deployment.Namespace,
			Labels:          with(template.Labels, appsv1.DefaultDeploymentUniqueLabelKey, hash),
			Annotations:     annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(deployment, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas:        &replicas,
			MinReadySeconds: deployment.Spec.MinReadySeconds,
			Selector:        selector,
			Template:        template,
		},
	}
}

func replicaSetName(deployment *appsv1.Deployment, hash string) string {
	return deployment.Name + "-" + hash
}

// with returns a copy of m in which key has the value.
func with(m map[string]string, key, value string) map[string]string {
	out := make(map[string]string, len(m)+1)
	for k, v := range m {
		out[k] = v
	}
	out[key] = value
	return out
}

// without returns m less some keys, a copy if there is anything to leave out.
func without(m map[string]string, keys ...string) map[string]string {
	if !slices.ContainsFunc(keys, func(key string) bool { _, has := m[key]; return has }) {
		return m
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		if !slices.Contains(keys, k) {
			out[k] = v
		}
	}
	return out
}
