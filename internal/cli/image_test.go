package cli

import "testing"

func TestSplitTag(t *testing.T) {
	for name, want := range map[string][2]string{
		"docker.io/library/httpd:2.2.31": {"docker.io/library/httpd", "2.2.31"},
		"localhost:5000/app":             {"localhost:5000/app", "<none>"},
		"localhost:5000/app:v1":          {"localhost:5000/app", "v1"},
		"<none>:<none>":                  {"<none>", "<none>"},
	} {
		if repository, tag := splitTag(name); [2]string{repository, tag} != want {
			t.Errorf("%s: %s and %s, want %v", name, repository, tag, want)
		}
	}
}
