#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Makes the completions of a program for bash and zsh. It asks the program: --help lists the options of
its tables, and an option whose value is one of a few words names them if it is given another one.

usage: completions.py NAME PROGRAM BASH_FILE ZSH_FILE
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

NAME = r"--[a-z][\w-]*"
OPTION = re.compile(rf"  +(?P<names>(?:-.(?:, |\s))?(?:{NAME}(?:\[?=\S+?)?(?:, (?=-)|(?=\s|$)))+)\s*(?P<help>.*)")
WORDS = re.compile(r"is not one of: (.*)")
COMMAND = re.compile(r"  ([a-z]+) {2,}(\S.*)")
FILES = re.compile(r"(FILE|PATH)\b")
HELP = {"--help": "show the options", "--version": "show the version", "--usage": "show a short usage message"}


@dataclass
class Option:
    names: list  # -x and --long, with aliases
    argument: str  # its name; "" without one
    is_optional: bool
    text: str
    words: list = field(default_factory=list)

    @property
    def takes_files(self):
        return bool(FILES.match(self.argument))


def output_of(*command):
    # Help in lines that are long enough for every option.
    done = subprocess.run(command, env={**os.environ, "ARGP_HELP_FMT": "rmargin=10000", "LC_ALL": "C"},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, timeout=60)
    return done.stdout


def option_of(names, text):
    match = re.search(rf"{NAME}(\[?)=(\S+?)\]?(?=,? |$)", names)
    found = re.findall(rf"(?<![\w=-])(?:{NAME}|-[\w?])(?![\w-])", re.sub(r"=\S*", "", names.replace("[=", "=")))
    option = Option(found, match.group(2) if match else "", bool(match and match.group(1)), text.strip())
    option.text = HELP.get(found[-1], option.text)
    return option


def read_options(text):
    """The options in the output of --help: lines of argp, which begins with Usage, or a short usage."""
    options, lines = [], text.splitlines()
    if text.startswith("usage:"):
        usage = text.split("\n\n")[0]
        return [option_of(names, "") for names in re.findall(rf"{NAME}(?:=\w+)?", usage)]
    for number, line in enumerate(lines):
        match = OPTION.fullmatch(line)
        if match:
            following = lines[number + 1] if number + 1 < len(lines) else ""
            options.append(option_of(match["names"], match["help"] or following))
    return options


def add_words(option, command):
    """The words that the option accepts, if these are few: the program names them."""
    if option.argument and not option.takes_files and not option.is_optional:
        match = WORDS.search(output_of(*command, f"{option.names[-1]}=", "--no-such-option"))
        if match:
            option.words = match.group(1).split(", ")


def read(program):
    """Commands (name -> summary) and, for each and for none, the options."""
    text = output_of(program, "--help")
    commands = {}
    if re.match(r"usage: \S+ COMMAND", text):
        commands = dict(match.groups() for match in map(COMMAND.fullmatch, text.splitlines()) if match)
    options = {"": read_options(text)}
    for command in commands:
        if command != "help":
            options[command] = read_options(output_of(program, command, "--help"))
    for command, found in options.items():
        for option in found:
            add_words(option, [program, command] if command else [program])
    return commands, options


BASH = r"""# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Completion of @name@ for bash, made from its options by tools/dev/completions.py.

# The options of a command; those with a value end in "=".
@function@_options()
{
    case $1 in
@options@
    esac
}

# The words that an option of a command accepts; "FILES" for files.
@function@_values()
{
    case "$1 $2" in
@values@
    esac
}

@function@()
{
    local cur=${COMP_WORDS[COMP_CWORD]} option='' command='' values i
    local before=${COMP_WORDS[COMP_CWORD - 1]}

    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ' @commands@ ' in *" ${COMP_WORDS[i]} "*)
            command=${COMP_WORDS[i]}
            break
            ;;
        esac
        [[ ${COMP_WORDS[i]} == -* ]] || break
    done
    # Bash splits --option=VALUE at the equals sign, unless COMP_WORDBREAKS is changed.
    if [[ $cur == = ]]; then
        option=$before cur=''
    elif [[ $before == = ]]; then
        option=${COMP_WORDS[COMP_CWORD - 2]}
    elif [[ $cur == --*=* ]]; then
        option=${cur%%=*} cur=${cur#*=}
    elif [[ " $(@function@_options "$command") " == *" $before= "* ]]; then
        option=$before
    elif [[ $before == -? && -n $(@function@_values "$command" "$before") ]]; then
        option=$before
    fi

    if [[ -n $option ]]; then
        values=$(@function@_values "$command" "$option")
        if [[ $values == FILES ]]; then
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -W "$values" -- "$cur")
        fi
    elif [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(@function@_options "$command")" -- "$cur")
        [[ ${#COMPREPLY[@]} != 1 || ${COMPREPLY[0]} != *= ]] || compopt -o nospace 2>/dev/null
    elif [[ -n '@commands@' && -z $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W '@commands@' -- "$cur")
    elif [[ $command == help ]]; then
        mapfile -t COMPREPLY < <(compgen -W '@commands@' -- "$cur")
    elif [[ -n $command ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}

complete -F @function@ @name@
"""


