#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Phrases that make a reader stumble, in comments, messages, option help and documents. A check of
phrases cannot judge a sentence, so each pattern is one that plain English hardly ever needs.

prose_exceptions.txt lists the places where it does need one.

usage: check_prose.py ROOT
"""

import ast
import re

import tree

EXCEPTIONS = "tests/style/prose_exceptions.txt"
# "relative path | text that contains the phrase | why it is right there"
EXCEPTION = re.compile(r"(?P<path>[^|]+?) \| (?P<text>[^|]+?) \| (?P<reason>[^|]+)$")

END = r"(?=\s*(?:[.,;:)]|$))"

# (pattern, what to write), for text whose white space is single blanks
MARKERS = [
    (r"\b(?i:whoever)\b", "name who: 'a thread that waits', not 'whoever waits'"),
    (r"(?:; |\b(?:for|to|of|than|by|from|with) )who\b", "put a noun before 'who'"),
    (r"\bwhat (?:is|was) there\b|\bwhat there (?:is|was)\b", "name it: 'the existing entries'"),
    (r"\b(?:told|tells?|Tell|Told)\b(?! (?:apart|from)\b)(?! (?:\w+ ){1,4}(?:apart|from)\b)",
     "reported, sent, passed, announced, logged: whichever it is"),
    (r"\bso (?:many|often|long)\b(?!(?: \w+)? (?:that|as)\b)", "'up to N pages', 'every TIME', 'for TIME'"),
    (r"\b(?:is|are|was|were|be) had\b", "available, or unavailable"),
    (r"\b(?:is|are|was|were) none\b(?! of\b)", "missing, absent, or 'there is no ...'"),
    (r"\b(?:comes?|came) to (?:that|it|this)\b", "reached"),
    (r"\b(?:go|goes|went|going) on\b(?! (?:to|the|a|an|its|their|top)\b)", "continue"),
    (r"\b(?:is|are|was|were) over\b" + END, "ended, completed"),
    (r"\bany ?more\b" + END, "no longer"),
    (r"\b[Ww]here (?:there|it has)\b", "if, when"),
    (r"\blooked (?:at|for|after)\b", "read, checked, searched, handled"),
    (r"\b(?:know|knows|known|says?|said|ensures?|means|shows?|reports?|sure|sees?|checks?|so|such), that\b",
     "no comma before 'that'"),
    (r", for (?:it|they|there|we|he)\b|\. For (?:it|they|there|we|he)\b", "because"),
    (r"\bmeanwhile\b", "concurrently, in the meantime, or name the time"),
    (r"\banew\b", "again"),
    (r"\bof before\b", "previous"),
    (r"\bbeside" + END, "in addition"),
    (r"(?<!thing )(?<!body )(?<!one )(?<!where )(?<!who )(?<!what )\belse\b" + END, "otherwise"),
    (r"\b(?:he|him|his|[Ss]omebody|[Aa]nybody(?! who))\b", "name the program, the thread or the person"),
]
MARKERS = [(re.compile(pattern), advice) for pattern, advice in MARKERS]

# Not questions: "Who waits is woken."
HEADLESS = re.compile(r"(?:^|[.!?:] |- )(?P<who>[Ww]ho\b) [^.!?]*(?P<end>[.!?]|$)")
# Option help stands alone: "of the guest" after --memory does not.
GENITIVE = re.compile(r"^of (?:the|an?|each|every|all|everything)\b")

C_TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
C_BETWEEN = re.compile(r"[\s\\]*(?:PRI\w+[\s\\]*)?")


def blank(match):
    """The same number of lines and columns, all white."""
    return re.sub(r"[^\n]", " ", match.group(0))


def c_passages(text):
    """Every comment, and every string with its continuations."""
    start, passage, end = 0, "", 0
    for match in C_TOKEN.finditer(text):
        token = match.group(0)
        if token[0] == "/":
            yield match.start(), re.sub(r"^[ \t]*/?\*+/?|\*/$|^//", blank, token, flags=re.MULTILINE), False
        elif token[0] == '"':
            between = text[end:match.start()]
            token = re.sub(r"\\[ntv]", "  ", token)
            if passage and C_BETWEEN.fullmatch(between):
                passage += "  " + re.sub(r"[^\n]", " ", between) + token[1:-1]
            else:
                yield start, passage, True
                start, passage = match.start() + 1, token[1:-1]
            end = match.end()
    yield start, passage, True


def script_passages(text):
    """Blocks of # comments."""
    for match in re.finditer(r"(?:^[ \t]*#(?!!)[^\n]*\n)+|[ \t]#[ \t][^\n'\"]*\n", text, re.MULTILINE):
        yield match.start(), match.group(0).replace("#", " "), False


