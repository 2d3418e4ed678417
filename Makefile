# `make help` lists the targets.
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILT       ?= $(shell git log -1 --format=%ct 2>/dev/null)
LDFLAGS     := -s -w -X main.version=$(VERSION) -X main.built=$(BUILT)
# The agent talks to itself and to sensors by HTTP/1: half a megabyte less.
# The YAML parser runs once at start: without inlining it is 128 KiB smaller.
TAGS_edgeagent := -tags nethttpomithttp2 -gcflags=github.com/goccy/go-yaml/...=-l
export CGO_ENABLED := 0
# One way of compiling for tests, checks and programs: what one has built serves the others.
export GOFLAGS := $(strip -trimpath $(GOFLAGS))

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: build
build: ## bin/edgeagent and bin/edgehub
	@mkdir -p bin
	$(GO) build -ldflags '$(LDFLAGS)' $(TAGS_edgeagent) -o bin/ ./cmd/edgeagent
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/ ./cmd/edgehub

.PHONY: demo
demo: build ## sensors, rules, buffer, broker and receiver on this machine
	bin/edgeagent demo $(ARGS)

.PHONY: cross
cross: ## dist/ for linux amd64, arm64, armv7, armv6, with sizes
	@mkdir -p dist
	@for t in amd64: arm64: arm:7 arm:6; do \
	  arch=$${t%%:*}; arm=$${t##*:}; name=linux-$$arch$${arm:+v$$arm}; \
	  for p in edgeagent edgehub; do \
	    tags=; [ $$p = edgehub ] || tags='$(TAGS_edgeagent)'; \
	    GOOS=linux GOARCH=$$arch GOARM=$$arm $(GO) build -ldflags '$(LDFLAGS)' $$tags -o dist/$$p-$$name ./cmd/$$p; \
	    printf '%-28s %8.2f MiB\n' $$p-$$name $$(stat -c %s dist/$$p-$$name | awk '{print $$1/1048576}'); \
	  done; \
	done

.PHONY: test
test: ## unit tests: no root, no C compiler, loopback only
	$(GO) test -timeout 25m ./...

.PHONY: race
race: ## the unit tests under the race detector, with fewer cuts and kills (needs a C compiler)
	SOAK_KILLS=40 SOAK_CUTS=400 SOAK_DAMAGES=200 CGO_ENABLED=1 $(GO) test -race -timeout 40m ./...

SOAK_KILLS   ?= 10000
SOAK_CUTS    ?= 10000
SOAK_DAMAGES ?= 10000
SOAK_FUZZ    ?= 2m
SOAK_SEED    ?= $(shell date +%s)
SOAK_SENSORS ?= 20
.PHONY: soak
soak: ## the buffer killed, cut, damaged and fuzzed for an hour or so; SOAK_KILLS=…, SOAK_SEED=… and so on
	SOAK_KILLS=$(SOAK_KILLS) SOAK_CUTS=$(SOAK_CUTS) SOAK_DAMAGES=$(SOAK_DAMAGES) SOAK_FAULT_STRIDE=1 SOAK_SEED=$(SOAK_SEED) \
	  $(GO) test -count=1 -timeout 4h -v -run '^(TestKill9|TestPowerCut|TestDamage|TestNthOperationFails)$$' ./buffer | grep -v -e '^ *---' -e '^==='
	$(GO) test -count=1 -timeout 1h -run '^TestPowerCut$$' ./buffer/headlog -args -cuts $(SOAK_CUTS) -seed $(SOAK_SEED)
	SOAK_SENSORS=$(SOAK_SENSORS) $(GO) test -count=1 -timeout 1h -v -run '^TestSensorFaults$$' ./sim
	HIL_SOAK=1 HIL_CUTS=20 $(MAKE) test-hil
	SOAK_DTLS=1000 $(GO) test -count=1 -timeout 10m -v -run '^TestManyDTLSClients$$' ./sync/coap
	@for d in sync/coap rules/anomaly buffer buffer/block buffer/headlog buffer/segment; do for f in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p' $$d/*_test.go); do \
	  echo "$$d $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(SOAK_FUZZ) -fuzzminimizetime 10x ./$$d; done; done

.PHONY: test-noasm
test-noasm: ## the block codec's tests with LZ4 in plain Go, as on boards without its machine code
	$(GO) test -count=1 -timeout 25m -tags noasm ./buffer/block

.PHONY: test-386
test-386: ## the buffer's tests on 32 bits (runs on amd64), without the longest
	GOARCH=386 $(GO) test -count=1 -timeout 25m -short -skip 'Kill|Cut|Crash|Corrupt|Damag|Operation' ./buffer/...

.PHONY: test-encrypted
test-encrypted: ## the buffer's tests, simulators included, on encrypted buffers
	@key=$$(mktemp); trap 'rm -f '$$key EXIT; head -c 32 /dev/urandom >$$key; \
	  echo 'BUFFER_TEST_KEY=KEY $(GO) test ./buffer'; BUFFER_TEST_KEY=$$key $(GO) test -count=1 -timeout 25m ./buffer

.PHONY: test-system
test-system: build ## the built programs against real brokers and PostgreSQL (Debian: mosquitto mosquitto-clients nats-server postgresql victoria-metrics qemu-user)
	$(GO) test -tags system -count=1 -timeout 40m -v ./test/system
	$(GO) test -tags system -count=1 -timeout 20m -v -run Mosquitto ./sync/mqtt
	$(GO) test -tags system -count=1 -timeout 20m -parallel 32 -v -run 'Libcoap|NodeCoap|FigureBeside' ./sync/coap
	$(GO) test -tags system -count=1 -timeout 20m -v -run FigureBacklogOverDTLS ./sim
	$(GO) test -tags system -count=1 -timeout 20m -v -run TFLite ./rules/model/process
	$(GO) test -tags system -count=1 -timeout 20m -v -run Decoders ./buffer/block
	$(GO) test -tags system -count=1 -timeout 20m -v ./hub/sinks/postgres

HIL_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/edgeagent-hil
.PHONY: test-hil
test-hil: ## the program on Debian's kernels in QEMU's boards: chips, drivers, alarms (240 MB come once, into HIL_DIR)
	test/hil/get $(HIL_DIR) $(if $(HIL_SOAK),armv7)
	HIL_DIR=$(HIL_DIR) HIL_BUILD='$(TAGS_edgeagent)' $(GO) test -tags hil -count=1 -timeout 60m -v $(if $(HIL_SOAK),,-skip '^(TestRaspi2b|TestLyingCard)$$') ./test/hil

.PHONY: test-nab
test-nab: ## the detector on the benchmark series of ../shared (SHARED=DIR), held against floors; says so when they are absent
	@.ci/test-nab

.PHONY: check
check: check-format check-vet check-lint check-tidy check-imports check-platforms size ## what a change must pass besides the tests

.PHONY: check-format
check-format:
	@out=$$($(GO) tool -modfile=tools.mod gofumpt -l .); test -z "$$out" || { echo "gofumpt would change:"; echo "$$out"; exit 1; }

.PHONY: check-vet
check-vet:
	$(GO) vet -tags system,hil ./...

.PHONY: check-lint
check-lint:
	$(GO) tool -modfile=tools.mod golangci-lint run

# tools.mod is not tidied: tidy would pull the program's own modules into it.
.PHONY: check-tidy
check-tidy:
	$(GO) mod tidy -diff

.PHONY: check-imports
check-imports:
	$(GO) test -count=1 ./test/imports

.PHONY: check-platforms
check-platforms: ## it compiles where people try the demo, and on 32 bits (cross compiles for ARM)
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	GOOS=windows GOARCH=amd64 $(GO) vet ./...
	GOOS=linux GOARCH=386 $(GO) vet ./...

.PHONY: size
size: cross ## stripped sizes against the budget
	@awk -v s=$$(stat -c %s dist/edgeagent-linux-armv6) 'BEGIN { m = s/1048576; printf "edgeagent armv6: %.2f MiB of 16 MiB\n", m; exit m > 16 }'

.PHONY: bench
bench: ## benchmarks of every package, in domain units
	$(GO) test -run '^$$' -bench . -benchmem ./...

.PHONY: fmt
fmt: ## format the tree
	$(GO) tool -modfile=tools.mod gofumpt -w .

.PHONY: clean
clean: ## remove what make made
	rm -rf bin dist
