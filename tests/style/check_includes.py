#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Which folders may include which others, and which system headers belong to one folder only.

usage: check_includes.py ROOT
"""

import os.path
import re
from fnmatch import fnmatch

import tree

# What both ends of the wire and the tools may share: nothing of a ring or a message.
SHARED = ["src/base/cleanup.h", "src/base/clock.h", "src/base/histogram.h", "src/base/random.h"]

# folder -> the headers of ours that a file there may include. The first folder that matches counts.
# "own" stands for the headers in the folder of the file itself.
MAY_INCLUDE = [
    ("include", ["include/*"]),
    ("src/base", ["include/*", "own"]),
    ("src/fd", ["include/*", "own", "src/base/clock.h"]),
    # A worker's turn calls its queues; a session's messages reach all of its daemon.
    ("src/core/loop", ["include/*", "own", "src/base/*", "src/fd/peer_fd.h",
                       "src/core/memory/sigbus.h", "src/core/queue/queue.h"]),
    ("src/core/memory", ["include/*", "own", "src/base/*", "src/fd/peer_fd.h",
                         "src/postcopy/postcopy.h"]),
    ("src/core/ring", ["include/*", "own", "src/base/*", "src/core/memory/iotlb.h",
                       "src/core/memory/mem.h", "src/log/dirty_log.h"]),
    ("src/core/queue", ["include/*", "own", "src/base/*", "src/fd/peer_fd.h", "src/core/loop/*",
                        "src/core/memory/*", "src/core/ring/*", "src/core/inflight/inflight.h",
                        "src/core/inflight/resume.h", "src/core/translation/translation.h",
                        "src/log/*.h"]),
    ("src/core/device", ["include/*", "own", "src/base/*", "src/core/memory/access.h",
                         "src/core/queue/queue_i.h"]),
    ("src/core/translation", ["include/*", "own", "src/base/*", "src/core/loop/latch.h",
                              "src/core/memory/*", "src/core/queue/*"]),
    ("src/core/vring", ["include/*", "own", "src/base/*", "src/core/memory/mem.h",
                        "src/core/queue/queue_i.h"]),
    ("src/core/inflight", ["include/*", "own", "src/base/*", "src/core/memory/mapping.h",
                           "src/core/queue/*", "src/core/ring/*"]),
    ("src/core/state", ["include/*", "own", "src/base/*", "src/fd/peer_stream.h",
                        "src/core/daemon/daemon.h", "src/core/message/operation.h",
                        "src/core/session/session.h"]),
    ("src/core/message", ["include/*", "own", "src/base/*", "src/fd/peer_fd.h",
                          "src/core/daemon/control.h", "src/core/daemon/daemon.h",
                          "src/core/daemon/attach.h", "src/core/inflight/inflight.h",
                          "src/core/loop/workers.h", "src/core/move/*", "src/core/session/*",
                          "src/core/state/transfer.h"]),
    ("src/core/move", ["include/*", "own", "src/base/*", "src/core/daemon/attach.h",
                       "src/core/daemon/control.h", "src/core/daemon/daemon.h",
                       "src/core/message/dispatch.h", "src/core/message/operation.h",
                       "src/core/session/session.h"]),
    ("src/core/session", ["include/*", "own", "src/base/*", "src/fd/detached.h", "src/fd/peer_fd.h",
                          "src/core/daemon/control.h", "src/core/daemon/daemon.h",
                          "src/core/loop/loop.h", "src/core/message/*", "src/core/move/*",
                         "src/core/state/transfer.h"]),
    ("src/core/daemon", ["include/*", "own", "src/base/*", "src/fd/peer_fd.h",
                         "src/core/loop/worker*.h", "src/core/memory/mem.h",
                         "src/core/memory/sigbus.h",
                         "src/core/queue/queue.h", "src/core/move/balance.h",
                         "src/core/move/move.h", "src/core/message/ctl_iotlb.h",
                         "src/core/message/operation.h",
                         "src/core/session/backend_req.h", "src/core/session/session.h",
                         "src/core/session/socket.h",
                         "src/core/state/transfer.h"]),
    ("src/log", ["include/*", "own", "src/base/*", "src/core/memory/mapping.h",
                 "src/fd/peer_fd.h"]),
    ("src/postcopy", ["include/*", "own", "src/base/*"]),
    ("src/xen", ["include/*", "own", "src/base/*", "src/core/memory/mem*.h",
                 "src/core/queue/copies.h", "src/core/queue/evtchn.h", "src/core/queue/queue_i.h",
                 "src/fd/peer_fd.h"]),
    ("src/frontend", ["include/*", "src/frontend/*", "src/base/checked.h",
                      "src/base/list.h", "src/base/proto.h",
                      "src/base/struct_sizes.h", "src/fd/peer_fd.h", "src/fd/peer_stream.h",
                      *SHARED]),
    # A user of libgodwit like any other: only its public headers.
    ("src/blk", ["include/*", "own", "src/base/checked.h"]),
    # Not of the library, but it reaches into the drivers that it loads a device with.
    ("tools/load", ["include/*", "own", "src/frontend/*", "src/base/checked.h", "src/base/proto.h",
                    "src/fd/peer_fd.h", *SHARED]),
    ("tools/common", ["include/*", "own", "src/base/clock.h", "src/base/log_limit.h",
                      "src/fd/peer_fd.h"]),
    # Pages are made from the JSON of a report, by whatever command it is.
    ("tools/godwit/html", ["include/*", "own", "tools/godwit/command.h", "tools/godwit/format.h",
                           "tools/godwit/output.h", "tools/godwit/utf8.h", "tools/godwit/report/json.h",
                           "tools/godwit/migrate/migrate.h"]),
    ("tools/godwit", ["include/*", "tools/godwit/*", "tools/common/*.h", "tools/load/load*.h",
                      "tools/xen-agent/*.h", "src/base/proto.h", "src/fd/peer_fd.h", *SHARED]),
    ("tools/blk", ["include/*", "tools/blk/*", "tools/common/*.h", *SHARED]),
    ("tools", ["include/*", "own", "tools/common/*.h", "tools/load/load.h", "tools/xen-agent/*.h",
               "src/base/proto.h", "src/fd/peer_fd.h", *SHARED]),
    ("tests/unit", ["include/*", "tests/unit/*", "src/*", "tests/util/*.h", "tools/*"]),
    ("tests/fuzz", ["include/*", "own", "src/*", "tests/util/*.h", "tools/godwit/*.h"]),
    ("tests/bench", ["include/*", "tests/bench/*.h", "src/base/*.h", "src/core/*.h", "src/log/*.h",
                     "src/postcopy/*.h", "tests/util/*.h", "tools/load/load*.h"]),
    ("tests/mutants", ["include/*", "own", "src/base/proto.h", "tests/util/*.h"]),
    ("tests/lab", ["include/*", "own", "src/base/proto.h", "src/core/move/postcopy_worker.h",
                   "src/log/*.h", "src/postcopy/*.h",
                   "tests/lab/*.h", "tests/util/*.h", "tools/load/load.h", "tools/xen-agent/*.h"]),
    ("tests/util", ["include/*", "own", "src/base/*.h", "src/core/*.h"]),
    ("tests/integration", ["include/*", "tests/integration/*", "src/base/proto.h", "tests/util/*.h",
                            "tools/godwit/*.h", "tools/load/load.h", *SHARED]),
    ("tests/abi", ["include/*"]),
    ("examples", ["include/*"]),
]

# system header (pattern) -> the only folders for it.
ONLY_IN = {
    "liburing.h": ["src/core/loop", "tests/lab"],
    "linux/io_uring.h": ["src/core/loop", "tests"],
    "sys/socket.h": ["src/core/session", "src/core/daemon", "src/fd", "src/frontend", "tools", "tests"],
    "sys/un.h": ["src/core/session", "src/core/daemon", "src/frontend", "tools", "tests"],
    "linux/userfaultfd.h": ["src/postcopy", "src/frontend", "tests"],
    "linux/virtio_ring.h": ["src/core/ring", "src/core/queue", "src/core/inflight", "src/frontend",
                             "tests"],
    "xen*.h": ["src/xen", "tools/xen-agent", "tests"],
    "xen/*": ["src/xen", "tools/xen-agent", "tests"],
    "cmocka.h": ["tests"],
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)

# Headers generated by the build: their folders.
GENERATED = {"godwit/version.h": "include/godwit/version.h"}


def resolve(ours, path, name, quoted):
    """The path of the included header, relative to root; None for a system header."""
    if name in GENERATED:
        return GENERATED[name]
    beside = os.path.normpath(path.parent / name)
    if quoted and beside in ours:
        return beside
    places = ["include"] if not quoted else ["src", "include"]
    for place in places:
        if f"{place}/{name}" in ours:
            return f"{place}/{name}"
    # Found by -I of another folder, if only one header has this name.
    others = [header for header in ours if quoted and f"/{header}".endswith(f"/{name}")]
    return others[0] if len(others) == 1 else None


def allowed(path, header, patterns):
    own = path.parent.as_posix() + "/*"
    return any(fnmatch(header, own if pattern == "own" else pattern) for pattern in patterns)


def check(root):
    ours = {path.as_posix() for path in tree.c_files(root) if path.suffix == ".h"}
    for path in tree.c_files(root):
        patterns = next((p for folder, p in MAY_INCLUDE if tree.below(path, folder)), None)
        if patterns is None:
            yield f"{path}: no rule says what a file here may include"
            continue
        text = tree.read(root / path)
        for match in INCLUDE.finditer(text):
            where = f"{path}:{text.count(chr(10), 0, match.start()) + 1}"
            name, quoted = match.group(2), match.group(1) == '"'
            header = resolve(ours, path, name, quoted)
            if header is not None:
                if not allowed(path, header, patterns):
                    yield f"{where}: must not include {header}"
            elif quoted:
                yield f"{where}: {name} is no header of ours"
            for pattern, folders in ONLY_IN.items():
                if header is None and fnmatch(name, pattern) and \
                        not any(tree.below(path, folder) for folder in folders):
                    yield f"{where}: <{name}> is for {', '.join(folders)} only"


if __name__ == "__main__":
    tree.main(check)
