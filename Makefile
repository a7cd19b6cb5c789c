# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The front door.  Each target installs the Debian packages that it needs (as root; otherwise
# it prints the command to run) and then hands over to Meson or to a script.  Meson stays
# usable by itself: `meson setup build && ninja -C build`.

# mke2fs, debugfs and e2fsck live in sbin, which is not on everybody's path.
export PATH := $(PATH):/usr/sbin:/sbin

BUILD := build
# What a user wants; the tests are built by `make check`.
PRODUCT := uext4:executable uext4:static_library uext4:shared_library \
           uext4.3:custom uext4_bdev.3:custom
FUZZ_SECONDS ?= 60
BENCH_OUT ?= $(BUILD)/bench/results

.DEFAULT_GOAL := build
.DELETE_ON_ERROR:

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  IMAGE=PATH      with run: read and checksum this image, and write nothing'
	@echo '  PREFIX=DIR      with install: where to (default /usr/local); DESTDIR is put before it'
	@echo '  BENCH=quick     with bench: small and short, about a minute'
	@echo '  BENCH_SIZE=SIZE with bench: the large file, a multiple of 1M (default 256M)'
	@echo '  BENCH_OUT=DIR   with bench: where the results go (default $(BENCH_OUT))'
	@echo '  FUZZ_SECONDS=N  with fuzz: time for each target (default $(FUZZ_SECONDS))'
	@echo '  UEXT4_SEED=N    with check, check-long, fuzz: repeat a run that used random numbers'

.PHONY: build
build: ## build into build/ (the default); the command is build/uext4
	@scripts/install-deps build
	@test -f $(BUILD)/build.ninja || meson setup $(BUILD) $(if $(PREFIX),--prefix='$(PREFIX)')
	@meson compile -C $(BUILD) $(PRODUCT)
	@ln -sfn src/cli/uext4 $(BUILD)/uext4

.PHONY: run
run: ## make images, read one back, write to one, die and recover; or read IMAGE=PATH
	@scripts/install-deps run
	@$(MAKE) --no-print-directory build
	@scripts/run $(BUILD)/uext4 $(if $(IMAGE),'$(IMAGE)')
	@$(if $(IMAGE),,echo; scripts/run-writes $(BUILD)/uext4)

.PHONY: check
check: ## run the quick tests: plain build, address and undefined sanitizers, thread sanitizer
	@scripts/install-deps check
	@scripts/check

.PHONY: check-long
check-long: ## run every test in the same builds, the slow ones too
	@scripts/install-deps long
	@scripts/check --long

.PHONY: coverage
coverage: ## run the quick tests in a build that counts, print what they reach
	@scripts/install-deps coverage
	@scripts/check --build coverage

.PHONY: bench
bench: ## measure uext4 beside the raw device, the kernel and fuse2fs: a table, JSON, plots
	@scripts/install-deps bench
	@$(MAKE) --no-print-directory build
	@meson compile -C $(BUILD) bench-worker
	@bench/run $(BUILD)/uext4 $(BUILD)/bench/bench-worker --out='$(BENCH_OUT)' \
	        $(if $(filter quick,$(BENCH)),--quick) $(if $(BENCH_SIZE),--size=$(BENCH_SIZE))

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZ_SECONDS
	@scripts/install-deps check
	@scripts/fuzz $(FUZZ_SECONDS)

.PHONY: format
format: ## put the C files in the form of .clang-format
	@scripts/install-deps check
	@find include src tests bench -name '*.[ch]' -exec clang-format -i {} +

.PHONY: install
install: build ## install the command, library, headers and manual pages
	@$(if $(PREFIX),meson setup --reconfigure $(BUILD) --prefix='$(PREFIX)' >/dev/null)
	@DESTDIR='$(DESTDIR)' meson install -C $(BUILD) --no-rebuild

.PHONY: deb
deb: ## build the Debian packages, into build-deb/
	@scripts/install-deps deb
	@scripts/make-deb

.PHONY: clean
clean: ## remove everything that was built
	rm -rf $(BUILD) build-check build-fuzz build-deb
