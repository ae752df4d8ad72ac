#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Makes the man pages of a library (section 3) from its public headers: a page for each group of
functions, with links for all but the first; a page with the types and functions of each header; and a
page of the library.

usage: man_pages.py --list LIBRARY MAP HEADER...     the names of all pages, one a line
       man_pages.py LIBRARY VERSION UMBRELLA FOLDER HEADER...

MAP is the symbol map of the library, UMBRELLA the header that programs include.
"""

import re
import sys
from pathlib import Path

import api_comments

ERRNO = re.compile(r"((?:\w+: )?)(-E[A-Z0-9]+(?:,? (?:or )?-E[A-Z0-9]+)*)[,:]?\s*(.*)", re.DOTALL)
WORD = re.compile(r"""
      `(?P<code>[^`]+)`
    | (?P<page>\b[a-z_][a-z0-9_-]*)\((?P<section>[1-8])\)
    | (?P<name>\bgw_\w+\b)(?!\w|\*)(?P<call>\(\))?
    """, re.VERBOSE)


def escape(text):
    return text.replace("\\", "\\e").replace("-E", "\\-E")


def roff(text, functions):
    """Words with their fonts: functions and man pages bold, arguments and code italic."""
    done, position = [], 0
    for word in WORD.finditer(text):
        done.append(escape(text[position:word.start()]))
        if word["code"]:
            done.append(roff(word["code"], functions) if word["code"] in functions
                        else f"\\fI{escape(word['code'])}\\fR")
        elif word["page"]:
            done.append(f"\\fB{word['page']}\\fR({word['section']})")
        else:
            done.append(f"\\fB{word['name']}\\fR" + ("(3)" if word["name"] in functions else ""))
        position = word.end()
    return "".join(done) + escape(text[position:])


def paragraph(text, functions):
    """Lines of a filled paragraph, one sentence each; none is taken for a request of roff."""
    if not text.strip():
        return []
    sentences = re.split(r"(?<=[.?!:])\s+(?=[A-Z`])", " ".join(text.split()))
    lines = [roff(sentence, functions) for sentence in sentences]
    return ["\\&" + line if line[:1] in (".", "'") else line for line in lines]


def paragraphs(text, functions):
    lines = []
    for block in text.split("\n\n"):
        entries = re.split(r"^\s*[-*] ", block, flags=re.MULTILINE)
        if entries[0].strip():
            lines += [".PP"] * bool(lines) + paragraph(entries[0], functions)
        for entry in entries[1:]:
            lines += [".IP \\- 2", *paragraph(entry, functions)]
    return lines


def verbatim(text):
    lines = [line.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
             for line in text.splitlines()]
    return [".nf", *["\\&" + line if line[:1] == "." else line for line in lines], ".fi"]


def split_list(text):
    """The entries of a list with semicolons, except those in parentheses."""
    entries, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == ";" and depth <= 0:
            entries.append("")
        else:
            entries[-1] += letter
    return [" ".join(entry.split()) for entry in entries if entry.strip()]


def split_returns(text):
    """The values that a function returns, its errors as (names, cause), and remarks behind them."""
    values, errors, remarks = [], [], ""
    for entry in split_list(text):
        match = ERRNO.fullmatch(entry)
        if match:
            cause, *rest = re.split(r"(?<=[^.])\.\s+(?=[A-Z])", match.group(3), maxsplit=1)
            cause = (match.group(1) + cause).rstrip(".: ")
            errors.append((re.findall(r"E[A-Z0-9]+", match.group(2)), cause))
            remarks += " ".join(rest)
        elif errors:
            errors.append(([], entry.rstrip(".")))
        else:
            values.append(entry)
    return "; ".join(values), errors, remarks


def sentence(text):
    text = text.strip()
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else ".")


def summary_of(group):
    """The first sentence as it stands in an index: short, not capitalized, without an end."""
    text = (group.summary or "returns " + group.part("Returns").split(";")[0]).replace("`", "")
    if len(text) > 90:
        text = re.split(r"[:;]\s", text)[0]
    return text[0].lower() + text[1:] if re.match(r"[A-Z][a-z]*\b", text) else text


def page_of(header):
    """The name of the page of a header: godwit-queue, and for the front-end godwit-frontend-log."""
    path = Path(header)
    words = ["godwit"] + (["frontend"] if path.parent.name == "frontend" else []) + [path.stem]
    return "-".join(dict.fromkeys(words))


