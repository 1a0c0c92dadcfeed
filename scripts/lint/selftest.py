#!/usr/bin/env python3
"""Each lint can fail: every rule is broken once here, in a scratch tree or a scratch library.

usage: selftest.py [-v]
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import tempfile
import unittest

import docs
import format as format_lint
import hygiene
import layers
import library
import safe_symbols
import tidy

SCRIPT = "{ global: hooked; local: *; };\n"


class Scratch(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)

    def write(self, path, text):
        full = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)
        return full

    def run_lint(self, main, *arguments):
        """(status, output)"""
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = main(*arguments)
        return status, output.getvalue()

    def expect_problem(self, text, main, *arguments):
        status, output = self.run_lint(main, *arguments)
        self.assertEqual(status, 1, output)
        self.assertIn(text, output)

    def expect_clean(self, main, *arguments):
        status, output = self.run_lint(main, *arguments)
        self.assertEqual(status, 0, output)


class LayersTest(Scratch):
    def expect_forbidden(self, path, include, text="must not include"):
        self.write(path, f"#include {include}\n")
        self.expect_problem(text, layers.main, self.root)

    def test_allowed(self):
        self.write("agent/agent.cc", '#include "agent/safe/a.h"\n#include "agent/service/b.h"\n#include "hooks/c.h"\n')
        self.write("agent/service/b.cc", '#include <string>\n#include "agent/safe/a.h"\n#include "encoder/e.h"\n')
        self.expect_clean(layers.main, self.root)

    def test_up(self):
        self.expect_forbidden("agent/safe/a.cc", '"agent/service/b.h"')

    def test_roof_from_ground(self):
        self.expect_forbidden("agent/safe/a.cc", '"agent/agent.h"')

    def test_hooks_to_service(self):
        self.expect_forbidden("hooks/a.cc", '"agent/service/b.h"')

    def test_service_to_hooks(self):
        self.expect_forbidden("agent/service/a.cc", '"hooks/b.h"')

    def test_encoder_stands_alone(self):
        self.expect_forbidden("encoder/a.cc", '"agent/safe/b.h"')

    def test_relative_path(self):
        self.expect_forbidden("agent/safe/a.cc", '"b.h"', "not a path from the root")

    def test_nothing_checked(self):
        self.assertEqual(self.run_lint(layers.main, self.root)[0], 1)


class HygieneTest(Scratch):
    def test_clean(self):
        self.write("a.h", "// What a is.\n#pragma once\n")
        self.expect_clean(hygiene.main, self.root)

    def test_each_rule(self):
        for path, text, problem in [
                ("a.cc", "int a; \n", "trailing blanks"),
                ("a.cc", "int a;", "no newline at the end"),
                ("a.cc", "int a;\n\n", "empty lines at the end"),
                ("a.cc", "\tint a;\n", "tab"),
                ("a.md", "see /" + "home/me/notes\n", "a path of one machine"),
                ("a.h", "// What a is.\n", "no #pragma once"),
                ("a.h", "#pragma once\n", "opens with its contract"),
        ]:
            with self.subTest(problem):
                full = self.write(path, text)
                self.expect_problem(problem, hygiene.main, self.root)
                os.remove(full)


@unittest.skipUnless(shutil.which("clang-format-14"), "no clang-format-14")
class FormatTest(Scratch):
    def test_bad_format(self):
        self.write(".clang-format", "BasedOnStyle: Google\n")
        self.write("a.cc", "int  a;\n")
        self.expect_problem("a.cc", format_lint.main, self.root, "clang-format-14")


@unittest.skipUnless(shutil.which("clang-tidy-14"), "no clang-tidy-14")
class TidyTest(Scratch):
    def test_finding(self):
        self.write(".clang-tidy", "Checks: '-*,modernize-use-nullptr'\nWarningsAsErrors: '*'\n")
        self.write("agent/a.cc", "int* f() { return 0; }\n")
        row = {"directory": self.root, "file": "agent/a.cc", "command": "g++ -c agent/a.cc"}
        self.write("build/compile_commands.json", json.dumps([row]))
        self.write(".gitignore", "build\n")
        arguments = (tidy.main, self.root, os.path.join(self.root, "build"), "clang-tidy-14")
        self.expect_problem("modernize-use-nullptr", *arguments)
        self.write("agent/a.cc", "int* f() { return nullptr; }\n")
        self.expect_clean(*arguments)
        # A file that passed is looked at again when it changes.
        self.write("agent/a.cc", "int* g() { return 0; }\n")
        self.expect_problem("modernize-use-nullptr", *arguments)


class DocsTest(Scratch):
    def setUp(self):
        super().setUp()
        self.write("agent/safe/settings.def", 'PROFAGENT_NUMBER(speed, "PROFAGENT_SPEED", 5, 1, 9, "how fast")\n')
        self.write("agent/service/routes.cc", '{"/debug/pprof/agent", ""}, {"/debug/pprof/", ""}\n')
        self.write("docs/settings.md", "| `PROFAGENT_SPEED` | 5 | 1 … 9 |\n")
        self.write("docs/endpoints.md", "`/debug/pprof/` `/debug/pprof/agent`\n")

    def test_clean(self):
        self.expect_clean(docs.main, self.root)

    def test_each_rule(self):
        for path, text, problem in [
                ("docs/settings.md", "", "no row for PROFAGENT_SPEED"),
                ("docs/settings.md", "| `PROFAGENT_SPEED` | 7 | 1 … 9 |\n", "not in its row: 5"),
                ("docs/settings.md", "| `PROFAGENT_SPEED` | 5 | 1 … 9 |\n| `PROFAGENT_OLD` | |\n",
                 "PROFAGENT_OLD is no setting"),
                ("docs/endpoints.md", "`/debug/pprof/`\n", "/debug/pprof/agent is served but not documented"),
                ("docs/endpoints.md", "`/debug/pprof/agent` `/debug/pprof/` `/debug/pprof/old`\n",
                 "/debug/pprof/old is documented but not served"),
                ("docs/page.md", "See hooks/old.h.\n", "there is no hooks/old.h"),
                ("docs/page.md", "See [that](old.md).\n", "broken link to old.md"),
                ("docs/page.md", "Set PROFAGENT_OLD.\n", "PROFAGENT_OLD is no setting"),
                ("hooks/a.cc", '// "PROFAGENT_OLD is read"\n', "PROFAGENT_OLD has no row"),
                ("hooks/a.cc", "// see old.md\n", "there is no page old.md"),
        ]:
            with self.subTest(problem):
                self.setUp()
                self.write(path, text)
                self.expect_problem(problem, docs.main, self.root)


class ObjectTest(Scratch):
    def build(self, source, *options):
        path = self.write("a.cc", source)
        output = os.path.join(self.root, "a.so" if "-shared" in options else "a.o")
        subprocess.run(["g++", "-fPIC", *options, path, "-o", output], check=True)
        return output

    def golden(self, name, *lines):
        return self.write(name, "".join(line + "\n" for line in lines))


class SafeSymbolsTest(ObjectTest):
    def test_not_in_the_list(self):
        made = self.build('extern "C" int getpid(); int f() { return getpid(); }', "-c")
        self.expect_problem("getpid", safe_symbols.main, self.golden("allowed"), made)
        self.expect_clean(safe_symbols.main, self.golden("allowed", "getpid  # why"), made)

    def test_never_even_when_listed(self):
        made = self.build("#include <cstdlib>\nvoid* f() { return malloc(1); }", "-c")
        self.expect_problem("never in the ground floor: malloc", safe_symbols.main, self.golden("allowed", "malloc"), made)

    def test_dynamic_tls(self):
        made = self.build("extern thread_local int t; int f() { return t; }", "-c", "-O1", "-ftls-model=global-dynamic")
        self.expect_problem("__tls_get_addr", safe_symbols.main, self.golden("allowed", "__tls_get_addr"), made)


class LibraryTest(ObjectTest):
    HOOK = 'extern "C" int getpid(); extern "C" int hooked() { return getpid(); }\n'

    def check(self, source, *options, exports=("hooked",), imports=("getpid",), init=()):
        made = self.build(source, "-shared", "-nostdlib", "-lc", *options)
        self.golden("exports.txt", *exports)
        self.golden("imports.txt", *imports)
        self.golden("init.txt", *init)
        return (library.main, made, self.write("names.txt", "hooked\n"), self.root)

    def good(self):
        return ["-Wl,-z,now", "-Wl,--version-script=" + os.path.join(self.root, "a.map")]

    def setUp(self):
        super().setUp()
        self.write("a.map", SCRIPT)

    def test_clean(self):
        self.expect_clean(*self.check(self.HOOK, *self.good()))

    def test_export_without_row(self):
        self.expect_problem("stray: exported, but no row",
                            *self.check(self.HOOK + 'extern "C" int stray() { return 1; }', "-Wl,-z,now"))

    def test_row_without_export(self):
        self.expect_problem("hooked: a row, but not exported",
                            *self.check('extern "C" int other() { return 1; }', *self.good()))

    def test_golden_exports(self):
        self.expect_problem("gone: not exported", *self.check(self.HOOK, *self.good(), exports=("hooked", "gone")))

    def test_golden_imports(self):
        self.expect_problem("import: getpid", *self.check(self.HOOK, *self.good(), imports=()))

    def test_lazy_binding(self):
        self.expect_problem("not bound at load", *self.check(self.HOOK, "-Wl,-z,lazy", self.good()[1]))

    def test_foreign_library(self):
        self.expect_problem("NEEDED libm.so.6", *self.check(self.HOOK, *self.good(), "-Wl,--no-as-needed", "-lm"))

    def test_large_tls(self):
        source = self.HOOK + 'static thread_local char big[512]; extern "C" int touch() { return big[0]++; }'
        self.expect_problem("bytes of TLS", *self.check(source, *self.good()))

    def test_dynamic_tls(self):
        source = self.HOOK + "extern thread_local int t; thread_local int t; extern \"C\" int touch() { return t++; }"
        self.expect_problem("dynamic TLS", *self.check(source, "-Wl,-z,now", imports=("getpid", "__tls_get_addr")))

    def test_constructors(self):
        source = self.HOOK + "[[gnu::constructor]] static void early() { asm volatile(\"\"); }\n"
        self.expect_problem("runs at load: early() is not in", *self.check(source, *self.good()))
        self.expect_clean(*self.check(source, *self.good(), init=("early()",)))


if __name__ == "__main__":
    unittest.main()
