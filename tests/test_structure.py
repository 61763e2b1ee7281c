"""The rules of the code base, each with a failure that says what to do."""

import ast
import fnmatch
import importlib
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import kerascomp
from kerascomp import _registry

pytestmark = pytest.mark.one_backend

ROOT = pathlib.Path(__file__).parent.parent

# From top to bottom. A module imports from lower lines alone: never from its
# own line, except from files of its own package.
LAYERS = (
    ("cli", "testing"),
    ("studies",),
    ("export",),
    ("tuners", "validation", "doctor", "ensembles"),
    ("population",),
    ("callbacks",),
    (
        "layers",
        "losses",
        "metrics",
        "regularizers",
        "schedules",
        "optimizers",
        "initializers",
        "activations",
    ),
    ("distances", "datasets", "_chains"),
    (
        "_registry",
        "_validation",
        "_numerics",
        "_geometry",
        "_files",
        "_paths",
        "_colors",
    ),
    ("_compat", "_version"),
)

# Files that may import a backend, and those that may touch private Keras.
BACKEND_FILES = (
    "kerascomp/_compat.py",
    "kerascomp/callbacks/_probe_*.py",
    "kerascomp/callbacks/_hessian_*.py",
    "kerascomp/population/_tensorflow.py",
    "kerascomp/population/_jax.py",
    "kerascomp/population/_torch.py",
    "kerascomp/regularizers/_autodiff.py",
    "tests/backend.py",
    "tests/fresh_process.py",  # Its point is to know no Keras.
)
PRIVATE_KERAS_FILES = ("kerascomp/_compat.py",)

MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 40
MAX_ARGUMENTS = 7
# What takes more, and why.
MANY_ARGUMENTS = {
    "kerascomp/layers/_augmentation.py:SpecAugment.__init__": (
        "the policy's numbers in the paper; all have defaults"
    ),
    "kerascomp/schedules/_cosine.py:WarmupCosine.__init__": (
        "a shape has that many numbers; all but two have defaults"
    ),
    "kerascomp/studies/_study.py:Study.__init__": (
        "a study's settings; all but three have defaults"
    ),
    "kerascomp/tuners/_bayesian.py:BayesianOptimizationOracle.__init__": (
        "the arguments of KerasTuner's oracle"
    ),
    "kerascomp/tuners/_grid.py:GridSearchOracle.__init__": (
        "the arguments of KerasTuner's oracle"
    ),
    "kerascomp/tuners/_hyperband.py:HyperbandOracle.__init__": (
        "the arguments of KerasTuner's oracle"
    ),
    "kerascomp/tuners/_random.py:RandomSearchOracle.__init__": (
        "the arguments of KerasTuner's oracle"
    ),
    **{
        f"kerascomp/tuners/_tuners.py:{name}.__init__": (
            "the arguments of KerasTuner's tuner"
        )
        for name in (
            "RandomSearch",
            "GridSearch",
            "BayesianOptimization",
            "Hyperband",
        )
    },
    "kerascomp/population/_population.py:Population.fit": (
        "the arguments of `keras.Model.fit`"
    ),
    "kerascomp_cli.py:study": "one argument an option, as typer reads them",
    "kerascomp_cli.py:lr_range": "one argument an option, as typer reads them",
}


def files(*folders):
    found = [path for folder in folders for path in ROOT.glob(folder)]
    assert found, f"there are no files in {folders}"
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


PACKAGE = files("kerascomp/**/*.py", "kerascomp_cli.py")
CODE = [
    *PACKAGE,
    *files("tests/**/*.py", "examples/**/*.py", "benchmarks/**/*.py"),
]


def parsed(name):
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), name)


def module_of(name):
    """The module of the package that a file belongs to."""
    if name == "kerascomp_cli.py":
        return "cli"
    return pathlib.PurePosixPath(name).parts[1].removesuffix(".py")


