"""The promises of the documentation, and its English."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import fields
from pathlib import Path

import pytest

from admin import cli
from chassis.errors import AppError
from chassis.http.problem_pages import meaning_of
from config import AppConfig
from docs import generate, rooms

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
ADRS = ROOT / "docs" / "adr"

# Pages that GitHub makes beside the files.
OF_GITHUB = "../../actions/"
FIGURE = re.compile(r"\d[\d,]*(?:\.\d+|,\d{3}|\d{2})")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# An entry of a drawn tree: four characters for each folder that it lies in.
BRANCH = re.compile(r"(?P<branch>(?:(?:│   |    )*[├└]── )?)(?P<name>[\w.]+/?)")
# A statement that begins with What or Who names no thing; a question may. A line or a cell of a
# table begins a sentence as well.
RIDDLE = re.compile(
    r"(?:^|[.!?|])[\W\d_]*\b((?:What|Who)(?:ever|se|m)?\b(?![^.?!]*\?)[^.?!|\n]*)", re.MULTILINE
)
HEADING = re.compile(r"^#+ .*$", re.MULTILINE)


def test_generated_documentation_is_current():
    expected = generate.texts()

    outdated = [file.name for file, text in expected.items() if read(file) != text]

    assert not outdated, "run: make docs"


def test_every_variable_is_in_the_table():
    text = read(ROOT / "docs" / "configuration.md")

    missing = [
        each.name.upper()
        for each in fields(AppConfig)
        if f"\n| `{each.name.upper()}` |" not in text
    ]

    assert not missing


def test_every_secret_names_the_variable_for_its_file():
    text = read(ROOT / "docs" / "configuration.md")
    secrets = {each.name.upper() for each in fields(AppConfig) if each.metadata["secret"]}

    named = set(re.findall(r"yes, or `(\w+)_FILE`", text))

    assert named == secrets


def test_errors_that_share_a_code_are_kinds_of_one_error():
    by_code: dict[str, list[type[AppError]]] = {}
    for error in generate.error_classes():
        by_code.setdefault(error.code, []).append(error)

    strangers = {
        code
        for code, alike in by_code.items()
        if len({error.status for error in alike}) > 1
        or not any(all(issubclass(each, general) for each in alike) for general in alike)
    }

    assert not strangers


def test_every_code_has_one_row_with_all_its_meanings():
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \| .* \|$", generate.errors(), re.MULTILINE)

    meanings = dict(rows)

    assert len(rows) == len(meanings)
    assert all(meaning_of(error) in meanings[error.code] for error in generate.error_classes())


def test_badges_of_the_readme_are_true():
    badges = re.findall(r"badge/(\w+)-([^-]+)-", read(README))
    workflow = read(ROOT / ".github" / "workflows" / "ci.yaml")
    versions = re.findall(r'"(3\.\d+)"', re.findall(r"python: \[(.*)\]", workflow)[0])
    licence = read(ROOT / "LICENSE").split()[0]

    assert badges == [
        ("python", f"{versions[0]}_to_{versions[-1]}"),
        ("licence", licence),
    ]


def test_figures_of_the_readme_were_recorded():
    _, _, text = read(README).partition("## Grow out of one machine")
    section = text.partition("\n## ")[0]
    recorded = set(FIGURE.findall(read(ROOT / "docs" / "performance.md")))

    told = set(FIGURE.findall(section))

    assert len(told) > 5
    assert told - recorded == set()


@pytest.mark.parametrize("command", ["make run", "make test"])
def test_the_readme_names_the_two_commands_that_a_newcomer_needs(command):
    scripts = [body for language, body in BLOCK.findall(read(README)) if language == "sh"]

    lines = [line for script in scripts for line in script.splitlines()]

    assert any(line.startswith(command) for line in lines)


def test_the_operations_show_every_admin_command():
    _, _, text = read(ROOT / "docs" / "operations.md").partition("\n## Commands\n")
    shown = set(re.findall(r"^python app\.py admin ([\w-]+)", text, re.MULTILINE))

    assert shown == set(cli.commands)


def test_every_relative_link_leads_to_a_file():
    broken = [
        f"{file.relative_to(ROOT)}: {link}"
        for file in markdown_files()
        for link in LINK.findall(BLOCK.sub("", read(file)))
        if ":" not in link and not leads_somewhere(file, link)
    ]

    assert not broken


def test_every_test_file_that_a_document_names_is_there():
    named = {
        name for file in markdown_files() for name in re.findall(r"`(tests/[\w/]+\.py)", read(file))
    }

    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    assert not re.search(r"`test_\w+\.py`", read(ROOT / "docs" / "reliability.md"))


def test_every_decision_is_listed_once_under_its_own_number():
    records = sorted(file.name for file in ADRS.glob("[0-9]*.md"))

    listed = re.findall(r"\[(\d+)\]\((\d{4}-[\w-]+\.md)\)", read(ADRS / "README.md"))

    assert sorted(name for _, name in listed) == records
    assert all(int(number) == int(name[:4]) for number, name in listed)
    assert len({name[:4] for name in records}) == len(records)
    for name in records:
        assert read(ADRS / name).startswith(f"# {int(name[:4])}. ")


def test_every_decision_has_a_context_and_consequences():
    headings = ["## Context", "## Decision", "## Consequences"]

    incomplete = [
        file.name
        for file in ADRS.glob("[0-9]*.md")
        if re.findall(r"^## .*$", read(file), re.MULTILINE) != headings
    ]

    assert not incomplete


def test_every_dependency_earns_its_place_in_words():
    text = read(ADRS / "0001-dependencies.md")
    lines = read(ROOT / "requirements.in") + read(ROOT / "requirements-dev.in")

    unexplained = [
        name for name in re.findall(r"^[a-z][\w-]*", lines, re.MULTILINE) if f"`{name}`" not in text
    ]

    assert not unexplained


def test_the_tree_in_the_architecture_names_every_module_and_no_other():
    tree = next(body for language, body in BLOCK.findall(read(ARCHITECTURE)) if "app.py" in body)
    modules = python_files("*.py", "chassis/**/*.py", "userservice/**/*.py")
    others = python_files("docs/*.py", "migrations/**/*.py", "tests/**/*.py", "tools/*.py")

    named = paths_in(tree)

    assert modules - named == set()
    assert named - modules - others == set()


def test_a_drawn_tree_is_read_as_paths():
    tree = """\
