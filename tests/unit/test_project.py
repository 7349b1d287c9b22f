"""What holds for the project as a whole.

Every module introduces itself and stays small enough to read, the core imports data types only, what has no
types is confined to the edges, and the tree stands alone.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import haagent
from tests.sim.mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "haagent").rglob("*.py"))
OWN_CODE = [path for path in MODULES if not path.stem.endswith(("_pb2", "_pb2_grpc"))]

LINES_PER_MODULE = 400
LINES_PER_TEST = 600

# import-linter refuses what is known to be impure; this admits only what is known to be pure.
CORE_MAY_IMPORT = {
    "__future__",
    "abc",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "heapq",
    "ipaddress",
    "itertools",
    "math",
    "operator",
    "types",
    "typing",
}

# Rules of the type checker that a module may turn off where it meets a library without types, and who may.
UNTYPED_RULES = {
    "reportUnknownArgumentType",
    "reportUnknownMemberType",
    "reportUnknownParameterType",
    "reportUnknownVariableType",
}
MEETS_UNTYPED_LIBRARIES = ("haagent/adapters/", "haagent/api/", "haagent/lab/")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=str(module)):
                found.add(module)
            case _:
                pass
    return found


def tracked_files() -> list[Path]:
    """What git knows; in an unpacked release, which has no git, all in the project's directories."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
        paths = [ROOT / line for line in listed.stdout.split("\0") if line]
    except (OSError, subprocess.CalledProcessError):
        paths = [path for part in ("haagent", "tests", "docs", ".ci") for path in (ROOT / part).rglob("*")]
    return [path for path in paths if path.is_file() and "__pycache__" not in path.parts]


@pytest.mark.parametrize("path", OWN_CODE, ids=name)
def test_module_says_what_it_is_for(path: Path):
    assert ast.get_docstring(ast.parse(path.read_text())), f"{name(path)} has no docstring"


@pytest.mark.parametrize("path", OWN_CODE, ids=name)
def test_module_can_be_read_in_one_sitting(path: Path):
    lines = len(path.read_text().splitlines())
    assert lines <= LINES_PER_MODULE, f"{name(path)} has {lines} lines: split it by what its parts are for"


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=name)
def test_test_file_opens_with_what_it_shows(path: Path):
    text = path.read_text()
    lines = len(text.splitlines())
    assert lines <= LINES_PER_TEST, f"{name(path)} has {lines} lines"
    if path.name != "__init__.py":
        assert ast.get_docstring(ast.parse(text)), f"{name(path)} has no docstring"


@pytest.mark.parametrize("path", sorted((ROOT / "haagent" / "core").rglob("*.py")), ids=name)
def test_core_imports_data_types_only(path: Path):
    outside = {module.partition(".")[0] for module in imports(path) if not module.startswith("haagent.core")}
    assert outside <= CORE_MAY_IMPORT


def test_scapy_is_imported_by_the_lab_only():
    importers = [name(path) for path in MODULES if any(module.startswith("scapy") for module in imports(path))]
    assert [path for path in importers if not path.startswith("haagent/lab/")] == []


def test_unknown_types_are_confined_to_the_edges():
    for path in OWN_CODE:
        for rules in re.findall(r"^# pyright:\s*(.+)$", path.read_text(), re.MULTILINE):
            assert name(path).startswith(MEETS_UNTYPED_LIBRARIES), f"{name(path)} may not relax the type checker"
            relaxed = {rule.strip().removesuffix("=false") for rule in rules.split(",")}
            assert relaxed <= UNTYPED_RULES, f"{name(path)} relaxes more than unknown types"


def test_every_package_is_one_that_gets_installed():
    holders = {path.parent for path in MODULES}
    assert [name(path) for path in sorted(holders) if not (path / "__init__.py").exists()] == []
    assert (ROOT / "haagent" / "py.typed").exists()


def test_version_is_said_once():
    assert re.fullmatch(r"\d+\.\d+\.\d+", haagent.__version__)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]


def test_what_is_imported_is_what_is_required():
    """A library that only happens to be there, because another needs it, is not one to build on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]["test"]  # the lab's scapy
    required = {re.split(r"[\[<>=!~ ]", line)[0].lower() for line in project["dependencies"] + optional}
    distributions = metadata.packages_distributions()
    roots = {module.partition(".")[0] for path in OWN_CODE for module in imports(path)}
    outside = roots - set(sys.stdlib_module_names) - {"haagent"}
    names = {root: {dist.lower().replace("_", "-") for dist in distributions.get(root, [])} for root in outside}
    unclaimed = {root for root in outside if required.isdisjoint(names[root])}
    assert unclaimed == set()


def test_nothing_points_outside_the_tree():
    # Written in parts, so that this file does not find itself.
    forbidden = re.compile("|".join([r"\.\./" + "shared", "/work/" + r"(main|shared|brief)"]))
    found = [name(path) for path in tracked_files() if forbidden.search(path.read_text(errors="replace"))]
    assert found == []


def test_license_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_every_test_directory_is_run_by_make():
    """`make test` takes the directories of tests it finds; a test file beside them would not run."""
    strays = [name(path) for path in (ROOT / "tests").glob("test_*.py")]
    assert strays == []


def test_every_test_and_mutant_that_safety_rests_on_exists():
    text = (ROOT / "docs" / "SAFETY.md").read_text()
    named = {(kind, what) for kind, what in re.findall(r"`(test|mutant):([\w-]+)`", text)} - {
        ("test", "NAME"),
        ("mutant", "NAME"),
    }
    tests = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert {what for kind, what in named if kind == "test"} <= tests
    assert {what for kind, what in named if kind == "mutant"} <= MUTANTS.keys()
    assert len(named) > 40


def test_every_mutant_is_named_where_safety_is_explained():
    text = (ROOT / "docs" / "SAFETY.md").read_text()
    assert [name for name in MUTANTS if f"`mutant:{name}`" not in text] == []


def locked() -> dict[str, str]:
    """What requirements.lock installs on Linux: versions by canonical name."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = (line.removesuffix(" \\") for line in lines if "==" in line and "--hash" not in line)
    found = [Requirement(pin) for pin in pins]
    here = [one for one in found if one.marker is None or one.marker.evaluate()]
    return {canonicalize_name(one.name): next(iter(one.specifier)).version for one in here}


def test_the_lock_satisfies_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for some in project["optional-dependencies"].values() for one in some)]
    pins = locked()
    unmet = [
        text
        for text in asked
        if not (one := Requirement(text)).specifier.contains(pins.get(canonicalize_name(one.name), "0"))
    ]
    assert not unmet, "run 'make lock'"


def test_what_is_installed_is_what_is_locked():
    installed: dict[str, str] = {
        canonicalize_name(one.metadata["Name"]): one.version for one in metadata.distributions()
    }
    other = {name: installed.get(name) for name, version in locked().items() if installed.get(name) != version}
    assert not other, "run 'make venv'"
