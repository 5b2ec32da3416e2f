package foresight

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Refusals puts what an API server says against an object into findings: one
// for each field, with the value and what would mend it.
func Refusals(status *metav1.Status) []Finding {
	if status == nil {
		return []Finding{{What: "the API server refuses it"}}
	}
	var out []Finding
	if status.Details != nil && status.Reason == metav1.StatusReasonInvalid {
		for _, cause := range status.Details.Causes {
			out = append(out, refusal(cause))
		}
	}
	if len(out) == 0 {
		f := Finding{What: status.Message}
		_, strict, unknown := strings.Cut(status.Message, "strict decoding error: ")
		switch {
		case unknown:
			f.What, f.Mend = strict, "correct the fields, or leave them out"
		case status.Reason == metav1.StatusReasonNotFound && status.Details != nil && status.Details.Kind == "namespaces":
			f.Mend = "kubectl create namespace " + status.Details.Name
		}
		out = append(out, f)
	}
	return out
}

// refusal parts a cause as the API server words it: what kind of error, the
// value, and why.
func refusal(cause metav1.StatusCause) Finding {
	f := Finding{What: cause.Message, Field: cause.Field}
	for _, kind := range []string{"Invalid value: ", "Unsupported value: ", "Duplicate value: "} {
		rest, ok := strings.CutPrefix(cause.Message, kind)
		if !ok {
			continue
		}
		f.Value, f.What = rest, strings.ToLower(strings.TrimSuffix(kind, ": "))
		if value, why, ok := cutValue(rest); ok {
			f.Value, f.What = value, why
		}
	}
	f.Value = strings.Trim(f.Value, `"`)
	f.Mend = mendField(cause.Field, f.What)
	return f
}

// cutValue parts a value as JSON or in quotes from what follows it after a colon.
func cutValue(s string) (value, why string, ok bool) {
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		case depth == 0 && strings.HasPrefix(s[i:], ": "):
			return s[:i], s[i+2:], true
		}
	}
	return s, "", false
}

// mendField says what would mend a field.
func mendField(field, why string) string {
	switch {
	case strings.HasPrefix(field, "spec.selector") && strings.Contains(why, "immutable"):
		return "keep the selector; or delete the Deployment and create it anew (kubectl replace --force), which stops all of its pods"
	case strings.Contains(why, "immutable"):
		return "keep the value; or delete the object and create it anew"
	case strings.Contains(why, "`selector` does not match template `labels`"):
		return "give the template all labels of spec.selector.matchLabels"
	case strings.Contains(field, "progressDeadlineSeconds"):
		return "raise progressDeadlineSeconds above minReadySeconds"
	case strings.Contains(field, "maxUnavailable") && strings.Contains(why, "maxSurge"):
		return "let maxSurge or maxUnavailable be at least 1"
	case strings.HasPrefix(why, "Required value"):
		return "set the field"
	}
	return "correct the field"
}
