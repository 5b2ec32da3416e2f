package server

import (
	"net/netip"
	"strings"
	"testing"

	"windlass.dev/windlass/internal/image"
)

func TestOptions(t *testing.T) {
	base := func() Options {
		return Options{
			NodeOptions: NodeOptions{DataDir: t.TempDir(), NodeName: "node"},
			PodRange:    netip.MustParsePrefix("10.42.0.0/16"), ServiceRange: netip.MustParsePrefix("10.43.0.0/16"),
		}
	}
	for _, test := range []struct {
		name   string
		change func(*Options)
		want   string // in the error; "" is none
	}{
		{"the defaults", func(*Options) {}, ""},
		{"overlap", func(o *Options) { o.ServiceRange = netip.MustParsePrefix("10.42.8.0/24") }, "overlap"},
		{"small pod range", func(o *Options) { o.PodRange = netip.MustParsePrefix("10.42.0.0/25") }, "--pod-range 10.42.0.0/25"},
		{"small service range", func(o *Options) { o.ServiceRange = netip.MustParsePrefix("10.43.0.0/30") }, "--service-range 10.43.0.0/30"},
		{"hollow nodes", func(o *Options) { o.HollowNodes = 256 }, ""},
		{"too many hollow nodes", func(o *Options) { o.HollowNodes = 257 }, "a number from 1 to 256"},
		{"fewer than none", func(o *Options) { o.HollowNodes = -1 }, "--hollow-nodes -1"},
		{"label", func(o *Options) { o.NodeLabels = map[string]string{"zone": "not a label"} }, "--node-label zone=not a label"},
		{"node name", func(o *Options) { o.NodeName = "Node_1" }, `"Node_1"`},
		{"image thresholds", func(o *Options) { o.ImageGC = &image.Thresholds{High: 101} }, "--image-gc-high-threshold 101"},
	} {
		o := base()
		test.change(&o)
		err := o.complete()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// TestAgentOptions: what holds of any node holds of one that joins.
func TestAgentOptions(t *testing.T) {
	o := AgentOptions{NodeOptions: NodeOptions{DataDir: t.TempDir(), NodeName: "node", ImageGC: &image.Thresholds{High: 101}}}
	if err := o.complete(); err == nil || !strings.Contains(err.Error(), "--image-gc-high-threshold 101") {
		t.Errorf("image thresholds that cannot be: %v", err)
	}
}
