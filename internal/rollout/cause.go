package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"windlass.dev/windlass/api/v1alpha1"
)

const (
	// maxCauses is how many changes a cause names, and maxCauseValue bounds, in
	// bytes, each value in it.
	maxCauses     = 3
	maxCauseValue = 64

	restartedAt = "metadata.annotations[kubectl.kubernetes.io/restartedAt]"
)

// CauseOf puts changes into a line for CHANGE-CAUSE: images first, restarts
// last, at most three, and how many more there are. It is empty for no changes.
func CauseOf(changes []v1alpha1.FieldChange) string {
	ordered := slices.Clone(changes)
	slices.SortStableFunc(ordered, func(a, b v1alpha1.FieldChange) int { return cmp.Compare(causeRank(a), causeRank(b)) })
	var causes []string
	for _, change := range ordered {
		if cause := causeOf(change); !slices.Contains(causes, cause) {
			causes = append(causes, cause)
		}
	}
	if more := len(causes) - maxCauses; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(causes[:maxCauses], ", "), more)
	}
	return strings.Join(causes, ", ")
}

func causeRank(change v1alpha1.FieldChange) int {
	if _, ok := imageOf(change.Path); ok {
		return 0
	}
	if change.Path == restartedAt {
		return 2
	}
	return 1
}

// causeOf puts one change into words.
func causeOf(change v1alpha1.FieldChange) string {
	if change.Path == restartedAt {
		if change.To < change.From { // RFC 3339 times, or none
			return "restart undone"
		}
		return "restart"
	}
	from, to := plain(change.From), plain(change.To)
	if container, ok := imageOf(change.Path); ok {
		return "image " + imageCause(container, from, to)
	}
	name := plain(shortPath(change.Path))
	switch {
	case from == "" && (long(to) || strings.HasSuffix(name, "]")):
		return name + " added"
	case from == "":
		return name + " set to " + to
	case to == "":
		return name + " removed"
	case long(from) || long(to):
		return name + " changed"
	}
	return name + " " + from + " → " + to
}

// plain makes a text fit into a line.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// long says whether a value is too long, or too much, for a line.
func long(value string) bool {
	return len(value) > maxCauseValue || strings.HasPrefix(value, "{") || strings.HasPrefix(value, "[")
}

// imageOf returns the name of the container whose image a path is.
func imageOf(path string) (container string, ok bool) {
	list, rest, found := strings.Cut(path, "[")
	if !found || list != "spec.containers" && list != "spec.initContainers" {
		return "", false
	}
	container, ok = strings.CutSuffix(rest, "].image")
	return container, ok && !strings.Contains(container, "]")
}

// imageCause says how the image of a container changed: by its tag alone, or by
// its repository too.
func imageCause(container, from, to string) string {
	if from == "" {
		return to
	}
	repository, was := splitImage(from)
	other, is := splitImage(to)
	if repository != other || was == is {
		return container + ": " + from + " → " + to
	}
	return repository[strings.LastIndex(repository, "/")+1:] + " " + was + " → " + is
}

// splitImage splits an image's name into repository and tag, or the beginning of
// the digest when it has no tag.
func splitImage(image string) (repository, version string) {
	name, digest, _ := strings.Cut(image, "@")
	at := strings.LastIndex(name, ":")
	switch {
	case at > strings.LastIndex(name, "/"):
		return name[:at], name[at+1:]
	case digest != "":
		return name, digest[:min(len(digest), len("sha256:")+12)]
	}
	return name, "latest"
}

// shortPath is a path without what can be guessed.
func shortPath(path string) string {
	path = strings.TrimPrefix(path, "spec.")
	if list, rest, ok := strings.Cut(path, "["); ok && (list == "containers" || list == "initContainers") {
		name, field, deep := strings.Cut(rest, "].")
		if !deep {
			return "container " + strings.TrimSuffix(name, "]")
		}
		path = field
	}
	for _, kind := range []struct{ path, name string }{
		{"env", "env "}, {"metadata.labels", "label "}, {"metadata.annotations", "annotation "},
	} {
		rest, ok := strings.CutPrefix(path, kind.path)
		if ok && rest != "" && (rest[0] == '[' || rest[0] == '.') {
			return kind.name + strings.Replace(strings.TrimSuffix(rest[1:], ".value"), "]", "", 1)
		}
	}
	return path
}
