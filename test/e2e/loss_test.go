package e2e

import (
	"strings"
	"testing"
	"time"

	"windlass.dev/windlass/test/loss"
)

// TestLossMatrix rolls one application of each protocol under load, all at a
// time, and one with the drain off, which must lose or the test could not see a
// loss. `make loss` runs the whole matrix.
func TestLossMatrix(t *testing.T) {
	runner, err := loss.NewRunner(within(t, time.Minute), setup.shared, setup.root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const stream = time.Second
	for i, cell := range []loss.Cell{
		{Protocol: loss.HTTP1, Ending: loss.Closes, Client: loss.Kept},
		{Protocol: loss.HTTP2, Ending: loss.Closes, Client: loss.Kept},
		{Protocol: loss.GRPC, Ending: loss.Closes, Client: loss.Kept, Stream: stream},
		{Protocol: loss.WebSocket, Ending: loss.Closes, Client: loss.Kept},
		{Protocol: loss.TCP, Ending: loss.Exits, Client: loss.EachNew},
		{Protocol: loss.TCP, Ending: loss.Exits, Client: loss.EachNew, Drain: "off"},
	} {
		name := "loss-" + string(rune('a'+i))
		t.Run(strings.ReplaceAll(cell.Application(), "/", " "), func(t *testing.T) {
			t.Parallel()
			lost := roll(t, runner, cell, name, 30200+int32(i))
			if cell.Drain == "" && lost > 0 {
				t.Errorf("%d requests lost", lost)
			}
			for attempt := 1; cell.Drain == "off" && lost == 0; attempt++ {
				if attempt == 5 {
					t.Fatal("none lost with the drain off: this test cannot see a loss")
				}
				lost = roll(t, runner, cell, name, 30200+int32(i))
			}
		})
	}
}

// roll rolls a cell and returns how many requests failed.
func roll(t *testing.T, runner loss.Runner, cell loss.Cell, name string, port int32) int {
	t.Helper()
	result, err := runner.Run(within(t, 3*time.Minute), cell, name, port, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("three rollouts in %v: %+v", result.Elapsed, result.Tally)
	return result.Tally.Failed
}
