.DEFAULT_GOAL := help
.PHONY: help install tools demo test soak check deny bench sqlx openapi fuzz-api
# Queries are checked against .sqlx, so that building needs no database.
export SQLX_OFFLINE ?= true

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 16

install: ## Install what is missing on a Debian-like machine
	@scripts/install

tools: install
	@scripts/install tools

demo: install ## Two environments and a real migration between them (ARGS=--once ends there)
	@echo "Building (the first time takes some minutes)"
	@cargo build --quiet --bin ferry
	@target/debug/ferry demo $(ARGS)

test: tools check ## Everything that must hold: format, lints, dependencies, generated files, tests
	cargo test

soak: install ## Kills, restarts and stops at random times, for many minutes (SEED=7 repeats a run)
	$(if $(SEED),FERRY_SOAK_SEED=$(SEED)) cargo test --test it soak:: -- --ignored --nocapture

check: deny ## Format, lints, dependencies, and that .sqlx and docs/openapi.json are what the code says
	cargo fmt --check
	@rm -rf target/sqlx && mkdir -p target/sqlx && touch src/lib.rs
	SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$(CURDIR)/target/sqlx scripts/with-postgres cargo clippy --all-targets -- -D warnings
	@diff -r .sqlx target/sqlx || { echo ".sqlx is not what the queries say: run make sqlx and commit it"; exit 1; }
	@cargo build --quiet --bin ferry --tests
	@target/debug/ferry openapi | diff docs/openapi.json - >/dev/null || { echo "docs/openapi.json is not what the code says: run make openapi and commit it"; exit 1; }

deny: ## Licences, sources and crates that may be in the tree (deny.toml)
	@PATH="$(CURDIR)/target/tools/bin:$$PATH"; command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: scripts/install tools builds it (some minutes, once)" >&2; exit 1; }; \
	cargo-deny --locked --log-level error check --hide-inclusion-graph bans licenses sources

sqlx: ## Write .sqlx anew after a query or a migration changed
	@rm -rf .sqlx && mkdir .sqlx && touch src/lib.rs
	SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$(CURDIR)/.sqlx scripts/with-postgres cargo clippy --all-targets

openapi: ## Write docs/openapi.json anew after a handler or a shape changed
	@cargo build --quiet --bin ferry --tests
	@target/debug/ferry openapi > docs/openapi.json

bench: install ## Speed beside pg_dump and pg_restore (ARGS="10000 100000 --rounds 5 --plot FILE", or ARGS=spots)
	cargo bench --bench scale -- $(ARGS)

fuzz-api: install ## Made-up requests to every operation, alone and in sequences (schemathesis; not part of make test)
	@cargo build --quiet --bin ferry
	scripts/fuzz-api $(ARGS)