def bash(name, commands, options):
    listed, values = [], []
    for command, found in options.items():
        names = " ".join(
            option_name + "=" * (option_name.startswith("--") and bool(option.argument) and not option.is_optional)
            for option in found for option_name in option.names if option_name != "-?")
        listed.append(f"    '{command}') echo '{names}' ;;")
        for option in found:
            words = "FILES" if option.takes_files else " ".join(option.words)
            if words:
                pattern = " | ".join(f"'{command} {option_name}'" for option_name in option.names)
                values.append(f"    {pattern}) echo '{words}' ;;")
    text = BASH
    for key, value in {"name": name, "function": "_" + name.replace("-", "_"), "commands": " ".join(commands),
                       "options": "\n".join(listed), "values": "\n".join(values) or "    *) ;;"}.items():
        text = text.replace(f"@{key}@", value)
    return text


def quoted(text):
    """Words within a specification of _arguments, in single quotes."""
    return re.sub(r"([\\:\[\]])", r"\\\1", text).replace("'", "'\\''")


def zsh_option(option):
    names = [name for name in option.names if name != "-?"]
    action = "_files" if option.takes_files else f"({' '.join(option.words)})" if option.words else " "
    value = ""
    if option.argument:
        value = f"{'::' if option.is_optional else ':'}{quoted(option.argument)}:{action}"
    for name in names:
        if not option.argument:
            spec = name
        elif name.startswith("--"):
            spec = name + ("=-" if option.is_optional else "=")
        else:
            spec = name + ("-" if option.is_optional else "+")
        # A repeated -v means more.
        others = "*" if "--verbose" in names else f"({' '.join(names)})"
        text = f"[{quoted(option.text)}]" if option.text else ""
        yield f"'{others}{spec}{text}{value}'"


def zsh(name, commands, options):
    def arguments(found, rest):
        specs = [spec for option in found for spec in zsh_option(option)]
        return " \\\n        ".join(["_arguments -s -S", *specs, *rest])

    lines = [f"#compdef {name}",
             "# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause",
             f"# Completion of {name} for zsh, made from its options by tools/dev/completions.py.", ""]
    if not commands:
        return "\n".join([*lines, arguments(options[""], []), ""])
    described = " ".join(f"'{command}:{quoted(summary)}'" for command, summary in commands.items())
    lines += [f"local -a commands=({described})", "",
              "if ((CURRENT == 2)); then",
              "    _describe command commands",
              "    return", "fi",
              "shift words", "((CURRENT--))",
              "case $words[1] in"]
    for command, found in options.items():
        if command:
            lines += [f"{command})", f"    {arguments(found, [chr(39) + '*:target:_files' + chr(39)])}", "    ;;"]
    return "\n".join([*lines, "help)", "    _describe command commands", "    ;;", "esac", ""])


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    name, program, bash_file, zsh_file = sys.argv[1:]
    commands, options = read(str(Path(program).resolve()))
    if not any(options.values()):
        sys.exit(f"{program} --help lists no options")
    Path(bash_file).write_text(bash(name, commands, options), encoding="utf-8")
    Path(zsh_file).write_text(zsh(name, commands, options), encoding="utf-8")


if __name__ == "__main__":
    main()
