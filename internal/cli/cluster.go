package cli

import (
	"fmt"
	"io"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	clientgo "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"windlass.dev/windlass/api/v1alpha1"
)

// cluster is where a command finds the API: as kubectl does, by KUBECONFIG and
// the same flags.
type cluster struct {
	flags *genericclioptions.ConfigFlags
}

// connection is the API of a cluster, and the namespace to work in.
type connection struct {
	config    *rest.Config
	namespace string
	scheme    *runtime.Scheme
	mapper    meta.RESTMapper
	client    client.Client
}

// clusterFlags adds kubectl's flags to a command and its children. Help shows
// those that most need.
func clusterFlags(cmd *cobra.Command) *cluster {
	c := &cluster{genericclioptions.NewConfigFlags(true)}
	own := cmd.PersistentFlags()
	c.flags.AddFlags(own)
	for _, name := range []string{
		"as", "as-group", "as-uid", "as-user-extra", "cache-dir", "certificate-authority", "client-certificate", "client-key", "cluster",
		"disable-compression", "insecure-skip-tls-verify", "password", "proxy-url", "request-timeout", "server", "tls-server-name", "token", "user", "username",
	} {
		if own.Lookup(name) != nil {
			_ = own.MarkHidden(name) // it is there
		}
	}
	return c
}

// connect makes a client of the cluster.
func (c *cluster) connect() (*connection, error) {
	// What the client libraries have to say would be in the way of what is printed.
	log.SetLogger(logr.Discard())
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)

	conn := &connection{scheme: runtime.NewScheme()}
	for _, add := range []func(*runtime.Scheme) error{clientgo.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(conn.scheme); err != nil {
			return nil, fmt.Errorf("know the kinds: %w", err)
		}
	}
	var err error
	if conn.namespace, _, err = c.flags.ToRawKubeConfigLoader().Namespace(); err != nil {
		return nil, err
	}
	if conn.config, err = c.flags.ToRESTConfig(); err != nil {
		return nil, err
	}
	conn.config.UserAgent = "windlass/" + version
	if conn.mapper, err = c.flags.ToRESTMapper(); err != nil {
		return nil, err
	}
	conn.client, err = client.New(conn.config, client.Options{Scheme: conn.scheme, Mapper: conn.mapper})
	return conn, err
}
