#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Completes command lines of the installed programs with real shells: bash, which loads the completion
of a command by its name, and an interactive zsh.

usage: MESON=... completions.py bash|zsh BUILD SUFFIX
"""

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATIENCE_S = 120
BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")

# The words before the cursor, what must be offered, what must not. {} is the suffix of the programs.
LINES = [
    ("godwit{} ", ["probe", "bench", "migrate", "crash", "help"], ["--kills"]),
    ("godwit{} m", ["migrate"], ["probe"]),
    ("godwit{} help p", ["probe"], ["migrate"]),
    ("godwit{} migrate --memory-f", ["--memory-form="], ["--memory"]),
    ("godwit{} migrate --memory-form=", ["auto", "table", "slots"], ["x"]),
    ("godwit{} migrate --memory-form=s", ["slots"], ["table"]),
    ("godwit{} crash --ki", ["--kills="], ["--killed"]),
    ("godwit{} bench --in", ["--in-order", "--indirect"], ["--json"]),
    ("godwit{} probe -d r", ["rng"], ["blk"]),
    ("godwit{} probe --device=r", ["rng"], ["blk"]),
    ("godwit{} bench --targets=exa", ["example.html"], ["other"]),
    ("godwit{} migrate --report=exa", ["example.html"], ["other"]),
    ("godwit{} probe exa", ["example.html"], ["other"]),
    ("godwit-blk{} --lo", ["--locking=", "--loop=", "--logical-block-size="], ["--blk-file="]),
    ("godwit-blk{} --loop=", ["auto", "uring", "epoll"], ["unmap"]),
    ("godwit-blk{} --loop u", ["uring"], ["epoll"]),
    ("godwit-blk{} --blk-file=exa", ["example.html"], ["other"]),
    ("godwit-blk{} --config=exa", ["example.html"], ["other"]),
    ("godwit-blk{} --discard=", ["unmap", "ignore"], ["auto"]),
    ("godwit-rng{} --s", ["--socket-path="], ["--fd="]),
    ("godwit-rng{} --socket-path=exa", ["example.html"], ["other"]),
]

# It reads a line, splits it at the word breaks of bash as readline does, and completes its last word.
BASH = r"""
source "$1"
complete_line() {
    local name=${1%% *}
    complete -p "$name" >/dev/null 2>&1 || _completion_loader "$name"
    local function
    function=$(complete -p "$name" | sed -n 's/.* -F \([^ ]*\) .*/\1/p')
    [ -n "$function" ] || { echo "no completion of $name"; return; }
    COMP_LINE=$1 COMP_POINT=${#1}
    mapfile -t COMP_WORDS < <(sed 's/=/\n=\n/g; s/ /\n/g' <<<"$1" | sed -e '$!b' -e '/./b')
    [[ $1 != *= ]] || unset "COMP_WORDS[${#COMP_WORDS[@]}-1]"
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    "$function" "$name" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    printf '%s\n' "${COMPREPLY[@]}"
}
complete_line "$2"
"""

# Each match that the completion system adds is printed.
ZSHRC = r"""
PROMPT=READY
fpath=(%s $fpath)
autoload -Uz compinit && compinit -u -d $ZDOTDIR/dump
zstyle ':completion:*' verbose no
unsetopt beep always_last_prompt
compadd() {
    local -a hits
    if [[ " $* " != *' -'[OAD]' '* ]]; then
        builtin compadd -A hits "$@"
        (($#hits == 0)) || print -rl -- '' MATCH:${^hits}:
    fi
    builtin compadd "$@"
}
bindkey '^I' list-choices
"""


def install(build, folder):
    root = Path(folder, "root")
    done = subprocess.run([*shlex.split(os.environ.get("MESON", "meson")), "install", "-C", build,
                           "--no-rebuild", "--quiet", "--destdir", root], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stdout)
    return root


def bash_words(line, root, folder):
    share = next(root.rglob("bash-completion")).parent
    environment = {"PATH": os.environ["PATH"], "XDG_DATA_DIRS": str(share), "HOME": folder, "LC_ALL": "C"}
    done = subprocess.run(["bash", "--norc", "-c", BASH, "bash", BASH_COMPLETION, line], env=environment,
                          cwd=Path(folder, "work"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, timeout=PATIENCE_S)
    return done.stdout.split()


class Zsh:
    """An interactive zsh on a terminal of its own."""

    def __init__(self, root, folder):
        functions = next(root.rglob("site-functions"))
        Path(folder, ".zshrc").write_text(ZSHRC % functions)
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(Path(folder, "work"))
            os.execvpe("zsh", ["zsh", "-d", "-i"], {
                "PATH": os.environ["PATH"], "ZDOTDIR": folder, "HOME": folder, "TERM": "dumb", "LC_ALL": "C",
                "COLUMNS": "500", "LINES": "500"})
        self.read_until("READY")

    def read_until(self, pattern):
        text, end = "", time.monotonic() + PATIENCE_S
        while not re.search(pattern, text, re.DOTALL):
            if not select.select([self.terminal], [], [], max(0, end - time.monotonic()))[0]:
                sys.exit(f"zsh does not answer; it printed: {text}")
            text += os.read(self.terminal, 65536).decode(errors="replace")
        return text

    def words(self, line):
        # Control-U empties the line; the matches are printed before the widget behind it runs.
        os.write(self.terminal, (line + "\t\x15print -r -- DO''NE\n").encode())
        text = self.read_until("DONE\r?\n.*READY")
        return re.findall(r"MATCH:(.*?):\r?$", text, re.MULTILINE)

    def close(self):
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


def check(shell, suffix, root, folder):
    """The lines that are completed wrongly."""
    zsh = Zsh(root, folder) if shell == "zsh" else None
    for line, offered, absent in LINES:
        line = line.replace("{}", suffix)
        words = zsh.words(line) if zsh else bash_words(line, root, folder)
        # zsh adds the equals sign as a suffix.
        held = [*words, *(word + "=" for word in words)] if zsh else words
        if not set(offered) <= set(held) or set(absent) & set(words):
            yield f"{line!r}: {words}"
    if zsh:
        zsh.close()


def main():
    shell, build, suffix = sys.argv[1], sys.argv[2], "".join(sys.argv[3:])
    missing = [name for name in ([shell, str(BASH_COMPLETION)] if shell == "bash" else [shell])
               if not (shutil.which(name) or Path(name).is_file())]
    if missing:
        print(f"not installed: {' '.join(missing)}", file=sys.stderr)
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        root = install(build, folder)
        Path(folder, "work").mkdir()
        for name in ("example.html", "other"):
            Path(folder, "work", name).write_text("")
        programs = {program.name for program in next(root.rglob("bin")).iterdir()}
        files = list(next(root.rglob("completions" if shell == "bash" else "site-functions")).iterdir())
        failed = list(check(shell, suffix, root, folder))
        if {file.name for file in files} != {("" if shell == "bash" else "_") + name for name in programs}:
            failed.append(f"programs {sorted(programs)}, completions {sorted(file.name for file in files)}")
        # The check must find a word that is missing.
        for file in files:
            file.write_text(file.read_text().replace(" slots", " "))
        found = list(check(shell, suffix, root, folder))
        if not failed and len(found) != 2:
            failed.append(f"without the word slots: {found}")
    print("\n".join(failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
