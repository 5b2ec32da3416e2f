// Command webapp is the small web server that the demo and the tests roll from
// one version to the next. It says which version answers and from which pod.
//
// It is no help to whoever rolls it: it exits at once on SIGTERM, in the middle
// of whatever it does. Its behaviour is set by the environment:
//
//	VERSION   what it calls itself
//	PORT      where it listens (default 80)
//	STARTUP   how long it takes before it listens (a Go duration)
//	SLOW      how long it takes to answer (a Go duration)
//	FAIL      "exit" to end at once with code 1, "unready" to answer 503 on /ready
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		log.Printf("exit on %v", <-signals)
		os.Exit(0)
	}()
	if os.Getenv("FAIL") == "exit" {
		log.Fatal("told to fail")
	}
	time.Sleep(duration("STARTUP"))

	port := os.Getenv("PORT")
	if port == "" {
		port = "80"
	}
	log.Printf("version %s listens on port %s", os.Getenv("VERSION"), port)
	log.Fatal(http.ListenAndServe(":"+port, handler(os.Getenv("VERSION"), duration("SLOW"), os.Getenv("FAIL") == "unready")))
}

// handler answers / with the version and the pod's name, and /ready.
func handler(version string, slow time.Duration, unready bool) http.Handler {
	host, _ := os.Hostname()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(slow)
		fmt.Fprintf(w, "httpd %s on %s\n", version, host)
	})
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if unready {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return mux
}

// duration reads a Go duration from the environment; unset is zero.
func duration(name string) time.Duration {
	text := os.Getenv(name)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		log.Fatalf("%s: %v", name, err)
	}
	return d
}