def python_passages(text):
    """Comments, docstrings and the help of options."""
    yield from script_passages(text)
    lines = [0]
    for line in text.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
            string = node.body[0].value
            yield text.index('"""', lines[string.lineno - 1]) + 3, string.value, False
        if isinstance(node, ast.keyword) and node.arg == "help" and isinstance(node.value, ast.Constant):
            yield lines[node.value.lineno - 1], str(node.value.value), True


def document_passages(text):
    """Paragraphs, without blocks of code and `code`."""
    text = re.sub(r"^```.*?^```|``?[^`\n]+``?", blank, text, flags=re.MULTILINE | re.DOTALL)
    for match in re.finditer(r"(?:[^\n]*\S[^\n]*\n)+", text):
        yield match.start(), match.group(0), False


def passages(path, text):
    """(offset, passage, whether it is a string) of everything that people read."""
    if path.suffix in (".c", ".h", ".pml"):
        return c_passages(text)
    if path.suffix in (".md", ".rst"):
        return document_passages(text)
    if path.suffix == ".py" or re.match(r"#!.*python", text):
        return python_passages(text)
    if path.suffix in (".sh", ".build", ".yml") or text.startswith("#!"):
        return script_passages(text)
    return ()


def marks(passage, is_help):
    """(offset, phrase, advice) of each phrase to replace."""
    for pattern, advice in MARKERS:
        for match in pattern.finditer(passage):
            yield match.start(), match.group(0), advice
    for match in HEADLESS.finditer(passage):
        if match.group("end") != "?":
            yield match.start("who"), match.group("who"), "put a noun before 'who'"
    if is_help and GENITIVE.match(passage):
        yield 0, passage, "option help that stands alone: 'guest memory size'"


def exceptions(root):
    """(line number, (path, text)) of each exception; None in place of an invalid one."""
    if not (root / EXCEPTIONS).is_file():
        return
    for number, line in enumerate(tree.read(root / EXCEPTIONS).splitlines(), 1):
        if line and not line.startswith("#"):
            match = EXCEPTION.match(line)
            yield number, (match.group("path"), match.group("text")) if match else None


def check(root):
    unused = {}
    for number, exception in exceptions(root):
        if exception is None:
            yield f"{EXCEPTIONS}:{number}: not 'path | text | reason'"
        else:
            unused[exception] = number
    excepted = list(unused)
    for path in tree.files(root):
        text = tree.read(root / path)
        for start, passage, is_string in passages(path, text):
            if is_string and " " not in passage:
                continue  # a name
            words = list(re.finditer(r"\S+", passage))
            flat = " ".join(word.group(0) for word in words)
            for offset, phrase, advice in marks(flat, is_string and not tree.below(path, "tests")):
                around = flat[max(0, offset - 60):offset + len(phrase) + 60]
                found = [e for e in excepted if e[0] == path.as_posix() and e[1] in around]
                if not found:
                    word = words[flat.count(" ", 0, offset)]
                    line = text.count("\n", 0, start + word.start()) + 1
                    yield f"{path}:{line}: '{phrase}': {advice}"
                for exception in found:
                    unused.pop(exception, None)
    for (path, phrase), number in unused.items():
        yield f"{EXCEPTIONS}:{number}: {path} has no '{phrase}' that needs an exception"


if __name__ == "__main__":
    tree.main(check)
