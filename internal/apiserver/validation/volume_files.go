package validation

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds of what is asked for in a volume's behalf, in seconds: tokens live from ten
// minutes to 2^32 seconds, certificates from one hour to 91 days.
const (
	minTokenSeconds       = 10 * 60
	maxTokenSeconds       = 1 << 32
	minCertificateSeconds = 3600
	maxCertificateSeconds = 91 * 24 * 3600
)

func secretVolume(fld *field.Path, secret *corev1.SecretVolumeSource) field.ErrorList {
	errs := requireText(fld.Child("secretName"), secret.SecretName)
	errs = append(errs, fileMode(fld.Child("defaultMode"), secret.DefaultMode)...)
	errs = append(errs, userID(fld.Child("defaultUser"), secret.DefaultUser)...)
	return append(errs, keysToPaths(fld.Child("items"), secret.Items)...)
}

func configMapVolume(fld *field.Path, configMap *corev1.ConfigMapVolumeSource) field.ErrorList {
	errs := requireText(fld.Child("name"), configMap.Name)
	errs = append(errs, fileMode(fld.Child("defaultMode"), configMap.DefaultMode)...)
	errs = append(errs, userID(fld.Child("defaultUser"), configMap.DefaultUser)...)
	return append(errs, keysToPaths(fld.Child("items"), configMap.Items)...)
}

// keysToPaths returns the faults of the files that keys of an object become.
func keysToPaths(fld *field.Path, items []corev1.KeyToPath) field.ErrorList {
	var errs field.ErrorList
	for i, item := range items {
		at := fld.Index(i)
		errs = append(errs, requireText(at.Child("key"), item.Key)...)
		errs = append(errs, filePath(at.Child("path"), item.Path)...)
		errs = append(errs, fileMode(at.Child("mode"), item.Mode)...)
		errs = append(errs, userID(at.Child("user"), item.User)...)
	}
	return errs
}

func downwardAPIVolume(fld *field.Path, downward *corev1.DownwardAPIVolumeSource) field.ErrorList {
	errs := fileMode(fld.Child("defaultMode"), downward.DefaultMode)
	errs = append(errs, userID(fld.Child("defaultUser"), downward.DefaultUser)...)
	return append(errs, downwardAPIFiles(fld.Child("items"), downward.Items)...)
}

// downwardAPIFiles returns the faults of the files that fields of the pod become.
func downwardAPIFiles(fld *field.Path, files []corev1.DownwardAPIVolumeFile) field.ErrorList {
	var errs field.ErrorList
	for i, file := range files {
		at := fld.Index(i)
		errs = append(errs, filePath(at.Child("path"), file.Path)...)
		errs = append(errs, fileMode(at.Child("mode"), file.Mode)...)
		errs = append(errs, userID(at.Child("user"), file.User)...)
		if file.FieldRef != nil {
			errs = append(errs, podField(at.Child("fieldRef"), file.FieldRef, fileFields)...)
		}
		if ref := file.ResourceFieldRef; ref != nil {
			errs = append(errs, requireText(at.Child("resourceFieldRef", "containerName"), ref.ContainerName)...)
			errs = append(errs, resourceField(at.Child("resourceFieldRef"), ref)...)
		}
		switch {
		case file.FieldRef == nil && file.ResourceFieldRef == nil:
			errs = append(errs, field.Required(at, "one of fieldRef and resourceFieldRef is required"))
		case file.FieldRef != nil && file.ResourceFieldRef != nil:
			errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		}
	}
	return errs
}

// projectedVolume returns the faults of a volume that several sources fill with files, each
// file by one source only.
func projectedVolume(fld *field.Path, projected *corev1.ProjectedVolumeSource) field.ErrorList {
	errs := fileMode(fld.Child("defaultMode"), projected.DefaultMode)
	errs = append(errs, userID(fld.Child("defaultUser"), projected.DefaultUser)...)
	paths := sets.New[string]()
	for i := range projected.Sources {
		at := fld.Child("sources").Index(i)
		errs = append(errs, projection(at, &projected.Sources[i])...)
		for _, path := range projectedPaths(&projected.Sources[i]) {
			if path != "" && paths.Has(path) {
				errs = append(errs, field.Invalid(at, path, "conflicting duplicate paths"))
			}
			paths.Insert(path)
		}
	}
	return errs
}

func projection(fld *field.Path, p *corev1.VolumeProjection) field.ErrorList {
	return oneSource(fld, []source{
		{"secret", p.Secret != nil, func(fld *field.Path) field.ErrorList {
			return append(requireText(fld.Child("name"), p.Secret.Name), keysToPaths(fld.Child("items"), p.Secret.Items)...)
		}},
		{"configMap", p.ConfigMap != nil, func(fld *field.Path) field.ErrorList {
			return append(requireText(fld.Child("name"), p.ConfigMap.Name), keysToPaths(fld.Child("items"), p.ConfigMap.Items)...)
		}},
		{"downwardAPI", p.DownwardAPI != nil, func(fld *field.Path) field.ErrorList {
			return downwardAPIFiles(fld.Child("items"), p.DownwardAPI.Items)
		}},
		{"serviceAccountToken", p.ServiceAccountToken != nil, func(fld *field.Path) field.ErrorList {
			return tokenProjection(fld, p.ServiceAccountToken)
		}},
		{"clusterTrustBundle", p.ClusterTrustBundle != nil, func(fld *field.Path) field.ErrorList {
			return trustBundleProjection(fld, p.ClusterTrustBundle)
		}},
		{"podCertificate", p.PodCertificate != nil, func(fld *field.Path) field.ErrorList {
			return certificateProjection(fld, p.PodCertificate)
		}},
	})
}

