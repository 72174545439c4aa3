# The doors of the house. `make demo` and `make test` do all set-up themselves.

CARGO ?= cargo
# Ports, namespaces and raw sockets need root: tests are built as you and run through sudo if you are not.
ifneq ($(shell id -u),0)
SUDO := sudo
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := sudo -E
endif

.PHONY: help
help:
	@echo "make demo    the lab: a flow moves between two accesses, in both scenarios and dialects"
	@echo "make test    every check and every test"
	@echo "make chaos   the lab under traffic while processes are killed, links cut, disks filled (EVENTS=200, SEED=7)"
	@echo "make soak    a flow that moves every second for ten minutes: nothing lost, nothing grows (SECONDS=3600)"
	@echo "make check   formatting, lints, documentation, import directions, compliance page"
	@echo "make bench   cycles per packet and latency beside a bare loop and testpmd, in one run"
	@echo "make bench-micro   what parse, lookup, match, encapsulate, decapsulate and rings cost alone"
	@echo "make fuzz    the fuzzers, S=60 seconds each (T=target for one, RUNS=10000000 for executions)"
	@echo "make build   the appliance: target/release/flowmob"
	@echo "make deb     Debian packages of it and of the mobile node: target/package"
	@echo "make image   container images of these packages"
	@echo "make release an archive of both programs, linked statically: target/release-archive"
	@echo "make vm      the disk of a virtual machine with it: target/flowmob.qcow2"
	@echo "make mn      the mobile node alone, small and static: target/mn/flowmob"
	@echo "make setup   the Debian packages that all of these need (they call it themselves)"

# Each door has what it needs installed, and no more: SETUP are groups of .ci/setup, all of them if it says none.
.PHONY: setup
setup:
	@.ci/setup $(SETUP)

# `make build PROFILE=dev` is quick to build and slow to run: target/debug/flowmob.
PROFILE ?= release
PROGRAM = target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/flowmob
.PHONY: build
build: SETUP = build
build: setup
	$(CARGO) build --locked --profile $(PROFILE) -p flowmob

# Needs a compiler and libc's static library, and neither DPDK nor root. Naming the target keeps the flag to the program:
# macros that the compiler loads cannot be static.
.PHONY: mn
mn: HOST = $(shell rustc -vV | sed -n 's/^host: //p')
mn:
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --locked --profile small --target $(HOST) -p flowmob --no-default-features
	install -D target/$(HOST)/small/flowmob target/mn/flowmob
	@ls -lh target/mn/flowmob | awk '{ print $$NF ": " $$5 }'

# The packages of before go: what is left is what an image or a machine gets.
.PHONY: deb
deb: SETUP = build deploy
deb: setup mn
	$(CARGO) build --locked --release -p flowmob
	rm -rf target/package
	docker/package target/package target/release/flowmob target/mn/flowmob

# Needs a Docker engine that may be asked; IMAGE_FLAGS are more options of `docker build`.
DOCKER ?= docker
.PHONY: image
image: deb
	for target in appliance host mobile; do \
		name=flowmob-$$target; [ $$target != appliance ] || name=flowmob; \
		DOCKER_BUILDKIT=1 $(DOCKER) build -f docker/Dockerfile --build-arg PACKAGES=prebuilt \
			--target $$target -t $$name $(IMAGE_FLAGS) . || exit 1; \
	done

# Both programs linked statically, and an archive of them; the linker's maps beside them tell what is in them.
.PHONY: release
release: SETUP = build deploy
release: HOST = $(shell rustc -vV | sed -n 's/^host: //p')
release: setup
	$(CARGO) rustc --locked --release --target $(HOST) -p flowmob --bin flowmob --features static -- \
		-Ctarget-feature=+crt-static -Clink-arg=-Wl,-Map=$(CURDIR)/target/flowmob-static.map
	install -D target/$(HOST)/release/flowmob target/flowmob-static
	$(CARGO) rustc --locked --profile small --target $(HOST) -p flowmob --bin flowmob --no-default-features -- \
		-Ctarget-feature=+crt-static -Clink-arg=-Wl,-Map=$(CURDIR)/target/flowmob-mn-static.map
	install -D target/$(HOST)/small/flowmob target/flowmob-mn-static
	rm -rf target/release-archive
	docker/release target/release-archive target/flowmob-static target/flowmob-mn-static

# A disk for QEMU, libvirt or OpenStack.
.PHONY: vm
vm: deb
	docker/machine/build target/flowmob.qcow2 target/package/flowmob_*.deb
	@ls -lh target/flowmob.qcow2 | awk '{ print $$NF ": " $$5 }'

DEMO ?= --scenario both --dialect all
.PHONY: demo
demo: SETUP = build lab
demo: setup
	$(CARGO) build --locked --profile $(PROFILE) -p flowmob
	$(SUDO) $(PROGRAM) lab run $(DEMO) --out target/lab

# `CHAOS="--pair"` is two LMAs that share an etcd. Another seed each time unless SEED says one; CHAOS is the network that is built.
CHAOS ?= --scenario unique --dialect draft
EVENTS ?= 200
SEED ?=
.PHONY: chaos
chaos: SETUP = build lab $(if $(findstring --pair,$(CHAOS)),pair)
chaos: setup
	$(CARGO) build --locked --profile $(PROFILE) -p flowmob
	$(SUDO) $(PROGRAM) lab chaos $(CHAOS) --events $(EVENTS) $(if $(SEED),--seed $(SEED)) --out target/lab

SECONDS ?= 600
.PHONY: soak
soak: SETUP = build lab
soak: setup
	$(CARGO) build --locked --profile $(PROFILE) -p flowmob
	$(SUDO) $(PROGRAM) lab soak --seconds $(SECONDS) --out target/lab

.PHONY: check
check: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --features dataplane/micro -- -D warnings
	$(CARGO) clippy --locked -p flowmob --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked -q --workspace --no-deps --document-private-items
	.ci/directions
	.ci/compliance

# Fast ones first: units, then what starts ports, whole processes, the lab, and what is deployed. Always the same packages:
# with others, cargo would build most of them once more, with other features.
# A tool that is not there is a failure here: setup has installed it.
TESTED = --locked --workspace --exclude flowmob-bench
.PHONY: test
test: export FLOWMOB_REQUIRE_TOOLS = 1
test: check
	.ci/helm
	@# All at once, so that no core waits for another one's last crate.
	$(CARGO) test $(TESTED) --lib --bins --test '*' --no-run
	$(CARGO) test $(TESTED) --lib --bins
	$(CARGO) test $(TESTED) --test '*'

# Reserves hugepages for its time if it may.
.PHONY: bench
bench: SETUP = build bench
bench: setup
	$(CARGO) build --locked --release -p flowmob-bench
	$(SUDO) target/release/flowmob-bench run --out target/bench

# One stage at a time, without DPDK's ports.
.PHONY: bench-micro
bench-micro: setup
	$(CARGO) bench --locked -p dataplane --features micro

# Every decoder and state machine against any octets. Ends at the first finding; see fuzz/README.md.
.PHONY: fuzz
fuzz: T ?=
fuzz: S ?= 60
fuzz: RUNS ?=
fuzz: setup
	.ci/fuzz "$(T)" "$(S)" "$(RUNS)"
