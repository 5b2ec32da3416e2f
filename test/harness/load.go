package harness

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Load is traffic that runs: clients that each open a new connection for every
// request, one request after the other.
type Load struct {
	cancel  context.CancelFunc
	clients sync.WaitGroup
	sent    atomic.Int64

	mu     sync.Mutex
	report Report
}

// Report is what came of the traffic.
type Report struct {
	Requests int64
	Lost     int64          // requests without a complete answer of status 200
	Reasons  map[string]int // of the lost ones
	Answers  map[string]int // bodies received
	Elapsed  time.Duration

	started time.Time
}

// StartLoad begins traffic to url with so many clients. It stops by itself
// after limit requests or at most requests' time; Stop ends it before that.
func StartLoad(ctx context.Context, url string, clients int, limit int64, atMost time.Duration) *Load {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	load := &Load{cancel: cancel, report: Report{Reasons: map[string]int{}, Answers: map[string]int{}, started: time.Now()}}
	for range clients {
		load.clients.Add(1)
		go func() {
			defer load.clients.Done()
			load.client(ctx, url, limit)
		}()
	}
	return load
}

// Requests returns how many requests have been answered or lost so far.
func (l *Load) Requests() int64 { return l.sent.Load() }

// Lost returns how many requests have been lost so far.
func (l *Load) Lost() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.report.Lost
}

// Stop lets each client finish the request it is at and returns the result.
func (l *Load) Stop() Report {
	l.cancel()
	l.clients.Wait()
	l.report.Elapsed = time.Since(l.report.started)
	return l.report
}

// Wait waits until the traffic has come to its limit and returns the result.
func (l *Load) Wait() Report {
	l.clients.Wait()
	return l.Stop()
}

func (l *Load) client(ctx context.Context, url string, limit int64) {
	client := &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		},
	}
	for ctx.Err() == nil && l.sent.Load() < limit {
		answer, err := get(client, url)
		l.sent.Add(1)
		l.count(answer, err)
	}
}

func (l *Load) count(answer string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report.Requests++
	if err != nil {
		l.report.Lost++
		l.report.Reasons[err.Error()]++
		return
	}
	l.report.Answers[answer]++
}

// get is one request; anything but a whole answer of status 200 is an error.
func get(client *http.Client, url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", resp.StatusCode)
	}
	return string(body), nil
}