class Library:
    def __init__(self, name, version, umbrella, headers):
        self.name, self.version, self.umbrella = name, version, Path(umbrella)
        self.headers = {path: api_comments.read(Path(path).read_text(encoding="utf-8")) for path in headers}
        self.functions = {function.name for header in self.headers.values()
                          for function in header.functions()}

    def start(self, page, names, summary):
        # Without a date: the same sources make the same page.
        return [f'.TH "{page}" "3" "" "godwit {self.version}" "{self.name}"',
                ".nh", ".ad l", ".SH NAME", f"{', '.join(names)} \\- {escape(summary)}",
                ".SH LIBRARY", f"{self.name} (\\fB\\-l{self.name.removeprefix('lib')}\\fR)"]

    def include(self):
        name = "/".join(self.umbrella.parts[self.umbrella.parts.index("include") + 1:])
        return [".nf", f"\\fB#include <{name}>\\fR"]

    def group_page(self, group, path, header):
        names = [function.name for function in group.functions]
        lines = self.start(names[0], names, summary_of(group))
        lines += [".SH SYNOPSIS", *self.include(), ".PP"]
        for function in group.functions:
            lines += ["\\fB" + line.replace("-", "\\-") + "\\fR"
                      for line in function.prototype.splitlines()]
        lines += [".fi", ".SH DESCRIPTION", *paragraphs(group.description, self.functions)]
        if group.part("Ownership"):
            lines += [".SH OWNERSHIP", *paragraphs(sentence(group.part("Ownership")), self.functions)]
        lines += self.returns(group)
        context = sentence(group.part("Context") or re.sub(r"^Context, unless[^:]*:", "", header.context))
        if context:
            lines += [".SH CONTEXT", *paragraphs(context, self.functions)]
        others = sorted(set(re.findall(r"\bgw_\w+", group.text)) & self.functions - set(names))
        return lines + self.see_also([*others, page_of(path), self.name])

    def returns(self, group):
        values, errors, remarks = split_returns(group.part("Returns"))
        lines = []
        if values == "0" and errors:
            values = "0 on success"
        if values:
            lines += [".SH RETURN VALUE", *paragraphs(sentence(values), self.functions)]
        if errors:
            lines += [".SH ERRORS"]
        for names, cause in errors:
            text = paragraph(sentence(cause), self.functions) if cause else [".br"]
            if names:
                lines += [".TP", "\\fB" + "\\fR, \\fB".join("\\-" + name for name in names) + "\\fR",
                          *text]
            else:
                lines += [".PP"] * (lines[-1] != ".SH ERRORS") + text
        if remarks:
            lines += [".PP", *paragraph(remarks, self.functions)]
        return lines

    def see_also(self, names):
        return [".SH SEE ALSO",
                ",\n".join(f"\\fB{name}\\fR(3)" for name in dict.fromkeys(names))]

    def header_page(self, path, header):
        page = page_of(path)
        text = header.text or sentence(header.groups[0].summary)
        summary = summary_of(api_comments.Group(text))
        lines = self.start(page, [page], summary)
        lines += [".SH SYNOPSIS", *self.include(), ".fi", ".SH DESCRIPTION",
                  *paragraphs(text, self.functions)]
        if header.types:
            lines += [".SH TYPES AND CONSTANTS"]
            for number, block in enumerate(header.types):
                lines += [".PP"] * (number > 0) + verbatim(block)
        if header.groups:
            lines += [".SH FUNCTIONS"]
        for group in header.groups:
            lines += [".TP", ", ".join(f"\\fB{function.name}\\fR(3)" for function in group.functions),
                      *paragraph(sentence(group.summary), self.functions)]
        return lines + self.see_also([self.name])

    def library_page(self):
        text = api_comments.read(self.umbrella.read_text(encoding="utf-8")).text
        summary = text.split("\n\n")[0].split(". ")[0].split(":", 1)[-1]
        lines = self.start(self.name, [self.name], " ".join(summary.split()))
        lines += [".SH SYNOPSIS", *self.include(), ".fi", ".PP",
                  f"\\fBcc\\fR \\fIFILE\\fR.c $(pkg\\-config \\-\\-cflags \\-\\-libs "
                  f"{self.name.removeprefix('lib')})",
                  ".SH DESCRIPTION", *paragraphs(text, self.functions)]
        lines += [".SH HEADERS"]
        for path, header in self.headers.items():
            text = header.text or sentence(header.groups[0].summary)
            lines += [".TP", f"\\fB{page_of(path)}\\fR(3)",
                      *paragraph(sentence(api_comments.Group(text).summary), self.functions)]
        return lines + self.see_also([page_of(path) for path in self.headers])

    def pages(self):
        """(name, lines) of every page."""
        yield self.name, self.library_page()
        for path, header in self.headers.items():
            yield page_of(path), self.header_page(path, header)
            for group in header.groups:
                first, *others = [function.name for function in group.functions]
                yield first, self.group_page(group, path, header)
                for name in others:
                    yield name, [f".so man3/{first}.3"]


def list_pages(library, script, headers):
    text = re.sub(r"/\*.*?\*/|#[^\n]*", " ", Path(script).read_text(encoding="utf-8"), flags=re.DOTALL)
    return [library, *map(page_of, headers), *re.findall(r"\b(gw_\w+)\s*;", text)]


def main():
    if sys.argv[1:2] == ["--list"] and len(sys.argv) > 4:
        print("\n".join(list_pages(sys.argv[2], sys.argv[3], sys.argv[4:])))
        return
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    name, version, umbrella, folder, *headers = sys.argv[1:]
    for page, lines in Library(name, version, umbrella, headers).pages():
        Path(folder, page + ".3").write_text(
            '.\\" SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause\n' + "\n".join(lines) + "\n",
            encoding="utf-8")


if __name__ == "__main__":
    main()
