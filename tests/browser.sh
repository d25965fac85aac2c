#!/bin/sh
# Installs the browser for the tests of pages, as root where there is apt-get. Where that fails, those tests are skipped.
command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null && exit 0
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
export DEBIAN_FRONTEND=noninteractive
{
    timeout 60 apt-get update -qq &&
    timeout 180 apt-get install -y -qq --no-install-recommends chromium-headless-shell
} >/dev/null 2>&1 || echo "No browser could be installed: the tests of pages in a browser are skipped." >&2
exit 0
