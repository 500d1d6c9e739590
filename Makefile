# Everything here is a line or two over cargo and the scripts in .ci; `make help` lists what can be asked for.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Where `make up` keeps its data, and what else `keelson up` is told, as in: make up UP_FLAGS="--members 5"
DATA ?= data
UP_FLAGS ?=
# What `make sim` is told, as in: make sim SIM_FLAGS="--from 7 --seeds 1"
SIM_FLAGS ?=
# What `make jepsen` is told, as in: make jepsen JEPSEN_FLAGS="--seed 7 --workload watch --nemesis kill"
JEPSEN_FLAGS ?=
# What `make jepsen-long` is told, as in: make jepsen-long LONG_FLAGS="--jobs 2 --minutes 240 --rounds 9"
LONG_FLAGS ?=
# How long `make faults` kills programs, in seconds; its seed is KEELSON_SEED, or a fresh one
FAULTS_SECONDS ?= 600
# What `make mutants` is told, as in: make mutants MUTANTS_FLAGS="--only sync-skipped,page-reads-now"
MUTANTS_FLAGS ?=
# What `make micro` is told, as in: make micro MICRO_FLAGS="apply --sample-count 50"
MICRO_FLAGS ?=
# What `make bench` is told, as in: make bench BENCH_FLAGS="--only put-3,get-hot --pairs 3"
BENCH_FLAGS ?=
# The etcd that `make bench` measures beside: the newest there is, unless another is named, as in: make bench ETCD=/usr/bin/etcd
ETCD ?= $(peers)/etcd-newest/etcd

target := $(or $(CARGO_TARGET_DIR),target)
bin := $(target)/release
peers := target/peers
# The one set of programs, of one profile, that all targets share: selecting fewer packages would select other
# features of their dependencies, and build RocksDB a second time.
cargo_all := --release --locked --workspace

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: up
up: build ## Build all that is needed, and run a whole cluster until Ctrl-C
	@exec $(bin)/keelson up --data-dir $(DATA) $(UP_FLAGS)

.PHONY: down
down: ## Stop the cluster that `make up` runs; its data stay
	@if [ -x $(bin)/keelson ]; then $(bin)/keelson down --data-dir $(DATA); else echo "nothing is built, so nothing runs"; fi

.PHONY: clean-data
clean-data: down ## Stop the cluster and delete its data
	rm -rf -- $(DATA)

.PHONY: deps
deps: ## Install what this machine lacks to build and test: says what and why
	@.ci/deps

.PHONY: peers
peers: deps ## Unpack the etcd and the clients that tests compare with, into target/peers
	@.ci/peers

.PHONY: newest-etcd
newest-etcd: deps ## Unpack the newest etcd there is, to measure beside
	@if [ "$(ETCD)" = "$(peers)/etcd-newest/etcd" ]; then .ci/peers --newest; fi

.PHONY: build
build: deps announce ## Build all programs, in release mode
	cargo build $(cargo_all) --bins

.PHONY: announce
announce:
	@if [ ! -x $(bin)/kvd ]; then \
		echo "The first build takes about 20 minutes on two cores; most of that is RocksDB, which is built once."; \
	fi

# Where `make schema` finds the folders k8s.io/api and k8s.io/apimachinery, and which release they are of
PROTOS ?=
SCHEMA_LABEL ?= Kubernetes v1.37.1: k8s.io/api and k8s.io/apimachinery v0.37.1

.PHONY: schema
schema: ## Make the table of Kubernetes' types anew, from its definitions in PROTOS
	cargo run --release --locked -p keelson-schema --example generate -- "$(PROTOS)" "$(SCHEMA_LABEL)" controlplane/schema/data/kubernetes.schema

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all

.PHONY: test
test: deps peers announce ## Check format and lints, and run every test
	@.ci/step "format" cargo fmt --all --check
	@.ci/step "lints" cargo clippy $(cargo_all) --all-targets -- -D warnings
	@# Together, since tests ask for features that programs alone would not.
	@.ci/step "build" cargo build $(cargo_all) --bins --tests
	@# Into the simulation alone: another kvd would take minutes.
	@.ci/step "plant bugs" cargo build $(cargo_all) --features keelson-sim/planted --bin sim-faulty
	@.ci/step "catch bugs" $(bin)/mutants --simulated --seeds 400 --jobs 2
	cargo test $(cargo_all) --no-fail-fast

.PHONY: sim
sim: build ## Simulate a thousand seeds of faults, one line each
	$(bin)/sim --seeds 1000 --save tests/sim/tests/regressions.txt $(SIM_FLAGS)

.PHONY: jepsen
jepsen: build ## Attack a cluster of real processes for a minute, and judge what its clients saw
	$(bin)/jepsen $(JEPSEN_FLAGS)

.PHONY: jepsen-long
jepsen-long: build faulty ## Run every workload under every nemesis; goes on where it was interrupted
	$(bin)/jepsen long $(LONG_FLAGS)

.PHONY: faulty
faulty: deps announce ## Build kvd-faulty and sim-faulty, which have the bugs and failpoints that test the tests
	cargo build $(cargo_all) --features keelson-kvd/planted,keelson-sim/planted --bin kvd-faulty --bin sim-faulty

.PHONY: faults
faults: build ## Kill the control plane's programs during roll-outs for ten minutes, and judge all that happened
	KEELSON_FAULTS_SECONDS=$(FAULTS_SECONDS) cargo test $(cargo_all) --test controlplane_faults -- --nocapture

.PHONY: mutants
mutants: build faulty ## Plant every known bug, one after the other, and see that it is caught
	$(bin)/mutants $(MUTANTS_FLAGS)

.PHONY: micro
micro: deps announce ## Time the parts by themselves: applying, reads, the log, fan-out, encoding
	@# In the programs' own profile, or RocksDB would be built again for that of benches.
	cargo bench --profile release --locked --workspace --bench '*' -- $(MICRO_FLAGS)

.PHONY: bench
bench: build newest-etcd ## Measure kvd beside etcd: rates, latencies, memory; docs/performance.md says how long it takes
	$(bin)/bench --etcd $(ETCD) $(BENCH_FLAGS)

.PHONY: bench-long
bench-long: build newest-etcd ## Measure everything there is, a night long; goes on where it was interrupted
	$(bin)/bench --etcd $(ETCD) --long --seconds 10 --out target/bench-long --continue $(BENCH_FLAGS)
