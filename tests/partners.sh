#!/bin/sh
# Installs the programs that tests of drivers talk to, as root where there is apt-get. Where that fails, those tests are
# skipped. A test finds its partner with `shutil.which`.
missing=
PATH=$PATH:/usr/sbin
for partner in dump1090-mutability gpsd rtl-433=rtl_433; do # packages, and their programs if those have other names
    command -v "${partner#*=}" >/dev/null || missing="$missing ${partner%%=*}"
done
[ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
export DEBIAN_FRONTEND=noninteractive
{
    timeout 60 apt-get update -qq &&
    timeout 180 apt-get install -y -qq --no-install-recommends $missing
} >/dev/null 2>&1 || echo "Not installed:$missing; the tests with them are skipped." >&2
exit 0
