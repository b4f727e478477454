"""What the pages name is there: options, commands, files, settings, variables, headers, modules.

Decisions and the changelog are left out: they tell of a time.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from devtools import __main__ as devtools_commands
from forebay.db.schema import PIPELINE_SCHEMA, metadata
from forebay.problem import CATALOGUE
from infra.settings import Settings
from local import __main__ as local_commands
from local.settings import ROOT
from ops import cli
from tests.fixtures.pages import blocks, codes, first_codes, pages, section, text_of
from tests.unit.docs.test_configuration import keys

PAGES = [
    page.relative_to(ROOT).as_posix()
    for page in pages()
    if page.name != "CHANGELOG.md" and "adr" not in page.parts
]
SOURCES = (
    "forebay",
    "lambdas",
    "resources",
    "migrations",
    "infra",
    "devtools",
    "local",
    "loader",
    "ops",
    "bench",
    "tests",
)
#: What a page shows that a shell would run.
_SHELL = ("sh", "console")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_PLACEHOLDER = re.compile(r"<[^>]+>|…")


def spans(page: str) -> Iterator[str]:
    """Everything that a page has between backticks, in its prose and its tables."""
    for line in _FENCE.sub("", text_of(page)).splitlines():
        yield from codes(line)


def shell_lines(page: str) -> Iterator[str]:
    """The commands of a page: those of its shell blocks, and those in its prose."""
    for language in _SHELL:
        for block in blocks(text_of(page), language):
            yield from (line.removeprefix("$ ").strip() for line in block.splitlines())
    yield from spans(page)


def calls(page: str, program: str) -> Iterator[list[str]]:
    """The words after each call of a program."""
    for line in shell_lines(page):
        # Nothing but a call: what is around it is the shell's.
        for match in re.finditer(
            rf"(?:^|[(&|] ?|\s)(?:\.venv/bin/)?{re.escape(program)} ([^|&;)#]+)", line
        ):
            try:
                yield shlex.split(re.sub(r"\$\(?", "", match[1]))
            except ValueError:  # a quote that is closed on another line
                yield match[1].split()


@cache
def forebay_commands() -> Mapping[tuple[str, ...], frozenset[str]]:
    """The options of every command of `forebay`, by its words."""
    options_by_command: dict[tuple[str, ...], frozenset[str]] = {}

    def walk(command: Any, words: tuple[str, ...]) -> None:
        for name, child in getattr(command, "commands", {}).items():
            walk(child, (*words, name))
        if not getattr(command, "commands", None):
            given = [
                name
                for parameter in command.params
                for name in (*parameter.opts, *parameter.secondary_opts)
            ]
            options_by_command[words] = frozenset(given) | {"--help"}

    walk(typer.main.get_command(cli.app), ())
    return options_by_command


def unknown_in(words: list[str]) -> list[str]:
    """What of a call of `forebay` there is not."""
    known = forebay_commands()
    if words[0] == "remote":  # another command follows
        rest = words[3:] if words[1:2] == ["--env"] else words[1:]
        return unknown_in(rest) if rest and rest != ["@"] else []
    for length in (2, 1):
        options = known.get(tuple(words[:length]))
        if options is not None:
            named = [word.split("=")[0] for word in words if word.startswith("--")]
            return [f"{' '.join(words[:length])} {name}" for name in named if name not in options]
    groups = {group for group, *_ in known}
    return [] if words[0] in groups and len(words) == 1 else [" ".join(words[:2])]


@pytest.mark.parametrize("page", PAGES)
def test_every_call_of_forebay_is_one(page: str) -> None:
    calls_of_page = [
        words
        for words in calls(page, "forebay")
        if words and not words[0].startswith(("<", "ARGS="))
    ]
    arguments = re.findall(r'make forebay ARGS="([^"…]+)"', text_of(page))
    calls_of_page += [shlex.split(match) for match in arguments]
    assert [lost for words in calls_of_page for lost in unknown_in(words)] == []


def test_every_command_of_forebay_has_a_section_with_its_options() -> None:
    page = text_of("docs/cli.md")
    # Where everything is, and how to answer, is told once for all commands.
    common = set(_OPTION.findall(section(page, "## Where it works"))) | {"--help", "--source"}
    for (group, *_), options in forebay_commands().items():
        matches = _OPTION.findall(section(page, f"## forebay {group}"))
        assert (
            options - common - set(matches) - {one for one in options if one[0] != "-"} == set()
        ), group


def test_every_option_in_a_section_of_the_command_line_is_that_command_s() -> None:
    page = text_of("docs/cli.md")
    for group in {group for group, *_ in forebay_commands()}:
        known = {
            name for words, options in forebay_commands().items() if words[0] == group
            for name in options
        }  # fmt: skip
        names = [name for code in first_codes(section(page, f"## forebay {group}"))
                for name in _OPTION.findall(code)]  # fmt: skip
        assert set(names) <= known, group


def all_options() -> set[str]:
    """Every option of our own commands, and those of others that the pages name."""
    ours = {name for options in forebay_commands().values() for name in options}
    for folder in ("devtools", "local", "loader", "bench", "tests", "infra"):
        for file in (ROOT / folder).rglob("*.py"):
            ours |= set(re.findall(r'"(--[a-z][a-z-]+)"', file.read_text(encoding="utf-8")))
    return ours | {"--method", "--no-rollback", "--revert-drift"}  # of the CDK's command line


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_a_page_names_is_one(page: str) -> None:
    names = {
        name for span in spans(page) if span.startswith("--") for name in _OPTION.findall(span)
    }
    assert names - all_options() == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_call_of_the_local_commands_is_one(page: str) -> None:
    for package, parser in (("local", local_commands), ("devtools", devtools_commands)):
        for words in calls(page, f"python -m {package}"):
            words = [word for word in words if not _PLACEHOLDER.search(word)]  # noqa: PLW2901
            assert parser.build_parser().parse_args(words)


@pytest.mark.parametrize("page", PAGES)
def test_every_module_that_a_page_runs_is_there(page: str) -> None:
    for name in re.findall(r"python -m ([a-z][\w.]*)", text_of(page)):
        if name.split(".")[0] in SOURCES:
            path = ROOT / name.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_of_a_target_is_read_by_the_makefile(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in shell_lines(page):
        for call in re.findall(r"\bmake ((?:-s )?[a-z-]+(?: \w+=\S+)+)", line):
            for name in re.findall(r"(\w+)=", call):
                assert re.search(rf"\$\({name}\)|\b{name}\)|^{name} \?=", makefile, re.MULTILINE), (
                    call
                )


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    lost = []
    for span in spans(page):
        name = span.rstrip("/")
        if not re.fullmatch(r"\.?[\w-]+(?:/[\w.<>*{}-]+)+", name):
            continue
        if name.split("/")[0] not in {*SOURCES, "docs", ".ci"} or name in NO_FILES:
            continue
        pattern = _PLACEHOLDER.sub("*", name)
        if not list(ROOT.glob(pattern)):
            lost.append(name)
    assert lost == []


#: Scopes of tokens, and a file that packages have.
NO_FILES = {
    "forebay/<resource>.read",
    "forebay/<resource>.write",
    "forebay/status.read",
    "forebay/commands.write",
    "resources/compiled.pickle",
}


def settings_tables() -> set[str]:
    return {key.split(".")[0] for key in keys(Settings) if "." in key}


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_that_a_page_names_is_one(page: str) -> None:
    known = set(keys(Settings))
    known |= {key.replace("<name>", name) for key in known for name in FUNCTIONS}
    groups = {".".join(key.split(".")[:depth]) for key in known for depth in (1, 2, 3)}
    lost = []
    for span in spans(page):
        name = span.split(" = ")[0]
        if re.fullmatch(r"[a-z_]+(?:\.[a-z_<>]+)+", name) is None:
            continue
        if name.split(".")[0] in settings_tables() and not NO_SETTINGS.search(name):
            lost += [] if name in known | groups else [name]
    assert lost == []


FUNCTIONS = tuple(Settings.model_fields["functions"].annotation.model_fields)  # type: ignore[union-attr]
#: Files, and names of Python and of logs, that look like settings.
NO_SETTINGS = re.compile(r"\.(?:py|md|json|toml|log|sql)$")


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_that_a_page_names_is_read_by_something(page: str) -> None:
    names = {name.rstrip("_") for name in re.findall(r"\bFOREBAY_[A-Z_]+", text_of(page))}
    assert names - variables() == set()


@cache
def variables() -> set[str]:
    files = [file for top in SOURCES for file in (ROOT / top).rglob("*.py")]
    files += [ROOT / "Makefile"]
    texts = (file.read_text(encoding="utf-8") for file in files)
    return {name for text in texts for name in re.findall(r"\bFOREBAY_[A-Z_]*[A-Z]\b", text)}


@pytest.mark.parametrize("page", PAGES)
def test_every_header_that_a_page_names_is_in_the_sources(page: str) -> None:
    names = {
        span.partition(":")[0]
        for span in spans(page)
        if re.fullmatch(r"[A-Z][a-z]+(?:-[A-Z][A-Za-z]+)+(?:: .*)?", span)
    }
    assert {name for name in names if name.lower() not in sources()} - OF_OTHERS == set()


#: Headers of which a page says that they mean nothing here.
OF_OTHERS = {"Accept-Profile", "Content-Profile", "Server-Timing", "Transfer-Encoding"}


@cache
def sources() -> str:
    files: list[Path] = [
        file
        for top in ("forebay", "lambdas", "infra", "devtools", "local", "loader")
        for ending in ("*.py", "*.js")
        for file in (ROOT / top).rglob(ending)
    ]
    return "\n".join(file.read_text(encoding="utf-8") for file in files).lower()


@pytest.mark.parametrize("page", PAGES)
def test_every_problem_that_a_page_names_with_its_status_has_it(page: str) -> None:
    for status, code in re.findall(r"\b([345]\d\d) `([a-zA-Z_]+\d*)`", text_of(page)):
        if code in CATALOGUE:
            assert CATALOGUE[code][0] == int(status), code
        else:
            assert not re.fullmatch(r"[a-z]+(?:_[a-z]+)+|PGRST\d+", code), code


@pytest.mark.parametrize("page", PAGES)
def test_every_module_and_table_of_ours_that_a_page_names_is_there(page: str) -> None:
    tables = {
        table.name for table in metadata({}).tables.values() if table.schema == PIPELINE_SCHEMA
    }
    for span in spans(page):
        match = re.match(r"((?:forebay|lambdas|ops|infra|bench)(?:\.\w+)+)(?:\(.*\))?$", span)
        if match is None or match[1].removeprefix("forebay.") in tables | {"alembic_version"}:
            continue
        assert resolves(match[1]), span


def test_every_method_that_the_architecture_names_is_defined() -> None:
    """A reader begins with these: `CommandMaker.create`."""
    names = {
        (match[1], match[2])
        for span in spans("docs/architecture.md")
        if (match := re.fullmatch(r"([A-Z]\w+)\.(\w+)", span))
    }
    assert len(names) > 10
    assert names - methods() == set()


@cache
def methods() -> set[tuple[str, str]]:
    """Every class of the core and the functions with each of its methods."""
    names: set[tuple[str, str]] = set()
    for top in ("forebay", "lambdas"):
        for file in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    names |= {
                        (node.name, child.name)
                        for child in node.body
                        if isinstance(child, ast.FunctionDef)
                    }
    return names


def resolves(name: str) -> bool:
    """Whether a dotted name leads to a module, or to something in one."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False
