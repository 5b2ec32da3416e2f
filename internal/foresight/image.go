package foresight

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
)

// reportedImages is how many images a node's status tells of at most: an image
// that is not among so many may be there all the same.
const reportedImages = 50

// use is an image that a pod needs.
type use struct {
	container, image string
	policy           corev1.PullPolicy
	field            string
}

func usesOf(spec *corev1.PodSpec) []use {
	var out []use
	for _, list := range []struct {
		name       string
		containers []corev1.Container
	}{{"initContainers", spec.InitContainers}, {"containers", spec.Containers}} {
		for _, c := range list.containers {
			out = append(out, use{c.Name, c.Image, c.ImagePullPolicy, fmt.Sprintf("spec.template.spec.%s[%s].image", list.name, c.Name)})
		}
	}
	return out
}

// ToPull returns the images of the new pods that some node must pull: those to
// ask a registry for.
func ToPull(facts *Facts) []string {
	if facts.After == nil {
		return nil
	}
	var out []string
	for _, u := range usesOf(&facts.After.Spec.Template.Spec) {
		_, without := holders(facts, u.image)
		pull := u.policy == corev1.PullAlways || u.policy != corev1.PullNever && len(without) > 0
		if pull && normal(u.image) != "" && !slices.Contains(out, u.image) {
			out = append(out, u.image)
		}
	}
	return out
}

// newImages returns the images that must be pulled for the new pods but were not
// for the old ones.
func newImages(facts *Facts) []string {
	return slices.DeleteFunc(ToPull(facts), func(image string) bool {
		return facts.Before != nil && slices.ContainsFunc(usesOf(&facts.Before.Spec.Template.Spec), func(u use) bool { return u.image == image })
	})
}

// holders returns the names of the nodes that may run the pods, by whether they
// have an image.
func holders(facts *Facts, image string) (with, without []string) {
	name := normal(image)
	for _, node := range hosts(facts) {
		has := slices.ContainsFunc(node.Status.Images, func(i corev1.ContainerImage) bool {
			return slices.ContainsFunc(i.Names, func(n string) bool { return normal(n) == name })
		})
		switch {
		case has:
			with = append(with, node.Name)
		case len(node.Status.Images) < reportedImages:
			without = append(without, node.Name)
		}
	}
	return with, without
}

// imageID is what Docker takes for the ID of an image, and never for a name.
var imageID = regexp.MustCompile(`^(sha256:)?[0-9a-f]{64}$`)

// normal is an image's name in full, by Docker's rules; "" when it is none, as an
// ID is not.
func normal(image string) string {
	if imageID.MatchString(image) {
		return ""
	}
	named, err := reference.ParseDockerRef(image)
	if err != nil {
		return ""
	}
	return named.String()
}

// named lists nodes, the first few by their names.
func named(nodes []string) string {
	switch n := len(nodes); {
	case n == 1:
		return "node " + nodes[0]
	case n > maxDetails:
		return fmt.Sprintf("nodes %s and %d more", strings.Join(nodes[:maxDetails], ", "), n-maxDetails)
	}
	return "nodes " + strings.Join(nodes, ", ")
}

// missingImages finds images that the new pods need and do not get.
func missingImages(facts *Facts) (blocks, warnings []Finding) {
	for _, u := range usesOf(&facts.After.Spec.Template.Spec) {
		f := Finding{Field: u.field, Value: u.image}
		with, without := holders(facts, u.image)
		answer, asked := facts.Registry[u.image]
		switch {
		case normal(u.image) == "":
			f.What = fmt.Sprintf("image %s is no name: whether the nodes have it is not known", u.image)
			warnings = append(warnings, f)
		case u.policy == corev1.PullNever && len(without) > 0:
			f.What = fmt.Sprintf("image %s is not on %s, and imagePullPolicy Never keeps it from being pulled", u.image, named(without))
			f.Mend = fmt.Sprintf("windlass image load on the node, or imagePullPolicy IfNotPresent for container %s", u.container)
			if len(with) > 0 {
				warnings = append(warnings, f)
				continue
			}
			blocks = append(blocks, f)
		case !asked || answer.Presence == Present:
		case answer.Presence == Absent:
			f.What = fmt.Sprintf("image %s is not in its registry: %s", u.image, answer.Why)
			f.Mend = "correct the name, push the image, or windlass image load it on the node"
			if u.policy != corev1.PullAlways && len(with) > 0 {
				f.What += fmt.Sprintf("; pods on %s do not start", named(without))
				warnings = append(warnings, f)
				continue
			}
			blocks = append(blocks, f)
		default:
			f.What = fmt.Sprintf("image %s is not on %s, and its registry could not be asked from here: %s",
				u.image, named(without), answer.Why)
			if u.policy == corev1.PullAlways {
				f.What = fmt.Sprintf("image %s is pulled for each pod, and its registry could not be asked from here: %s", u.image, answer.Why)
			}
			f.Mend = "make sure that the node reaches the registry, or windlass image load it there"
			warnings = append(warnings, f)
		}
	}
	return blocks, warnings
}
