#!/bin/sh
# Fetches a distribution kernel with its modules, and a static busybox, into a directory: for the virtual machine of
# the kernel tests. Nothing is installed. Does nothing when the directory is ready.
# usage: kernel.sh DIRECTORY
set -eu

target=$1
[ -e "$target/ready" ] && exit 0

say() { echo "set-up: $*" >&2; }

if ! command -v apt-get >/dev/null 2>&1; then
    say "this system has no apt-get: put vmlinuz, lib/modules and a static busybox into $target, and make $target/ready"
    exit 1
fi

work="$target.part"
rm -rf "$work"
mkdir -p "$work/deb"
trap 'rm -rf "$work"' EXIT

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

# The packages a package depends on, by name.
depends() { apt-cache depends --important "$1" 2>/dev/null | sed -n 's/^ *|*Depends: *//p'; }

# The newest kernel's packages: one on Debian; on Ubuntu its modules are a package of their own.
kernel_packages() {
    for meta in linux-image-amd64 linux-image-virtual; do
        image=$(depends "$meta" | grep -E '^linux-image-(unsigned-)?[0-9]' | head -n 1)
        if [ -n "$image" ]; then
            echo "$image"
            depends "$image" | grep -E '^linux-modules-[0-9]' || true
            return
        fi
    done
    return 1
}

fetch() {
    packages=$(kernel_packages) || return 1
    say "fetching" $packages busybox-static
    # shellcheck disable=SC2086 # a list of packages
    (cd "$work/deb" && apt-get download -qq -o APT::Sandbox::User=root $packages busybox-static </dev/null >&2)
}

fetch 2>/dev/null || { as_root apt-get update -qq >&2 && fetch; }

mkdir "$work/root"
for package in "$work"/deb/*.deb; do
    # A pattern that one of the packages has nothing for is no failure; what is missing at the end is.
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work/root" --no-same-owner --wildcards \
        './boot/vmlinuz-*' '*/bin/busybox' \
        '*/kernel/arch/*' '*/kernel/crypto/*' '*/kernel/lib/*' '*/kernel/net/*' '*/kernel/fs/9p/*' '*/kernel/fs/overlayfs/*' \
        '*/kernel/fs/fscache/*' '*/kernel/fs/netfs/*' '*/kernel/drivers/virtio/*' '*/kernel/drivers/net/veth.*' \
        '*/kernel/drivers/net/dummy.*' '*/kernel/drivers/net/wireguard/*' '*/modules.builtin' 2>/dev/null || true
done
mv "$(find "$work/root" -path '*/boot/vmlinuz-*')" "$work/vmlinuz"
mv "$(find "$work/root" -type f -name busybox)" "$work/busybox"
mv "$(find "$work/root" -type d -path '*/lib/modules')" "$work/modules"
rm -rf "$work/deb" "$work/root"
test -x "$work/busybox"
test -d "$work/modules"
touch "$work/ready"
rm -rf "$target"
mv "$work" "$target"