app.py        not config.py
web/          index.py, about.py,
│   │         contact.py
├── rooms/
│   ├── a.py  like b.py
│   └── deep/ c.py
└── a.py
docs/         generate.py
"""

    assert paths_in(tree) == {
        *("app.py", "web/index.py", "web/about.py", "web/contact.py"),
        *("web/rooms/a.py", "web/rooms/deep/c.py", "web/a.py", "docs/generate.py"),
    }


def test_the_rooms_in_the_picture_are_as_wide_as_their_names():
    too_narrow = [
        each.name
        for house in rooms.houses()
        for row in house.rows
        for each in row
        if max(
            len(each.name) * rooms.LETTER,
            *(len(file) * rooms.CHARACTER for file in (*each.files, "")),
        )
        > rooms.width_in(row) - 2 * rooms.PADDING
    ]

    assert not too_narrow


def test_no_sentence_begins_with_what_or_who():
    texts = {file: HEADING.sub("", BLOCK.sub("", read(file))) for file in markdown_files()}
    texts |= {file: words_of(read(file)) for file in product_files()}

    riddles = [
        f"{file.relative_to(ROOT)}: {riddle}"
        for file, text in texts.items()
        for riddle in RIDDLE.findall(text)
    ]

    assert not riddles


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What is stored.", 1),
        ("Stored. **Who** asks\nagain waits.", 1),
        ("1. Whoever asks", 1),
        ("| a | What it is |", 1),
        ("What is stored?", 0),
        ("It stores what it got. Nobody asks who did.", 0),
    ],
)
def test_a_sentence_that_begins_with_what_or_who_is_found(text, found):
    assert len(RIDDLE.findall(text)) == found


def test_docstrings_and_comments_are_the_words_of_a_file():
    code = 'x = "What?"  # a comment\n\ndef f():\n    """A docstring."""\n'

    assert words_of(code).split("\n") == ["A docstring.", "a comment"]


def python_files(*patterns):
    """Return the paths of modules; a package's own file says nothing."""
    found = (file for pattern in patterns for file in ROOT.glob(pattern))
    return {str(each.relative_to(ROOT)) for each in found if each.name != "__init__.py"}


def product_files():
    """Return the files of Python that are neither tests nor benchmarks."""
    folders = ("chassis", "userservice", "docs", "migrations", "tools")
    return [*ROOT.glob("*.py"), *(each for name in folders for each in (ROOT / name).rglob("*.py"))]


def words_of(code):
    """Return the docstrings of a file and below them its comments, each from a new line."""
    statements = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Expr))
    values = [each.value for each in statements if isinstance(each.value, ast.Constant)]
    docstrings = [each.value for each in values if isinstance(each.value, str)]
    comments = [
        token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(code).readline)
        if token.type == tokenize.COMMENT
    ]
    return "\n".join([*docstrings, *comments])


def paths_in(tree):
    """Return the paths of modules that a drawn tree names.

    A folder's line may name files in it, and may go on in lines that begin no entry.
    """
    folders: list[str] = []
    named = set()
    for line in tree.splitlines():
        entry = BRANCH.match(line)
        if entry:
            depth = len(entry["branch"]) // 4
            folders = folders[:depth]
            if not entry["name"].endswith("/"):
                named.add("".join([*folders, entry["name"]]))
                continue
            folders.append(entry["name"])
        text = line[entry.end() :] if entry else line
        named |= {"".join([*folders, name]) for name in re.findall(r"[\w.]+\.py\b", text)}
    return named


def markdown_files():
    """Return the project's own Markdown files."""
    is_ours = re.compile(r"(?!\.|build$)").match  # in build/ programs have their own
    folders = [each for each in ROOT.iterdir() if each.is_dir() and is_ours(each.name)]
    return [*ROOT.glob("*.md"), *(file for folder in folders for file in folder.rglob("*.md"))]


def leads_somewhere(file, link):
    """Tell whether a link's file exists and has the heading that the link names."""
    if link.startswith(OF_GITHUB):
        return True
    path, _, heading = link.partition("#")
    target = (file.parent / path) if path else file
    return target.exists() and (not heading or heading in anchors(target))


def anchors(file):
    """Return a document's headings as a link names them."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", read(file)), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings}


def read(file):
    """Return a file's text."""
    return file.read_text(encoding="utf-8")
