# shellcheck shell=bash
# What scripts/test and scripts/soak share. Sourced; works from the top of the checkout.

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit
target_dir=${CARGO_TARGET_DIR:-$PWD/target}

# In CI a command that hangs is ended; at a desk Ctrl-C does that.
bounded() {
    if [[ -n ${CI:-} ]]; then
        timeout --kill-after=10 900 "$@"
    else
        "$@"
    fi
}

# Says whether a cargo sub-command is there, after trying to install it.
# An unoptimised build of the tool is slower by nothing that matters and ready in half the time.
ensure_cargo_tool() {
    local tool=$1
    cargo "$tool" --version >/dev/null 2>&1 && return
    echo "cargo-$tool is missing: installing it"
    env -u CARGO_TARGET_DIR cargo install --locked --debug "cargo-$tool"
}

# Says whether the nightly toolchain is there. It is never installed: it is the machine's choice.
have_nightly() {
    cargo +nightly --version >/dev/null 2>&1
}

have_simulator() {
    [[ -e engine/tests/sim.rs || -e engine/tests/sim/main.rs ]]
}

# run_simulator FIRST_SEED COUNT: the simulator's test with all its optimisations.
# The whole workspace is named so that its dependencies are built once, with one set of features.
run_simulator() {
    echo "simulating seeds $1 to $(($1 + $2 - 1))"
    RAET_FIRST_SEED=$1 RAET_SEEDS=$2 \
        bounded cargo test --locked --release --workspace --test sim --quiet
}

have_fuzz_targets() {
    [[ -e engine/fuzz/Cargo.toml ]]
}

fuzz_targets() {
    cargo +nightly fuzz list --fuzz-dir engine/fuzz
}

# run_fuzz_target NAME SECONDS: what it finds new stays below target/, so a run leaves the
# checkout as it was; the kept corpus is read only. A crash lands in engine/fuzz/artifacts.
run_fuzz_target() {
    local name=$1 seconds=$2
    local found=$target_dir/fuzz-corpus/$name
    local corpus=("$found")
    mkdir -p "$found"
    if [[ -d engine/fuzz/corpus/$name ]]; then
        corpus+=("engine/fuzz/corpus/$name")
    fi
    cargo +nightly fuzz run --fuzz-dir engine/fuzz "$name" "${corpus[@]}" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
}
