package hollow

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"windlass.dev/windlass/internal/agent"
)

func TestBehaviour(t *testing.T) {
	for _, test := range []struct {
		text    string
		want    Program
		problem string // in the error; "" is none
	}{
		{"", Program{}, ""},
		{" , ", Program{}, ""},
		{"ready-after=2s, stop-takes=1s", Program{ListenAfter: 2 * time.Second, StopTakes: time.Second}, ""},
		{"ready-after=never,stop-takes=never", Program{NeverListens: true, IgnoresStop: true}, ""},
		{"exit-after=1s,exit-code=3", Program{ExitAfter: time.Second, ExitCode: 3}, ""},
		{"exit-after=0s", Program{ExitAfter: 1}, ""},
		{"start-takes=10ms", Program{StartTakes: 10 * time.Millisecond}, ""},
		{"start-fails", Program{StartError: errors.New("start-fails")}, ""},
		{"ready-after", Program{}, "HOLLOW: ready-after needs a value: ready-after=2s"},
		{"start-fails=1", Program{}, "HOLLOW: start-fails takes no value"},
		{"exit-code=256", Program{}, `exit-code="256": give a number from 0 to 255, such as 1`},
		{"exit-after=never", Program{}, `exit-after="never": give a time that is not negative, such as 5s`},
		{"stop-takes=-1s", Program{}, `stop-takes="-1s": give a time that is not negative, or never, such as 1s`},
		{"raedy-after=1s", Program{}, `no such word: "raedy-after" (there are ready-after, start-takes, `},
	} {
		got, err := Behaviour(test.text, Program{})
		if test.problem != "" {
			if err == nil || !strings.Contains(err.Error(), test.problem) {
				t.Errorf("%q: error %v, want %q", test.text, err, test.problem)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: %+v, %v, want %+v", test.text, got, err, test.want)
		}
	}
}

func FuzzBehaviour(f *testing.F) {
	f.Add("ready-after=2s,stop-takes=never,exit-code=1,start-fails")
	f.Add("exit-after=9223372036854775807ns")
	f.Add("=,=,,")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Behaviour(text, Program{})
		if err != nil {
			if !strings.HasPrefix(err.Error(), Variable+": ") {
				t.Errorf("the error does not name its source: %v", err)
			}
			return
		}
		if p.ListenAfter < 0 || p.StopTakes < 0 || p.StartTakes < 0 || p.ExitAfter < 0 || p.ExitCode < 0 || p.ExitCode > 255 {
			t.Errorf("%q gives %+v", text, p)
		}
	})
}

func FuzzTagWord(f *testing.F) {
	f.Add("registry:5000/web:v2-crash@sha256:0")
	f.Fuzz(func(t *testing.T, ref string) {
		if word := tagWord(ref); !strings.Contains(ref, word) {
			t.Errorf("%q is not in %q", word, ref)
		}
	})
}

func TestProgramOfImageAndVariable(t *testing.T) {
	for _, test := range []struct {
		image, env string
		want       Program
	}{
		{"web:v2", "", Program{}},
		{"registry:5000/web", "", Program{}},
		{"registry:5000/web:v2-crash", "", Program{NeverListens: true, ExitAfter: 10 * time.Millisecond, ExitCode: 1}},
		{"web:unready@sha256:0", "", Program{NeverListens: true}},
		{"web:v2-unready", "HOLLOW=ready-after=1s", Program{ListenAfter: time.Second}},
		{"web:v2", "HOLLOW=exit-code=2", Program{ExitCode: 2}},
	} {
		got, err := programOf(agent.ContainerSpec{Image: test.image, Env: []string{"A=b", test.env}, Ports: []uint16{80}})
		test.want.Listens = []uint16{80}
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s %s: %+v, %v, want %+v", test.image, test.env, got, err, test.want)
		}
	}
}

// TestImages: a boundless node has every image but those whose tag says that
// there is none, and those cannot be pulled either.
func TestImages(t *testing.T) {
	images := NewBoundless(netip.MustParsePrefix("10.42.3.0/24")).Images()
	if image, err := images.Find(t.Context(), "web:v1"); err != nil || len(image.Cmd) == 0 {
		t.Errorf("web:v1: %+v, %v", image, err)
	}
	if _, err := images.Find(t.Context(), "web:v2-absent"); !errors.Is(err, agent.ErrImageNotFound) {
		t.Errorf("web:v2-absent was found: %v", err)
	}
	if _, err := images.Pull(t.Context(), "web:v2-absent", agent.PullOptions{}); err == nil || !strings.Contains(err.Error(), "web:v2-absent") {
		t.Errorf("web:v2-absent was pulled: %v", err)
	}
}

// TestAddresses: pods get all addresses of the range but the network's, the
// bridge's and the broadcast one, each once, and those given back again.
func TestAddresses(t *testing.T) {
	n := NewBoundless(netip.MustParsePrefix("10.42.3.0/29"))
	network := n.Network()
	var got []string
	for _, uid := range []string{"a", "b", "c", "d", "e"} {
		pod, err := network.Setup(t.Context(), uid, nil)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, pod.IP.String())
	}
	if want := "10.42.3.2 10.42.3.3 10.42.3.4 10.42.3.5 10.42.3.6"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if _, err := network.Setup(t.Context(), "f", nil); err == nil || !strings.Contains(err.Error(), "10.42.3.0/29") {
		t.Errorf("a sixth pod: %v, want an error that names the range", err)
	}
	if err := network.Teardown(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	if pod, err := network.Setup(t.Context(), "f", nil); err != nil || pod.IP.String() != "10.42.3.4" {
		t.Errorf("after an address was given back: %v, %v", pod.IP, err)
	}
}

func TestFleetSize(t *testing.T) {
	small, large := netip.MustParsePrefix("10.42.0.0/23"), netip.MustParsePrefix("10.42.0.0/16")
	if _, err := NewFleet(FleetConfig{Nodes: 3, PodRange: small}); err == nil || !strings.Contains(err.Error(), "room for 2") {
		t.Errorf("three nodes in a /23: %v", err)
	}
	if _, err := NewFleet(FleetConfig{PodRange: large}); err == nil {
		t.Error("no node was taken")
	}
	f, err := NewFleet(FleetConfig{Nodes: 256, PodRange: large})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Node("hollow-256").addresses.String(); got != "10.42.255.0/24" {
		t.Errorf("the last node has %s", got)
	}
}
