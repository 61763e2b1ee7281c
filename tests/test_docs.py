"""Docstrings are complete, and every example in the documentation runs."""

import doctest
import importlib
import inspect
import pathlib
import pkgutil
import re

import keras
import numpy as np
import pytest

import kerascomp
from kerascomp import _compat, _registry

ROOT = pathlib.Path(__file__).parent.parent

# Files of the other backends, which need not be installed.
FOREIGN = tuple(
    f"_{name}" for name in _compat.BACKENDS if name != _compat.backend()
)
MODULES = [
    "kerascomp",
    *(
        module.name
        for module in pkgutil.walk_packages(kerascomp.__path__, "kerascomp.")
        if not module.name.endswith(FOREIGN)
    ),
]
PUBLIC_MODULES = [name for name in MODULES if "._" not in name]

# Sections of a docstring, besides Args: see CONTRIBUTING.md.
SECTIONS = {
    "layer": ("Call arguments", "Returns", "Masking", "Examples", "Reference"),
    "loss": ("Call arguments", "Returns", "Examples", "Reference"),
    "metric": ("Call arguments", "Returns", "Examples", "Reference"),
    "regularizer": ("Call arguments", "Returns", "Examples", "Reference"),
    "schedule": ("Call arguments", "Returns", "Examples", "Reference"),
    "callback": ("Saved state", "Examples"),
    "optimizer": ("Examples", "Reference"),
    "initializer": ("Call arguments", "Returns", "Examples", "Reference"),
    "activation": ("Returns", "Examples", "Reference"),
}


def public_symbols():
    """Every public class and function, once, under its shortest path."""
    seen = {}
    for name in sorted(PUBLIC_MODULES, key=len):
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            symbol = getattr(module, public)
            if inspect.isclass(symbol) or inspect.isfunction(symbol):
                seen.setdefault(symbol, f"{name}.{public}")
    return [pytest.param(symbol, id=path) for symbol, path in seen.items()]


SYMBOLS = public_symbols()


COMPONENTS = [
    pytest.param(entry, id=entry.path) for entry in kerascomp.entries()
]


def section(symbol, name):
    """The text of one section of a docstring, or None."""
    text = inspect.getdoc(symbol) or ""
    found = re.search(rf"^{name}:\n((?:(?: {{4}}.*)?(?:\n|$))+)", text, re.M)
    return found and inspect.cleandoc(found[1])


def parameters(symbol):
    try:
        signature = inspect.signature(symbol)
    except ValueError:  # A class without a constructor of its own.
        return []
    return [
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind
        not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_the_first_line_is_a_sentence_for_the_user(symbol):
    text = inspect.getdoc(symbol)
    assert text, f"Write a docstring for {symbol.__name__}"
    first, _, rest = text.partition("\n")
    assert len(first) <= 79, f"Shorten the first line of {symbol.__name__}"
    assert re.match(r"[A-Z0-9`].*\.$", first), (
        f"Make the first line of {symbol.__name__} a sentence: {first!r}"
    )
    assert not rest or rest.startswith("\n"), "Leave the second line empty."


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_every_argument_is_documented(symbol):
    described = re.findall(
        r"^\*{0,2}(\w+(?:, \w+)*):", section(symbol, "Args") or "", re.M
    )
    documented = {name for names in described for name in names.split(", ")}
    missing = [p for p in parameters(symbol) if p not in documented]
    assert not missing, (
        f"Describe {missing} of {symbol.__name__} under Args: meaning, range, "
        'unit. For inherited ones: "As in `keras.losses.Loss`."'
    )


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_functions_say_what_they_return(symbol):
    if not inspect.isfunction(symbol):
        return
    returns = inspect.signature(symbol).return_annotation
    says = inspect.getdoc(symbol).startswith("Returns ") or any(
        section(symbol, name) for name in ("Returns", "Yields")
    )
    assert says or returns in (None, "None", inspect.Signature.empty), (
        f"Add Returns to {symbol.__name__}: shape, dtype and meaning."
    )


@pytest.mark.parametrize("entry", COMPONENTS)
def test_components_have_all_sections(entry):
    wanted = [*SECTIONS[entry.kind]]
    source = inspect.getsource(entry.symbol)
    if "seed" in parameters(entry.symbol) and entry.kind == "layer":
        wanted.append("Seed")
    if re.search(r"\braise |_validation\.", source):
        wanted.append("Raises")
    missing = [name for name in wanted if not section(entry.symbol, name)]
    assert not missing, f"Add to the docstring of {entry.path}: {missing}"


@pytest.mark.parametrize("entry", COMPONENTS)
def test_examples_show_the_component(entry):
    assert f"{entry.name}(" in section(entry.symbol, "Examples"), (
        f"The example of {entry.path} does not use it."
    )


def run_examples(tests):
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    report = []
    for test in tests:
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings_run(name):
    module = importlib.import_module(name)
    # Readers see private files as part of the public module they are in.
    public = importlib.import_module(name.partition("._")[0])
    scope = {**vars(module), **vars(public), "np": np, "keras": keras}
    run_examples(doctest.DocTestFinder().find(module, name, globs=scope))


DOCUMENTS = [
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))
    if path.exists()
]


@pytest.mark.one_backend
@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_examples_of_documents_run(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    # A closing fence would be read as expected output.
    text = re.sub(r"^ *```.*$", "", text, flags=re.M)
    scope = {"np": np, "keras": keras, "kc": kerascomp}
    run_examples(
        [doctest.DocTestParser().get_doctest(text, scope, name, name, 0)]
    )


# Public modules that are no part of the Python interface, and why.
WITHOUT_PAGE = {"kerascomp.cli": "the commands are described in a guide"}


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in PUBLIC_MODULES
        if name.count(".") == 1 and name not in WITHOUT_PAGE
    ],
)
def test_every_public_module_has_a_page(name):
    if not hasattr(importlib.import_module(name), "__all__"):
        return
    page = ROOT / "docs" / "api" / f"{name.partition('.')[2]}.md"
    line = f"::: {name}"
    lines = page.read_text().splitlines() if page.exists() else []
    assert line in lines, (
        f"Write {page.relative_to(ROOT)} with the line `{line}`"
    )


def test_every_kind_has_its_sections():
    assert SECTIONS.keys() == set(_registry.KINDS)
