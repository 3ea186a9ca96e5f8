# The few things that a person does in this repository; `make` lists them.

CARGO  ?= cargo
# Cargo is told by the same variable where it builds.
RIVET  := $(or $(CARGO_TARGET_DIR),target)/release/rivet
LADDER := examples/ladders/quickstart.toml
STREAM := examples/ladders/dist/quickstart
PLAYER := tests/player/node_modules/.package-lock.json

.DEFAULT_GOAL := help
.PHONY: help demo test bench fmt lint clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | awk -F'\t' '{ printf "make %-8s %s\n", $$1, $$2 }'

demo: ## build rivet, then an AV1 + Opus stream from the clip in examples/media
	scripts/setup.sh build
	$(CARGO) build --release --locked
	$(RIVET) build $(LADDER)
	@echo
	@echo "The stream is $(STREAM)/master.m3u8. To watch it:"
	@echo "  mpv $(STREAM)/master.m3u8      (or ffplay)"
	@echo "or serve it to a player elsewhere, as http://localhost:8000/master.m3u8:"
	@echo "  python3 -m http.server --directory $(STREAM) 8000"

test: ## run all tests, in a real browser too
	scripts/setup.sh test
	@$(MAKE) --no-print-directory $(PLAYER)
	$(CARGO) test --locked --no-fail-fast

# Separate from `test`, so that it is weighed after setup.sh has brought npm, and costs
# nothing and needs no network while the lock file stands as it did.
$(PLAYER): tests/player/package.json tests/player/package-lock.json
	npm --prefix tests/player ci --ignore-scripts --no-audit --no-fund
	@touch $@

bench: ## run the benchmarks
	scripts/setup.sh bench
	$(CARGO) bench --locked

fmt: ## format the code
	$(CARGO) fmt --all

lint: ## clippy, with warnings denied
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

clean: ## remove what was built
	$(CARGO) clean
	rm -rf $(STREAM) tests/player/node_modules tests/player/out
