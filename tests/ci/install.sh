#!/bin/sh
# `make install` into a scratch folder; then, as a user of the library would: the header alone as C11 and as C++, and the
# README's C example against the shared and the static library. `make test-install` calls it with BUILD and CC set.
set -eu
build=${BUILD:-build}
cc=${CC:-cc}
stage=$(realpath -m "$build/stage")
rm -rf "$stage"
make --no-print-directory BUILD="$build" CC="$cc" PREFIX=/usr DESTDIR="$stage" install >/dev/null
passed=0
ok() { passed=$((passed + 1)) && echo "ok: $*"; }
fail() { echo "FAIL: $*" && echo "$passed passed, 1 failed" && exit 1; }

[ "$(PATH=$stage/usr/bin:$PATH annotmixd version | head -n 1)" = "annotmixd $(sed -n 's/^VERSION := //p' Makefile)" ] ||
    fail "the installed program tells another version than the Makefile"
ok "the installed program tells its version"

export PKG_CONFIG_PATH="$stage/usr/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$stage"
strict='-Wall -Wextra -Wpedantic -Werror'
echo '#include <annotmix.h>' >"$stage/alone.c"
cp "$stage/alone.c" "$stage/alone.cc"
# shellcheck disable=SC2086,SC2046
$cc -std=c11 $strict $(pkg-config --cflags annotmix) -fsyntax-only "$stage/alone.c" || fail "annotmix.h as C11"
ok "annotmix.h alone as C11"
cxx=
for c in g++ clang++ c++; do
    if command -v $c >/dev/null; then cxx=$c && break; fi
done
if [ -n "$cxx" ]; then
    # shellcheck disable=SC2086,SC2046
    $cxx -x c++ -std=c++11 $strict -nostdinc++ $(pkg-config --cflags annotmix) -fsyntax-only "$stage/alone.cc" || fail "annotmix.h as C++"
    ok "annotmix.h alone as C++ ($cxx)"
fi

awk '/<!-- example:start -->/ { on = 1; next } /<!-- example:end -->/ { on = 0 } on && !/^```/' README.md >"$stage/example.c"
[ -s "$stage/example.c" ] || fail "README.md has no C example"
# shellcheck disable=SC2086,SC2046
$cc -std=c11 $strict "$stage/example.c" -o "$stage/example" $(pkg-config --cflags --libs annotmix) || fail "example, shared"
LD_LIBRARY_PATH="$stage/usr/lib" "$stage/example" || fail "the example ended with status $?"
ok "README's C example with libannotmix.so"
# shellcheck disable=SC2086,SC2046
$cc -std=c11 $strict "$stage/example.c" -o "$stage/example-static" $(pkg-config --cflags annotmix) "$stage/usr/lib/libannotmix.a" \
    $(env -u PKG_CONFIG_SYSROOT_DIR pkg-config --libs jansson nettle) -lopenblas -lm -lpthread || fail "example, static"
"$stage/example-static" >/dev/null || fail "the static example ended with status $?"
ok "README's C example with libannotmix.a"

exported=$(nm -D --defined-only "$stage/usr/lib/libannotmix.so" | awk '$2 ~ /[TDBR]/ { print $3 }' | grep -v '^amx_' || true)
[ -z "$exported" ] || fail "libannotmix.so exports more than amx_*:" $exported
ok "libannotmix.so exports amx_* only"
echo "$passed passed, 0 failed"
