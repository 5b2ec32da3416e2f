# Windlass. `make help` lists the targets.

K8S_VERSION := $(shell awk '$$1 == "k8s.io/apiserver" { print $$2 }' go.mod)
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT      := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
DATE        := $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
# The API's version is the Kubernetes minor that it speaks: v0.37.2 of the libraries is Kubernetes 1.37.2.
API_VERSION := v1.$(patsubst v0.%,%,$(K8S_VERSION))+windlass

COMPONENT   := k8s.io/component-base/version
# What the embedded kubectl and other clients tell of themselves.
CLIENT      := k8s.io/client-go/pkg/version
LDFLAGS     := -s -w \
	-X $(COMPONENT).gitVersion=$(API_VERSION) -X $(COMPONENT).gitMajor=1 -X $(COMPONENT).gitMinor=$(word 2,$(subst ., ,$(K8S_VERSION))) \
	-X $(CLIENT).gitVersion=$(API_VERSION) -X $(COMPONENT).gitCommit=$(COMMIT) -X $(COMPONENT).gitTreeState=clean -X $(COMPONENT).buildDate=$(DATE) \
	-X windlass.dev/windlass/internal/cli.version=$(VERSION)

# One static binary: no cgo, and signatures of images checked in pure Go.
export CGO_ENABLED := 0
export GOFLAGS     := -buildvcs=false -tags=containers_image_openpgp

GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.14.0

# Packages whose code is pure or concurrent and needs nothing of the machine: they also run under the race detector.
RACE_PACKAGES := ./internal/rollout/... ./internal/agent/... ./internal/scheduler/... ./internal/controller/... ./internal/proxy/... ./internal/apiserver/validation/...

# How long `make soak` goes on.
SOAK ?= 20m

.PHONY: help build test unit race e2e demo bench loss vm soak lint fmt deps clean generate

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build bin/windlass
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/windlass ./cmd/windlass

deps: ## Install what running containers and the tests need (Debian packages)
	@scripts/deps

test: deps build ## Everything that must pass: vet, unit tests, the race detector, the real binary end to end
	go vet ./...
	$(MAKE) --no-print-directory unit race e2e

unit: ## Unit and adapter tests (those that need root and namespaces skip elsewhere, with the reason)
	go test ./api/... ./cmd/... ./internal/... ./examples/... ./test/harness/... ./test/loss/...

race: ## Pure and concurrent packages under the race detector
	CGO_ENABLED=1 go test -race -short $(RACE_PACKAGES)

e2e: build ## The binary as its users run it: real containers, real kubectl, real traffic
	go test -count=1 -timeout 25m ./test/e2e/...

demo: deps build ## Roll a web server from one version to the next, undo it, and report what was lost
	@scripts/demo

bench: deps build ## Measure what bench/README.md lists and print it
	@scripts/bench $(BENCH)

loss: deps build ## Roll applications of every sort under clients of every sort, and count what is lost (some 15 minutes)
	@go run ./test/loss/matrix $(LOSS)

vm: ## Run the tests that depend on the kernel in a virtual machine with control groups v2 and quotas (some 20 minutes)
	@scripts/vm

soak: deps build ## Trouble three machines at random, and look whether all comes right again (SOAK=20m; WINDLASS_SEED=N repeats an order)
	WINDLASS_SOAK=$(SOAK) go test -count=1 -timeout 0 -v -run 'TestSoak$$' -artifacts -outputdir $(CURDIR)/bin ./test/e2e/

lint: ## gofmt, vet and golangci-lint with the short list in .golangci.yml
	@test -z "$$(gofmt -l api cmd internal examples test | tee /dev/stderr)"
	go vet ./...
	go run $(GOLANGCI) run ./...

generate: ## Generate the OpenAPI definitions and the copying of our kinds again
	go generate ./api/... ./internal/apiserver/...

clean: ## Remove what was built
	rm -rf bin
