#!/bin/sh
# Installs the browsers for the tests of pages, as root where there is apt-get. Where that fails, those tests are skipped.
missing=""
{ command -v chromium-headless-shell || command -v chromium; } >/dev/null || missing="chromium-headless-shell"
command -v WebKitWebDriver >/dev/null && command -v Xvfb >/dev/null || missing="$missing webkit2gtk-driver xvfb xauth"
[ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
export DEBIAN_FRONTEND=noninteractive
timeout 60 apt-get update -qq >/dev/null 2>&1
# One at a time: where one is not to be had, the other may be.
for packages in chromium-headless-shell "webkit2gtk-driver xvfb xauth"; do
    case "$missing" in
    *"$packages"*)
        # shellcheck disable=SC2086
        timeout 180 apt-get install -y -qq --no-install-recommends $packages >/dev/null 2>&1 ||
            echo "$packages could not be installed: the tests of pages in that browser are skipped." >&2
        ;;
    esac
done
exit 0
