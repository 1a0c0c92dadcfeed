#!/usr/bin/env python3
"""The pages say what the code has: every setting and endpoint is documented, nothing else is, and every file or page
that is mentioned exists.

usage: docs.py ROOT
"""

import os
import re
import sys

from sources import finish, project_files, read_text

SETTINGS_TABLE = "agent/safe/settings.def"
SETTINGS_PAGE = "docs/settings.md"
ROUTES = "agent/service/routes.cc"
ENDPOINTS_PAGE = "docs/endpoints.md"

NUMBER = re.compile(r'^PROFAGENT_(?:LIVE_)?NUMBER\((\w+),\s*"(\w+)",\s*(\d+),\s*(\d+),\s*(\d+),', re.MULTILINE)
TEXT = re.compile(r'^PROFAGENT_(?:TEXT|LIVE_CHOICE)\((\w+),\s*"(\w+)",', re.MULTILINE)
VARIABLE = re.compile(r"\bPROFAGENT_[A-Z_]*[A-Z]\b")
PATH = re.compile(r'/debug/[a-z]+(?:/[a-z_]+)?/?|(?<!debug)/pprof/[a-z_]+|(?<![\w/])/metrics\b')
MENTIONED_FILE = re.compile(r"(?<![\w/.-])(?:agent|hooks|encoder|scripts|test|docs)/[\w/.-]+\.(?:h|cc|c|def|py|sh|md|txt|proto)\b")
LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def settings_of(root):
    text = read_text(root, SETTINGS_TABLE)
    numbers = {variable: (low, high, default) for _, variable, default, low, high in NUMBER.findall(text)}
    return numbers, {variable for _, variable in TEXT.findall(text)}


def check_settings(root):
    numbers, texts = settings_of(root)
    page = read_text(root, SETTINGS_PAGE) if os.path.exists(os.path.join(root, SETTINGS_PAGE)) else ""
    rows = {row[1]: row[0] for row in re.findall(r"^(\| `(\w+)`.*)$", page, re.MULTILINE)}
    for variable in sorted(numbers.keys() | texts):
        if variable not in rows:
            yield f"{SETTINGS_PAGE}: no row for {variable}"
    for variable, values in sorted(numbers.items()):
        missing = [value for value in values if not re.search(rf"\b{value}\b", rows.get(variable, ""))]
        if variable in rows and missing:
            yield f"{SETTINGS_PAGE}: {variable}: not in its row: {' '.join(missing)}"
    for variable in sorted(rows.keys() - numbers.keys() - texts):
        yield f"{SETTINGS_PAGE}: {variable} is no setting"


def check_pages(root, pages):
    numbers, texts = settings_of(root)
    code = "".join(read_text(root, path) for path in project_files(root, (".h", ".cc", ".def", ".build", ".py")))
    macros = set(re.findall(r"#define (PROFAGENT_\w+)", code))
    for page in pages:
        text = read_text(root, page)
        for variable in sorted(set(VARIABLE.findall(text)) - numbers.keys() - texts - macros):
            yield f"{page}: {variable} is no setting"
        for path in sorted(set(MENTIONED_FILE.findall(text))):
            if not os.path.exists(os.path.join(root, path)):
                yield f"{page}: there is no {path}"
        for target in LINK.findall(text):
            if not os.path.exists(os.path.join(root, os.path.dirname(page), target)):
                yield f"{page}: broken link to {target}"


def check_code(root):
    """Code that reads or names a variable which no table has; a comment that refers to a page which is not ours."""
    numbers, texts = settings_of(root)
    names = {os.path.basename(path) for path in project_files(root, (".md",))}
    for path in project_files(root, (".h", ".cc", ".c", ".def", ".py", ".sh", ".build")):
        text = read_text(root, path)
        if path.startswith(("agent/service/", "hooks/")):
            literals = " ".join(LITERAL.findall(text))
            for variable in sorted(set(VARIABLE.findall(literals)) - numbers.keys() - texts):
                yield f"{path}: {variable} has no row in {SETTINGS_TABLE}"
        if path.startswith("scripts/lint/"):
            continue
        for page in sorted(set(re.findall(r"\b[\w-]+\.md\b", text)) - names):
            yield f"{path}: there is no page {page}"


def check_endpoints(root):
    if not os.path.exists(os.path.join(root, ROUTES)):
        return
    page = read_text(root, ENDPOINTS_PAGE) if os.path.exists(os.path.join(root, ENDPOINTS_PAGE)) else ""
    documented = {path.rstrip("/") for path in PATH.findall(page)}
    sources = project_files(root, (".cc", ".h"))
    code = "".join(read_text(root, path) for path in sources if path.startswith("agent/"))
    code = re.sub(r"//[^\n]*", "", code.replace("://", ":"))
    served = {path.rstrip("/") for literal in re.findall(r'"([^"\n]*)"', code) for path in PATH.findall(literal)}
    served |= {f"/debug/pprof/{name}" for name in re.findall(r'\.name\s*=\s*"([a-z_]+)"', code)}
    for path in sorted(served - documented):
        yield f"{ENDPOINTS_PAGE}: {path} is served but not documented"
    for path in sorted(documented - served):
        yield f"{ENDPOINTS_PAGE}: {path} is documented but not served"


def main(root):
    pages = project_files(root, (".md",))
    problems = [*check_settings(root), *check_endpoints(root), *check_code(root), *check_pages(root, pages)]
    return finish(problems, len(pages))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
