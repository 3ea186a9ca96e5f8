#!/usr/bin/env bash
# Brings what rivet needs from outside Cargo: C libraries and tools to build it, players
# and decoders to test it. Asks the machine first and installs only what is missing, so
# that a second run does nothing and needs no network. Never touches a Rust toolchain, and
# leaves alone a node, a browser or an FFmpeg that came from elsewhere.
#
#   scripts/setup.sh [build|test|bench]      the others include "build", the default
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode="${1:-build}"
case "$mode" in
    build | test | bench) ;;
    *)
        echo "usage: scripts/setup.sh [build|test|bench]" >&2
        exit 2
        ;;
esac

# What the ffmpeg-next crate links with the features that Cargo.toml asks for.
libraries=(libavutil libavcodec libavformat libswscale libswresample)
min_node=18

missing=()  # Debian packages to install
absent=()   # commands not found, where packages are not ours to install
problems=() # what a package manager cannot mend

say() { printf 'setup: %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }
is_debian() { have dpkg-query && have apt-get; }

# Whether any installed Debian package matches one of the patterns.
installed() {
    dpkg-query -W -f '${db:Status-Status}\n' "$@" 2>/dev/null | grep -qx installed
}

# need_tool COMMAND PACKAGE: the command counts wherever it came from.
need_tool() {
    have "$1" || missing+=("$2")
}

need_libraries() {
    local library
    for library in "${libraries[@]}"; do
        if ! have pkg-config || ! pkg-config --exists "$library"; then
            missing+=("$library-dev")
        fi
    done
}

# bindgen reads FFmpeg's headers through libclang and needs the compiler's own headers
# beside it: Debian's -dev package brings both.
need_libclang() {
    if [[ -z "${LIBCLANG_PATH:-}" ]] && ! installed libclang-dev 'libclang-[0-9]*-dev'; then
        missing+=(libclang-dev)
    fi
}

need_certificates() {
    installed ca-certificates || missing+=(ca-certificates)
}

need_build() {
    need_tool pkg-config pkg-config
    need_tool gcc gcc
    need_tool g++ g++
    need_tool make make
    need_tool nasm nasm   # rav1e's assembly
    need_tool cmake cmake # the Opus library that the opus crate builds
    # gcc alone does not bring the C library's headers.
    installed libc6-dev || missing+=(libc6-dev)
    need_libraries
    need_libclang
    need_certificates
}

node_major() {
    local version
    version="$(node --version 2>/dev/null)" || version=v0
    version="${version#v}"
    printf '%s\n' "${version%%.*}"
}

need_node() {
    if ! have node; then
        missing+=(nodejs)
        have npm || missing+=(npm)
    elif (($(node_major) < min_node)); then
        problems+=("node $(node --version 2>/dev/null || true) is too old: the player test needs $min_node or newer, first on PATH")
    elif ! have npm; then
        if is_debian && installed nodejs; then
            missing+=(npm)
        else
            problems+=("npm is missing beside $(command -v node)")
        fi
    fi
}

# A browser that starts: Ubuntu's chromium-browser may be a stub that only asks for a snap.
find_browser() {
    local browser
    if [[ -n "${CHROMIUM:-}" ]]; then
        "$CHROMIUM" --version >/dev/null 2>&1
        return
    fi
    for browser in chromium chromium-browser google-chrome google-chrome-stable; do
        if have "$browser" && "$browser" --version >/dev/null 2>&1; then
            return
        fi
    done
    return 1
}

has_chromium_package() {
    ! grep -qxE 'ID="?ubuntu"?' /etc/os-release 2>/dev/null
}

need_browser() {
    find_browser && return
    if [[ -n "${CHROMIUM:-}" ]]; then
        problems+=("CHROMIUM is set to '$CHROMIUM', which does not start")
    elif is_debian && has_chromium_package; then
        missing+=(chromium)
    else
        problems+=("no Chromium or Google Chrome on PATH: install one, or set CHROMIUM to its path")
    fi
}

# Debian's nginx lies where only root's PATH leads, and a part of WebDAV is a package of its own.
need_nginx() {
    PATH="$PATH:/usr/sbin" have nginx || missing+=(nginx)
    [[ -e /usr/lib/nginx/modules/ngx_http_dav_ext_module.so ]] || missing+=(libnginx-mod-http-dav-ext)
}

need_venv() {
    if ! have python3 || ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        missing+=(python3-venv)
    fi
}

# Servers that keep remote caches. Debian starts those that it installs.
need_servers() {
    need_tool redis-server redis-server
    need_tool openssl openssl # a certificate for one of them
    need_nginx
    need_venv
}

need_test() {
    need_servers
    need_tool ffmpeg ffmpeg # makes inputs, decodes outputs; brings ffprobe
    need_tool dav1d dav1d   # a second opinion on every AV1 stream
    need_tool aomdec aom-tools # and a third
    need_node
    need_browser
}

need_bench() {
    need_venv                   # for rclone, which restoring is measured against
    need_tool ffmpeg ffmpeg
    need_tool ninja ninja-build # what film-length graphs are measured against
    need_tool b3sum b3sum       # what hashing is measured against
}

# What comes as Python wheels, into a folder of the repository's own. Once for each list. Only programs in
# them are used, so what their Python code depends on is left out.
install_wheels() {
    local wanted=tests/tools/requirements.txt folder=target/tools
    cmp -s "$wanted" "$folder/requirements.txt" && return
    say "installing what $wanted lists into $folder"
    rm -rf "$folder/venv"
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --no-deps --require-hashes --only-binary :all: -r "$wanted"
    cp "$wanted" "$folder/requirements.txt"
}

# Reads the version that Cargo.toml asks for, so that it is written down once.
check_rust() {
    local wanted found
    wanted="$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' Cargo.toml | head -n 1)"
    if ! have cargo || ! have rustc; then
        problems+=("cargo is missing: get Rust $wanted or newer from https://rustup.rs, and put ~/.cargo/bin on PATH")
        return
    fi
    found="$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p')" || true
    if [[ -z "$found" ]]; then
        problems+=("rustc does not start: 'rustup default stable' gives it a toolchain")
    elif [[ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]]; then
        problems+=("Rust $found is too old, $wanted or newer is needed: 'rustup update stable' (https://rustup.rs)")
    fi
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        say "not root, and there is no sudo; as root run:" >&2
        say "  apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q "$@"
}

# A failed update need not matter: the lists that are there may do.
install_missing() {
    local update=(update -o APT::Update::Error-Mode=any)
    say "installing ${missing[*]}"
    apt "${update[@]}" || {
        say "apt-get update failed; once more"
        sleep 3
        apt "${update[@]}" || say "apt-get update failed again; trying with the lists at hand"
    }
    apt install -y --no-install-recommends "${missing[@]}"
}

report_problems() {
    ((${#problems[@]} == 0)) && return
    local problem
    for problem in "${problems[@]}"; do
        say "error: $problem" >&2
    done
    exit 1
}

look() {
    missing=()
    problems=()
    check_rust
    need_build
    [[ "$mode" != test ]] || need_test
    [[ "$mode" != bench ]] || need_bench
}

check_debian() {
    look
    ((${#missing[@]} > 0)) || return 0
    install_missing
    # Once more, since a package may not bring what it should: an old node, a stub.
    look
    ((${#missing[@]} == 0)) || problems+=("still missing after the installation: ${missing[*]}")
}

# Elsewhere names differ from system to system, so say what is needed and let the
# libraries, the one thing that the compiler explains badly, decide.
check_elsewhere() {
    check_rust
    local tools=(pkg-config gcc g++ make nasm cmake) library tool
    [[ "$mode" != test ]] || tools+=(ffmpeg ffprobe dav1d aomdec node npm nginx redis-server openssl python3)
    [[ "$mode" != bench ]] || tools+=(ffmpeg ninja b3sum python3)
    for tool in "${tools[@]}"; do
        have "$tool" || absent+=("$tool")
    done
    say "not a Debian system: nothing is installed for you"
    say "needed: a C and C++ compiler, make, nasm, cmake, pkg-config, libclang,"
    say "        and the headers of FFmpeg 5.1 or newer: ${libraries[*]}"
    if [[ "$mode" == test ]]; then
        say "tests:  ffmpeg, dav1d, aomdec, Node.js $min_node or newer with npm, Chromium or Google Chrome,"
        say "        Redis, nginx with its dav-ext module, OpenSSL, Python 3 with venv"
        find_browser || absent+=("chromium")
    fi
    ((${#absent[@]} == 0)) || say "not found on PATH: ${absent[*]}"
    for library in "${libraries[@]}"; do
        if ! have pkg-config || ! pkg-config --exists "$library"; then
            problems+=("pkg-config does not find $library")
        fi
    done
}

if is_debian; then
    check_debian
else
    check_elsewhere
fi
report_problems
if ((${#absent[@]} == 0)); then
    [[ "$mode" == build ]] || install_wheels
    say "$mode: all there"
fi
