# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The rules by which a mutant changes one line of C."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    file: str
    line: int  # from 1
    kind: str
    before: str
    after: str

    def apply(self, text):
        lines = text.splitlines(keepends=True)
        assert lines[self.line - 1].rstrip('\n') == self.before
        lines[self.line - 1] = self.after + '\n'
        return ''.join(lines)

    def key(self):
        return self.file, self.before.strip(), self.after.strip()


# (kind, pattern, replacement); each match on a line is a mutant.
REPLACEMENTS = [(kind, re.compile(pattern), by) for kind, pattern, by in (
    ('comparison', r'(?<![<>=!-])<(?![<=])(?= )', '<='),
    ('comparison', r'(?<= )<=(?= )', '<'),
    ('comparison', r'(?<= )>(?= )', '>='),
    ('comparison', r'(?<= )>=(?= )', '>'),
    ('comparison', r'==', '!='),
    ('comparison', r'!=', '=='),
    ('logic', r'&&', '||'),
    ('logic', r'\|\|', '&&'),
    ('logic', r'!(?=[a-z(*])', ''),
    ('logic', r'\btrue\b', 'false'),
    ('logic', r'\bfalse\b', 'true'),
    ('arithmetic', r'(?<= )\+(?= )', '-'),
    ('arithmetic', r'(?<= )-(?= )', '+'),
    ('arithmetic', r'\+=', '-='),
    ('arithmetic', r'-=', '+='),
    ('arithmetic', r'(?<=\w)\+\+', '--'),
    ('arithmetic', r'(?<=\w)--', '++'),
    ('constant', r'(?<!calloc\()\b1\b(?!\.)', '2'),  # more memory than needed changes nothing
    ('constant', r'(?<=[ (\[])0(?=[;,)\] ])', '1'),
    ('bits', r'(?<= )\|(?= )', '&'),
    ('bits', r'(?<= )&(?= )', '|'),
    ('bits', r'<<', '>>'),
    ('result', r'\breturn r;', 'return 0;'),
    ('result', r'\breturn gw_fail\(.*\);', 'return 0;'),
    ('result', r'\breturn -E\w+;', 'return 0;'),
)]

STATEMENT = re.compile(r'^\s+(?!return\b|break\b|continue\b|goto\b|case\b|default\b|else\b|do\b)'
                       r'(?:[\w>.()*&\[\]-]+ (?:[|&+-]?= )|\(void\)|[\w>.-]+\().*;\s*(?:/\*.*\*/)?$')
DECLARATION = re.compile(r'^\s+(?:const |static |volatile |struct |union |enum |unsigned |gw_cleanup_\w+ )'
                         r'|^\s+(?:u?int\d*_t|int|bool|char|size_t|ssize_t|uint\d+_t|void|long|double|gw_\w+_t)\s')
# Tests need not insist on messages, assertions, counters, prefetches and names of threads. The C
# library of Linux frees nothing when a mutex, condition, lock or attribute is destroyed.
IGNORED = re.compile(r'^\s*(?:#|/?\*|//|assert\b|_Static_assert\b|case\b|\}|\{)|gw_log|gw_count|'
                     r'(?i:prefetch)|pthread_setname_np|pthread_\w+_destroy|"')
# If two values are equal, it does not matter which of them is the smaller one.
LIMIT_IF = re.compile(r'^\s*(?:else )?if \((.+) ([<>]=?) (.+)\)$')
OPERAND = r'\w[\w>.()\[\]-]*(?: [-+] \w[\w>.()\[\]-]*)?'
LIMIT_TERNARY = re.compile(rf'(?<![\w>.])({OPERAND}) ([<>]=?) ({OPERAND}) \? (.+?) : (.+?)(?=[;,)]|$)')


def code_of(line):
    """The line without a comment at its end."""
    return line.split('/*')[0].rstrip()


def is_limit(code, following, at):
    """Whether the comparison at `at` chooses the smaller or the larger of its two operands."""
    match = LIMIT_IF.match(code)
    if match and match.start(2) == at:
        return following.strip() in (f'{match[1]} = {match[3]};', f'{match[3]} = {match[1]};')
    return any(match.start(2) == at and {match[4], match[5]} == {match[1], match[3]}
               for match in LIMIT_TERNARY.finditer(code))


def mutants(file, text):
    found = []
    in_comment = False
    lines = text.splitlines()
    for number, (line, following) in enumerate(zip(lines, [*lines[1:], '']), 1):
        if in_comment or line.lstrip().startswith('/*'):
            in_comment = '*/' not in line
            continue
        if not line.startswith((' ', '\t')) or (IGNORED.search(line) and 'return gw_fail' not in line):
            continue
        code = code_of(line)
        for kind, pattern, by in REPLACEMENTS:
            for match in pattern.finditer(code):
                if kind == 'comparison' and is_limit(code, following, match.start()):
                    continue
                after = code[:match.start()] + by + code[match.end():] + line[len(code):]
                found.append(Mutant(file, number, kind, line, after))
        if STATEMENT.match(code) and not DECLARATION.match(code):
            indent = line[:len(line) - len(line.lstrip())]
            found.append(Mutant(file, number, 'statement left out', line, indent + ';'))
    return found
