package environment

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// MaxFile is the size in bytes of the largest file that variables are taken from.
const MaxFile = 64 << 10

// fileKey returns the variable of a file that ref names, and whether it is there.
func fileKey(ref *corev1.FileKeySelector, source Source) (string, bool, error) {
	optional := ref.Optional != nil && *ref.Optional
	content, err := source.File(ref.VolumeName, ref.Path)
	if missing(err, ref.Optional) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	variables, err := parseFile(string(content))
	if err != nil {
		return "", false, fmt.Errorf("environment file %q of volume %q: %w", ref.Path, ref.VolumeName, err)
	}
	value, ok := variables[ref.Key]
	if !ok && !optional {
		return "", false, fmt.Errorf("environment variable key %q not found in file %q of volume %q", ref.Key, ref.Path, ref.VolumeName)
	}
	return value, ok, nil
}

// parseFile reads variables, NAME='value', in the form that
// https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-via-file/#env-file-syntax
// describes: a value is what is between single quotes, line breaks included; empty
// lines and those that begin with # say nothing. A later variable replaces an earlier one.
func parseFile(text string) (map[string]string, error) {
	variables := map[string]string{}
	for line := 1; text != ""; {
		first, rest, _ := strings.Cut(text, "\n")
		if trimmed := strings.TrimSpace(first); trimmed == "" || trimmed[0] == '#' {
			text = rest
			line++
			continue
		}
		name, value, ok := strings.Cut(text, "=")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(name, " \t\n'\"\x00") {
			return nil, fmt.Errorf("line %d: want NAME='value'", line)
		}
		value = strings.TrimLeft(value, " \t")
		if !strings.HasPrefix(value, "'") {
			return nil, fmt.Errorf("line %d: the value of %s must be in single quotes", line, name)
		}
		value, after, ok := strings.Cut(value[1:], "'")
		switch {
		case !ok:
			return nil, fmt.Errorf("line %d: the value of %s has no closing quote", line, name)
		case strings.Contains(value, "\x00"):
			return nil, errors.New("a value cannot contain a NUL")
		}
		tail, rest, _ := strings.Cut(after, "\n")
		if strings.TrimSpace(tail) != "" {
			return nil, fmt.Errorf("line %d: nothing may come after the closing quote of %s", line, name)
		}
		variables[name] = value
		line += strings.Count(value, "\n") + 1
		text = rest
	}
	return variables, nil
}
