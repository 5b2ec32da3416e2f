package apiserver

import (
	"strings"

	apimachineryversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/component-base/compatibility"
	baseversion "k8s.io/component-base/version"
)

// kubernetesVersion is the version of Kubernetes' API that is served: that of the
// k8s.io modules which this is built from.
const kubernetesVersion = "1.37.2"

// effectiveVersion is the version of the API as /version tells it. The linker sets
// k8s.io/component-base/version's variables; without it they are told from here.
type effectiveVersion struct {
	compatibility.EffectiveVersion
	info apimachineryversion.Info
}

func newEffectiveVersion(fallback string) effectiveVersion {
	info := baseversion.Get()
	if strings.HasPrefix(info.GitVersion, "v0.0.0-master") {
		if fallback == "" {
			fallback = "v" + kubernetesVersion + "+windlass"
		}
		numbers := strings.Split(kubernetesVersion, ".")
		info.Major, info.Minor = numbers[0], numbers[1]
		info.GitVersion, info.GitCommit = fallback, ""
	}
	return effectiveVersion{
		EffectiveVersion: compatibility.NewEffectiveVersionFromString(kubernetesVersion, "", ""),
		info:             info,
	}
}

// Version is the version of Kubernetes' API that is served, as /version tells it.
func Version() string { return newEffectiveVersion("").info.GitVersion }

// Info implements compatibility.EffectiveVersion.
func (v effectiveVersion) Info() *apimachineryversion.Info { return &v.info }
