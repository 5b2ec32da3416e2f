package apiserver

import (
	"encoding/json"
	"testing"
)

func FuzzDecodeUsage(f *testing.F) {
	f.Add([]byte(`{"items":[{"metadata":{"namespace":"ns","name":"p","labels":{"a":"b"}},"timestamp":"2026-01-01T00:00:00Z","window":"10s","containers":[{"name":"c","usage":{"cpu":"100m","memory":"-1"}}]}]}`))
	f.Add([]byte(`{"metadata":{"name":"n"},"window":"-1s","usage":{"cpu":"1e99"}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		if list, err := decodePodUsage(content); err == nil {
			for _, m := range list {
				for _, c := range m.Containers {
					if c.Usage.Cpu().Sign() < 0 || m.Window.Duration < 0 || len(m.Labels) > 0 {
						t.Errorf("%q: %+v", content, m)
					}
				}
				if _, err := json.Marshal(m); err != nil {
					t.Skip() // a time that cannot be written
				}
			}
		}
		if m, err := decodeNodeUsage(content); err == nil && (m.Usage.Memory().Sign() < 0 || m.Name != "") {
			t.Errorf("%q: %+v", content, m)
		}
	})
}
