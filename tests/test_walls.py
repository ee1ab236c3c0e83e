"""The house: which rooms there are, what may be seen from where, and no circles."""

import ast
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import ghostjax

HOME = Path(ghostjax.__file__).parent
FLOORS = [
    ["names", "environ", "terminal", "files", "interrupt", "programs", "pixels"]
    + ["runtime", "evaluation.intervals"],
    ["fields", "evaluation.metrics", "evaluation.rows", "training.parallel"],
    ["records"],
    ["stego.records", "defenses.records", "attacks.records", "evaluation.records"],
    ["registry"],
    ["config", "models", "data"],
    ["training"],
    ["base"],
    ["training.classifier", "stego", "defenses", "attacks", "own"],
    ["evaluation"],
    ["report"],
    ["experiments"],
    ["toy"],
    ["testing"],
    ["cli", "__main__", ""],
]
"""From the ground up: a module imports of its own floor and of those below it. A module
that is named itself does not stand on its package's floor."""
WITHOUT_JAX = ["config", "data", "report", "registry", "records", "fields", "files"] + [
    "names", "cli", "attacks.records", "defenses.records", "stego.records",
    "evaluation.rows", "evaluation.intervals", "experiments.plan",
    "evaluation.records", "evaluation.verdict",
    "evaluation.columns", "experiments.device", "experiments.overview",
    "experiments.state", "experiments.ways", "training.strategies",
    "training.stacks", "interrupt", "environ", "terminal",
]  # fmt: skip
ROOMS = {"models", "data", "training", "stego", "defenses", "attacks", "evaluation"} | {
    "config", "experiments", "report", "testing",
}  # fmt: skip


@cache
def modules() -> dict[str, Path]:
    """Name below ghostjax -> file; "" is ghostjax itself."""
    found = {}
    for path in HOME.rglob("*.py"):
        parts = path.relative_to(HOME).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text())


@cache
def imports(name: str, lazy: bool = True) -> frozenset[str]:
    """The modules of ghostjax that a module imports; with `lazy`, in functions too.

    What is imported for type checkers alone is not imported.
    """
    found = set()
    body = [node for node in tree_of(name).body if not for_type_checkers(node)]
    for node in ast.walk(ast.Module(body, [])) if lazy else body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "ghostjax"
        ):
            above = node.module.removeprefix("ghostjax").removeprefix(".")
            for alias in node.names:
                inner = f"{above}.{alias.name}".removeprefix(".")
                found.add(inner if inner in modules() else above)
    return frozenset(found - {""})


def for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def floor(name: str) -> int:
    """The floor of a module: its own, or its package's."""
    for place in (name, name.partition(".")[0]):
        for height, rooms in enumerate(FLOORS):
            if place in rooms:
                return height
    raise AssertionError(f"{name} stands on no floor")


@pytest.mark.parametrize("name", sorted(modules()))
def test_nothing_imports_from_a_floor_above(name):
    upper = {other for other in imports(name) if floor(other) > floor(name)}
    assert not upper


def test_no_circles():
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            path.append(name)
            for other in sorted(imports(name)):
                visit(other)
            done.add(path.pop())

    for name in modules():
        visit(name)


@pytest.mark.parametrize(
    ("room", "unseen"),
    [
        ("attacks", "defenses"),
        ("defenses", "attacks"),
        *(
            (room, other)
            for room in ("models", "training", "stego", "defenses", "attacks")
            for other in ("config.toml", "config.grid", "experiments", "report")
        ),
        ("report", "experiments"),
        ("evaluation", "experiments"),
        ("data", "models"),
    ],
)
def test_walls(room, unseen):
    for name in modules():
        if name.split(".")[0] == room:
            seen = {o for o in imports(name) if f"{o}.".startswith(f"{unseen}.")}
            assert not seen, name


@cache
def loaded_with_config_and_report() -> set[str]:
    names = [f"ghostjax.{n}" if n else "ghostjax" for n in modules() if bare(n)]
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("package", ["jax", "orbax", "flax"])
def test_config_and_report_import_no(package):
    assert "ghostjax.report.page" in loaded_with_config_and_report()
    assert package not in loaded_with_config_and_report()


def bare(name: str) -> bool:
    return any(f"{name}.".startswith(f"{room}.") for room in WITHOUT_JAX)


@pytest.mark.parametrize(
    ("words", "room"),
    [
        (("orbax",), "training.checkpoint"),
        (("jax.devices", "jax.local_devices", "jax.device_count"), "training.parallel"),
        (("jax.pmap",), "training.parallel"),
    ],
)
def test_one_room_names(words, room):
    for name in modules():
        if name != room:
            assert not [word for word in words if word in named(name)], name
    assert all(word in named(room) for word in words), "the room itself names them"


@cache
def named(name: str) -> str:
    """What a module imports and names, line by line; docstrings are left out."""
    kinds = ast.Import | ast.ImportFrom | ast.Attribute | ast.Name
    nodes = (node for node in ast.walk(tree_of(name)) if isinstance(node, kinds))
    return "\n".join(map(ast.unparse, nodes))


@pytest.mark.parametrize("name", sorted(n for n in modules() if n != "__main__"))
def test_every_module_says_what_is_public(name):
    tree = tree_of(name)
    assert ast.get_docstring(tree), "a module says what it is"
    public = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            public.add(node.name)
    public = {word for word in public if not word.startswith("_")}
    stated = [n for n in tree.body if isinstance(n, ast.Assign | ast.AnnAssign)]
    stated = [n for n in stated if "__all__" in ast.unparse(n).split("=")[0]]
    if name in ROOMS and not public and not stated:
        return  # a room that gives nothing away itself
    assert stated, "no __all__"
    if name:
        words = set(ast.literal_eval(stated[0].value))
        assert public <= words, public - words


def test_tests_mirror_the_house():
    here = Path(__file__).parent
    assert {
        p.name for p in here.iterdir() if p.is_dir() and any(p.glob("test_*.py"))
    } <= ROOMS
    assert {p.name for p in HOME.iterdir() if (p / "__init__.py").is_file()} == ROOMS


def test_a_wheel_holds_every_room_and_the_configs():
    project = tomllib.loads((HOME.parent / "pyproject.toml").read_text())
    packages = set(project["tool"]["setuptools"]["packages"])
    assert packages == {"ghostjax", "ghostjax.configs"} | {
        f"ghostjax.{r}" for r in ROOMS
    }


def test_ghostjax_shows_its_names_without_jax():
    code = "import ghostjax, sys; print(*dir(ghostjax)); sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert {"run", "sweep", "chain", "zoo", "metrics"} <= set(done.stdout.split())


@pytest.mark.parametrize("name", ghostjax.__all__)
def test_public_names_are_there(name):
    assert getattr(ghostjax, name) is not None


def test_type_checkers_see_the_public_names():
    (block,) = filter(for_type_checkers, tree_of("").body)
    seen = {a.asname: f"{n.module}.{a.name}" for n in block.body for a in n.names}
    functions = {name: f"{at}.{name}" for name, at in ghostjax._FUNCTIONS.items()}
    assert seen == ghostjax._MODULES | functions


def test_no_other_name_is_there():
    with pytest.raises(AttributeError, match="'nothing'"):
        ghostjax.nothing  # noqa: B018
