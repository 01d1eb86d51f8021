#!/bin/sh
# Installs the system packages that the demo and the tests need, where they are missing.
# For Debian 12 and 13 and Ubuntu 24.04; says what is needed on other systems. Does nothing when all is there.
set -eu

# package=program, or package=file where it brings no program of its own. miniupnpd-nftables is the router daemon alone:
# unlike miniupnpd it has no service that would start. Ubuntu's Chromium has another name.
is_ubuntu() { grep -qs '^ID=ubuntu$' /etc/os-release; }
if is_ubuntu; then CHROMIUM=chromium-browser; else CHROMIUM=chromium; fi
NEEDED="
bird2=bird
$CHROMIUM=$CHROMIUM
iperf3=iperf3
iproute2=ip
iputils-ping=ping
miniupnpd-nftables=miniupnpd
nftables=nft
qemu-system-x86=qemu-system-x86_64
systemd=systemd-analyze
tcpdump=tcpdump
util-linux=unshare
wireguard-go=wireguard-go
wireguard-tools=wg
zstd=zstd
"

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
PYTHON=${PYTHON:-python3}

say() { echo "set-up: $*" >&2; }

missing=""
for entry in $NEEDED; do
    command -v "${entry#*=}" >/dev/null 2>&1 || missing="$missing ${entry%%=*}"
done
if ! command -v "$PYTHON" >/dev/null 2>&1; then
    missing="$missing python3 python3-venv"
elif ! "$PYTHON" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    missing="$missing python3-venv"
fi

if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        say "this system has no apt-get. Install, by its own means, what these Debian packages hold:$missing"
        exit 1
    fi
    sudo=""
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null 2>&1; then
            say "as root, run: apt-get install --no-install-recommends$missing"
            exit 1
        fi
        sudo="sudo"
    fi
    say "installing$missing"
    # bird2 brings a daemon for the whole system, which Debian starts and enables at once. Nobody has asked for that one:
    # the machines of the lab start their own. While a policy says so, no package starts anything.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap '$sudo rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' | $sudo install -m 755 /dev/stdin "$policy"
    fi
    install_missing() {
        # shellcheck disable=SC2086 # a list of packages
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing </dev/null >&2
    }
    # The package lists may be absent or too old to name files that still exist: refresh them only then.
    install_missing 2>/dev/null || { $sudo apt-get update -qq >&2 && install_missing; }
    case "$missing" in
        *bird2*)
            if command -v systemctl >/dev/null 2>&1; then $sudo systemctl --quiet disable bird.service >&2; fi
            if [ -d /run/systemd/system ]; then $sudo systemctl --quiet stop bird.service >&2; fi
            ;;
    esac
fi

"$PYTHON" - <<'CHECK'
import sys

if sys.version_info < (3, 11):
    sys.exit(
        f"set-up: {sys.executable} is Python {sys.version.split()[0]}; Wireloom needs 3.11 or newer. "
        "Name one with `make PYTHON=python3.12 …`."
    )
CHECK
