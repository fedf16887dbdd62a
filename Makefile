# Two commands on a fresh machine: `make demo` and `make test`. `cargo xtask --help` shows what is behind them.
.DEFAULT_GOAL := help
.PHONY: help rust demo test smoke test-all

# A rustup that was just installed is not on the path of this shell yet.
export PATH := $(HOME)/.cargo/bin:$(PATH)

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

rust:
	@sh .ci/rust

demo: rust ## Run the quickstart with real traffic (KEEP=1 leaves it running)
	cargo xtask demo $(if $(KEEP),--keep)

test: rust ## Run the gate: format, lints, unit, golden, packet and namespace tests
	cargo xtask setup
	cargo xtask test

smoke: rust ## Install Millrace on a real Kubernetes of two nodes, use it, take it away (MINUTES=N to end in them)
	cargo xtask cluster smoke $(if $(MINUTES),--minutes $(MINUTES))

test-all: rust ## Run everything (today: the gate) and keep the outcome in conformance/reports
	cargo xtask setup
	cargo xtask test --report
