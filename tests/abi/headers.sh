#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
# Every public header compiles alone, twice, and after a header full of macros; as C99 and as C++,
# without a warning. The newest standards a compiler may default to are tried as well.
#
#     CC=... CXX=... headers.sh BUILD_INCLUDE SOURCE_INCLUDE

set -euo pipefail

build=$1
source=$2
failed=0
tried=0

# compile HEADER COMPILER ARGS...
compile() {
    local header=$1
    shift
    tried=$((tried + 1))
    if ! printf '#include <%s>\n' "$header" syslog.h sys/param.h "$header" |
        "$@" -pedantic-errors -Wall -Wextra -Werror -fsyntax-only \
            -I"$build" -I"$source" -; then
        echo "<$header> does not compile alone with: $*"
        failed=1
    fi
}

cd "$source"
for header in godwit.h godwit/*.h godwit/frontend/*.h godwit/version.h; do
    # CC and CXX may hold arguments
    # shellcheck disable=SC2086
    compile "$header" $CC -x c -std=c99 -Wstrict-prototypes -Wshadow
    # shellcheck disable=SC2086
    compile "$header" $CC -x c -std=gnu2x
    if [ -n "${CXX:-}" ]; then
        # shellcheck disable=SC2086
        compile "$header" $CXX -x c++ -std=c++11
        # shellcheck disable=SC2086
        compile "$header" $CXX -x c++ -std=gnu++20
    fi
done
[ "$tried" -gt 0 ]
[ -n "${CXX:-}" ] || { echo "no C++ compiler: tried as C only" >&2; [ "$failed" = 0 ] && exit 77; }
exit "$failed"
