# `make demo` and `make test` work on a fresh Debian machine that has Rust, make and apt-get: what is missing they install
# (as root; otherwise they say which command to run). When nothing is missing, that takes no time.
# What builds for minutes the first time is not `--quiet`.

# How long a storm lasts, in seconds, and its seed: `make storm seconds=600 seed=42`. A storm prints its seed.
seconds = 120
seed =

# `make test SYSTEMD=0` (and `make check SYSTEMD=0`) leaves out the tests that boot a systemd in a box, for which one has to be root.
SYSTEMD ?= 1

.PHONY: help deps demo tour test storm check bench

help:
	@echo 'make demo    private Postgres and Redis, a shop, the daemon in front, and what to try'
	@echo 'make tour    the same, walked through by itself with every answer checked'
	@echo 'make test    all tests, against real servers and real clients; SYSTEMD=0: those that boot a systemd left out'
	@echo 'make storm   everything broken in turn, again and again, under load: seconds=120 seed=…'
	@echo 'make check   format, lints, tests, documentation: what CI runs'
	@echo 'make bench   the speed table'
	@echo 'make deps    only install what all of these need'

deps:
	@scripts/deps.sh build servers clients unit bench

demo:
	@scripts/deps.sh build servers
	cargo run -- demo

tour:
	@scripts/deps.sh build servers
	cargo run -- demo --tour

test:
	@scripts/deps.sh build servers clients unit
	cargo build --tests --examples
ifeq ($(SYSTEMD),0)
	@echo 'left out, because of SYSTEMD=0: the tests that boot a systemd (tests/it/systemd/)'
endif
	cargo test --quiet $(if $(filter 0,$(SYSTEMD)),-- --skip systemd::)
	@for example in read_through get_or_load limited_web users drive_an_actor; do cargo run --quiet --example $$example || exit 1; done

storm:
	@scripts/deps.sh build servers
	STORM_SECONDS=$(seconds) $(if $(seed),STORM_SEED=$(seed)) cargo test --quiet --test it -- --nocapture --exact \
		storm::whatever_goes_wrong_nothing_is_outdated_for_long_and_nothing_is_wrong_at_rest

check:
	@scripts/deps.sh build servers clients unit
	cargo fmt --check
	cargo clippy --all-targets --quiet -- -D warnings
	@$(MAKE) --no-print-directory test
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --document-private-items --quiet

bench:
	@scripts/deps.sh build servers bench
	cargo bench --quiet --bench bench