// projectedPaths returns the paths of the files that a source names; keys that become files
// under their own names are not known here.
func projectedPaths(p *corev1.VolumeProjection) []string {
	var paths []string
	var items []corev1.KeyToPath
	switch {
	case p.Secret != nil:
		items = p.Secret.Items
	case p.ConfigMap != nil:
		items = p.ConfigMap.Items
	case p.DownwardAPI != nil:
		for _, file := range p.DownwardAPI.Items {
			paths = append(paths, file.Path)
		}
	case p.ServiceAccountToken != nil:
		paths = append(paths, p.ServiceAccountToken.Path)
	case p.ClusterTrustBundle != nil:
		paths = append(paths, p.ClusterTrustBundle.Path)
	case p.PodCertificate != nil:
		paths = append(paths, p.PodCertificate.CredentialBundlePath, p.PodCertificate.KeyPath, p.PodCertificate.CertificateChainPath)
	}
	for _, item := range items {
		paths = append(paths, item.Path)
	}
	return paths
}

func tokenProjection(fld *field.Path, token *corev1.ServiceAccountTokenProjection) field.ErrorList {
	errs := filePath(fld.Child("path"), token.Path)
	errs = append(errs, userID(fld.Child("user"), token.User)...)
	if seconds := token.ExpirationSeconds; seconds != nil && *seconds < minTokenSeconds {
		errs = append(errs, field.Invalid(fld.Child("expirationSeconds"), *seconds, "may not specify a duration less than 10 minutes"))
	} else if seconds != nil && *seconds > maxTokenSeconds {
		errs = append(errs, field.Invalid(fld.Child("expirationSeconds"), *seconds, "may not specify a duration larger than 2^32 seconds"))
	}
	return errs
}

func trustBundleProjection(fld *field.Path, bundle *corev1.ClusterTrustBundleProjection) field.ErrorList {
	errs := filePath(fld.Child("path"), bundle.Path)
	errs = append(errs, userID(fld.Child("user"), bundle.User)...)
	byName, bySigner := bundle.Name != nil, bundle.SignerName != nil
	switch {
	case byName && bySigner:
		return append(errs, field.Invalid(fld, bundle, "only one of name and signerName may be used"))
	case byName:
		errs = append(errs, requireText(fld.Child("name"), *bundle.Name)...)
		// The names of bundles of a signer begin with the signer's, with colons for slashes.
		plain := (*bundle.Name)[strings.LastIndex(*bundle.Name, ":")+1:]
		errs = append(errs, optionalFormat(fld.Child("name"), plain, isName)...)
		if bundle.LabelSelector != nil {
			errs = append(errs, field.Invalid(fld.Child("labelSelector"), bundle.LabelSelector, "labelSelector must be unset if name is specified"))
		}
	case bySigner:
		errs = append(errs, signerName(fld.Child("signerName"), *bundle.SignerName)...)
		errs = append(errs, selector(fld.Child("labelSelector"), bundle.LabelSelector)...)
	default:
		errs = append(errs, field.Required(fld, "either name or signerName must be specified"))
	}
	return errs
}

// signerName returns the faults of the name of one who signs certificates: domain/path.
func signerName(fld *field.Path, name string) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(fld, "")}
	}
	domain, path, ok := strings.Cut(name, "/")
	if !ok || path == "" || strings.Contains(path, "/") {
		return field.ErrorList{field.Invalid(fld, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	errs := validation.IsFullyQualifiedDomainName(fld, domain)
	for _, word := range strings.Split(path, ".") {
		errs = append(errs, invalidFor(fld, name, validation.IsDNS1123Label(word))...)
	}
	return errs
}

func certificateProjection(fld *field.Path, certificate *corev1.PodCertificateProjection) field.ErrorList {
	errs := signerName(fld.Child("signerName"), certificate.SignerName)
	errs = append(errs, requireChoice(fld.Child("keyType"), certificate.KeyType,
		"RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")...)
	if seconds := certificate.MaxExpirationSeconds; seconds != nil {
		errs = append(errs, inRange(fld.Child("maxExpirationSeconds"), int64(*seconds), minCertificateSeconds, maxCertificateSeconds)...)
	}
	named := 0
	for _, file := range []struct{ name, path string }{
		{"credentialBundlePath", certificate.CredentialBundlePath},
		{"keyPath", certificate.KeyPath},
		{"certificateChainPath", certificate.CertificateChainPath},
	} {
		if file.path != "" {
			named++
			errs = append(errs, filePath(fld.Child(file.name), file.path)...)
		}
	}
	if named == 0 {
		errs = append(errs, field.Required(fld, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"))
	}
	errs = append(errs, userID(fld.Child("user"), certificate.User)...)
	annotations := fld.Child("userAnnotations")
	for _, key := range slices.Sorted(maps.Keys(certificate.UserAnnotations)) {
		errs = append(errs, validation.IsDomainPrefixedKey(annotations.Key(key), key)...)
	}
	if err := apivalidation.ValidateAnnotationsSize(certificate.UserAnnotations); err != nil {
		errs = append(errs, field.TooLong(annotations, "", apivalidation.TotalAnnotationSizeLimitB))
	}
	return errs
}
