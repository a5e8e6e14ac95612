# What demo and test need from the machine. Sourced by both; says one line when it cannot help.

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/holdfast/target}

# Cargo takes a crate for compiled when no file of it is younger than the result, whichever checkout
# of ours that was made from. So when another one was built here last, our files become younger.
sources_are_ours() {
    local mark=$CARGO_TARGET_DIR/holdfast-checkout
    mkdir -p "$CARGO_TARGET_DIR"
    [ "$(cat "$mark" 2>/dev/null)" = "$PWD" ] && return 0
    find . \( -name .git -o -path ./target -o -path ./dist \) -prune -o -type f -exec touch -c {} +
    printf '%s\n' "$PWD" >"$mark"
}

give_up() { # FACT REMEDY
    printf '%s: %s\n  what to do: %s\n' "${0##*/}" "$1" "$2" >&2
    exit 1
}

rust_is_here() {
    command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    command -v cargo >/dev/null || give_up "there is no Rust toolchain" "install Rust 1.95 or later with rustup"
    local version
    version=$(rustc --version | cut -d ' ' -f 2)
    [ "$(printf '1.95.0\n%s\n' "$version" | sort -V | head -n 1)" = 1.95.0 ] ||
        give_up "Rust $version is too old" "rustup update; 1.95 or later is needed"
}

# Installs the packages whose command or file is missing: COMMAND-OR-FILE:PACKAGE …
machine_has() {
    local missing=() pair as_root=()
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || [ -e "${pair%%:*}" ] || missing+=("${pair#*:}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || as_root=(sudo -n)
    if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
        echo "installing: ${missing[*]}"
        # A list that could not be had may be one that is not needed.
        "${as_root[@]}" apt-get -qq update || echo "going on with the lists that are there" >&2
        DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get -qq install -y \
            --no-install-recommends "${missing[@]}" >/dev/null && return 0
    fi
    give_up "this machine lacks ${missing[*]}" "as root: apt-get install ${missing[*]}"
}