def imported_modules(tree):
    """The full names of all modules and names that are imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(module, where):
    for height, modules in enumerate(reversed(LAYERS)):
        if module in modules:
            return height
    raise AssertionError(
        f"{where} uses kerascomp.{module}, which has no place yet. Add it to "
        "LAYERS in tests/test_structure.py."
    )


@pytest.mark.parametrize("name", PACKAGE)
def test_imports_point_downwards(name):
    if name == "kerascomp/__init__.py":  # The table of contents, above all.
        return
    module = module_of(name)
    for imported in imported_modules(parsed(name)):
        root, _, rest = imported.partition(".")
        target = rest.partition(".")[0]
        if root != "kerascomp" or target == module:
            continue
        assert target, f"{name} imports the whole package: name the module."
        assert layer_of(target, name) < layer_of(module, name), (
            f"{name} imports {imported}, which does not lie below it. Move "
            "what both need into a lower module (see LAYERS)."
        )


COMPONENT_MODULES = sorted({_registry.module_of(k) for k in _registry.KINDS})


@pytest.mark.parametrize("name", COMPONENT_MODULES)
def test_the_public_names_of_a_module_are_its_components(name):
    registered = {
        entry.name for entry in kerascomp.entries() if entry.module == name
    }
    if not (hasattr(kerascomp, name) or registered):
        return  # No component of this kind yet.
    module = importlib.import_module(f"kerascomp.{name}")
    unlisted = registered - set(module.__all__)
    assert not unlisted, f"Add {sorted(unlisted)} to __all__ of {name}"
    unregistered = {
        public
        for public in module.__all__
        if inspect.isclass(getattr(module, public))
    } - registered
    assert not unregistered, (
        f"Decorate {sorted(unregistered)} of {name} with @component"
    )


def is_allowed(name, patterns):
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


@pytest.mark.parametrize("name", [*PACKAGE, *files("tests/**/*.py")])
def test_backends_are_imported_in_backend_files_alone(name):
    backends = {
        imported
        for imported in imported_modules(parsed(name))
        if imported.partition(".")[0] in ("tensorflow", "jax", "torch")
    }
    assert not backends or is_allowed(name, BACKEND_FILES), (
        f"{name} imports {sorted(backends)}. Use keras.ops, or move it to one "
        f"of {BACKEND_FILES}."
    )


def dotted(node):
    """The name of an attribute chain, such as `keras.src.ops`, else empty."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""


@pytest.mark.parametrize("name", CODE)
def test_private_keras_stays_private(name):
    if is_allowed(name, PRIVATE_KERAS_FILES):
        return
    tree = parsed(name)
    used = [*imported_modules(tree), *map(dotted, ast.walk(tree))]
    private = {
        chain
        for chain in used
        if re.match(r"keras\.(src\b|(\w+\.)*_[a-z])", chain)
    }
    assert not private, (
        f"{name} uses {sorted(private)}, which Keras may change at any time. "
        "Find a public way, or put it into _compat.py with a test."
    )


@pytest.mark.parametrize("name", CODE)
def test_files_are_short(name):
    lines = len((ROOT / name).read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, (
        f"{name} has {lines} lines, more than {MAX_FILE_LINES}. Make it a "
        "folder of topic files with the same public names."
    )


def functions(tree):
    """All functions with their qualified names."""
    stack = [("", tree)]
    while stack:
        prefix, node = stack.pop()
        for child in ast.iter_child_nodes(node):
            inside = prefix
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inside = f"{prefix}{child.name}."
            if isinstance(child, ast.FunctionDef):
                yield f"{prefix}{child.name}", child
            stack.append((inside, child))


@pytest.mark.parametrize("name", CODE)
def test_functions_are_short(name):
    for function, node in functions(parsed(name)):
        body = node.body[ast.get_docstring(node) is not None :]
        lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
        assert lines <= MAX_FUNCTION_LINES, (
            f"{function} in {name} has {lines} lines, more than "
            f"{MAX_FUNCTION_LINES}, docstring not counted. Name its parts."
        )


@pytest.mark.parametrize("name", PACKAGE)
def test_functions_take_few_arguments(name):
    for function, node in functions(parsed(name)):
        arguments = [
            each.arg
            for each in (
                *node.args.posonlyargs,
                *node.args.args,
                *node.args.kwonlyargs,
            )
            if each.arg not in ("self", "cls")
        ]
        few = len(arguments) <= MAX_ARGUMENTS
        assert few or f"{name}:{function}" in MANY_ARGUMENTS, (
            f"{function} in {name} takes {len(arguments)} arguments, more than "
            f"{MAX_ARGUMENTS}. Group them, or say in MANY_ARGUMENTS why not."
        )


@pytest.mark.parametrize("entry", MANY_ARGUMENTS)
def test_no_exemption_outlives_its_function(entry):
    name, _, function = entry.partition(":")
    assert function in dict(functions(parsed(name))), f"Remove {entry}"


def test_importing_the_package_imports_nothing_optional():
    program = (
        "import sys, keras; before = set(sys.modules);"
        "import kerascomp; print(*sorted(set(sys.modules) - before))"
    )
    process = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    new = {
        name
        for name in process.stdout.split()
        if name.partition(".")[0] not in {"kerascomp", *sys.stdlib_module_names}
    }
    assert not new, (
        f"`import kerascomp` imports {sorted(new)}. Import them inside the "
        "functions that use them, or list the module in _LAZY."
    )


def test_no_tracked_file_names_a_machine():
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True
    )
    if listing.returncode:
        pytest.skip("is not a git checkout")
    pattern = re.compile(
        "|".join(["/" + "home/", "/" + "Users/", "/" + "work/"])
    )
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", errors="ignore")
        found = pattern.search(text)
        assert not found, f"{name} holds a path of one machine: {found[0]}"
