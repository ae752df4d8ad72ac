# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Reads the public headers: the functions and types that they declare, each with the comment directly
above it. The man pages and a style check are made from the result.

A comment documents the declaration in the next line, and all declarations that follow without a blank
line or another comment between them: they are one group. Parts of a comment that begin with a label
(Returns:, Context:, Ownership:) are kept apart from its description.
"""

import re
from dataclasses import dataclass, field

TOKEN = re.compile(r"""
      (?P<space>\s+)
    | (?P<comment>/\*.*?\*/|//[^\n]*)
    | (?P<directive>^[ \t]*\#(?:[^\n]*\\\n)*[^\n]*)
    | (?P<linkage>extern\s+"C"\s*\{|\})
    """, re.VERBOSE | re.DOTALL | re.MULTILINE)
INNER = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)
LABELS = ("Returns", "Context", "Ownership")
# At the start of a paragraph or of a line, or after the end of a sentence.
LABEL = re.compile(r"(?:^|(?<=[.?!)]\s))(" + "|".join(LABELS) + r"):\s+", re.MULTILINE)


@dataclass
class Function:
    name: str
    prototype: str  # as in the header, with the semicolon
    result: str  # the type that it returns
    line: int


@dataclass
class Group:
    """Functions under one comment."""
    text: str  # the whole comment; "" without one
    functions: list = field(default_factory=list)

    @property
    def description(self):
        return parts(self.text)[""]

    def part(self, label):
        return parts(self.text).get(label, "")

    @property
    def summary(self):
        """The first sentence, without its end."""
        first = self.description.split("\n\n")[0].replace("\n", " ")
        match = re.match(r"(.*?)[.?!](?:\s|$)", first)
        return (match.group(1) if match else first).strip()


@dataclass
class Header:
    text: str  # the first comment after the licence
    groups: list
    types: list  # definitions and macros as in the header, each with its comment

    @property
    def context(self):
        """The context of functions whose comment names none."""
        for paragraph in self.text.split("\n\n"):
            if re.match(r"Context\b", paragraph):
                return paragraph
        return ""

    def functions(self):
        return [function for group in self.groups for function in group.functions]


def comment_text(comment):
    """The words of a comment without its frame; paragraphs are separated by an empty line."""
    if comment.startswith("//"):
        return comment[2:].strip()
    lines = [re.sub(r"^\s*\*? ?", "", line) if number else line.strip()
             for number, line in enumerate(comment[2:-2].splitlines())]
    return "\n".join(line.rstrip() for line in lines).strip()


def parts(text):
    """The description (key "") and the labelled parts of a comment."""
    found = {"": []}
    for paragraph in text.split("\n\n"):
        words = LABEL.split(paragraph)
        found[""].append(words[0].strip())
        for label, content in zip(words[1::2], words[2::2]):
            found[label] = (found.get(label, "") + " " + content.strip()).strip()
    found[""] = "\n\n".join(paragraph for paragraph in found[""] if paragraph)
    return found


def declaration_end(text, start):
    """Where the declaration that begins at `start` ends: behind its semicolon, or the body of a function."""
    depth, position, had_body = 0, start, False
    while position < len(text):
        inner = INNER.match(text, position)
        if inner:
            position = inner.end()
            continue
        letter = text[position]
        position += 1
        if letter in "({[":
            depth += 1
            had_body = letter == "{" and is_function(text[start:position - 1])
        elif letter in ")}]":
            depth -= 1
            if depth == 0 and letter == "}" and had_body:
                return position
        elif letter == ";" and depth == 0:
            return position
    raise ValueError(f"no end of a declaration: {text[start:start + 60]}")


def is_function(declaration):
    bare = re.sub(r"/\*.*?\*/|//[^\n]*", " ", declaration, flags=re.DOTALL)
    return re.match(r"[^{=]*?\bgw_\w+\s*\(", bare) and not re.match(r"\s*(typedef|struct \w+ \{)", bare)


def items(text):
    """(kind, text, first line, last line) of everything at the top level except white space."""
    position = 0
    while position < len(text):
        token = TOKEN.match(text, position)
        if token:
            kind, end = token.lastgroup, token.end()
        else:
            kind, end = "declaration", declaration_end(text, position)
        if kind != "space":
            yield (kind, text[position:end], text.count("\n", 0, position) + 1,
                   text.count("\n", 0, end) + 1)
        position = end


def function_of(declaration, line):
    """The function that a declaration declares, if it is one of the library."""
    bare = " ".join(re.sub(r"/\*.*?\*/|//[^\n]*", " ", declaration, flags=re.DOTALL).split())
    match = re.match(r"([^({]*?)\b(gw_\w+) ?\(", bare)
    if not match or re.match(r"(typedef|static)\b", bare):
        return None
    result = re.sub(r"\b(extern|__attribute__ ?\(\(.*?\)\))\s*", "", match.group(1)).strip()
    return Function(match.group(2), declaration, result, line)


def is_type(kind, content):
    if kind == "directive":
        return re.match(r"\s*#\s*define\s+GW_\w+[ \t(]", content)
    if re.match(r"\s*static\b", content):
        return False
    return not re.fullmatch(r"\s*(struct|enum|union)\s+\w+\s*;", content)


def read(text):
    """The header with this text."""
    header, groups, types = None, [], []
    group = None  # to which the previous item belongs
    comment = ""  # the previous item, if it is a comment directly above this one
    end = 0  # the last line of the previous item
    for kind, content, first, last in items(text):
        if kind == "comment" and first == end:
            continue  # behind a declaration
        is_below = first == end + 1
        if not is_below:
            group, comment = None, ""
        function = function_of(content, first) if kind == "declaration" else None
        if kind == "comment":
            is_licence = "SPDX" in content
            if header is None and not is_licence:
                header = comment_text(content)
            group, comment = None, "" if is_licence else content
        elif function:
            if group is None:
                group = Group(comment_text(comment) if comment else "")
                groups.append(group)
            group.functions.append(function)
            comment = ""
        else:
            group = None
            if kind != "linkage" and is_type(kind, content):
                block = comment + "\n" + content if comment else content
                if is_below and not comment and types:
                    types[-1] += "\n" + block
                else:
                    types.append(block)
            comment = ""
        end = last
    if groups and header == groups[0].text:
        header = ""
    return Header(header or "", groups, types)
