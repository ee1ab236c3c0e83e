"""What holds of every record, and of every file that reads one."""

import ast
import dataclasses
import io
import tokenize
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest

import ghostjax
from ghostjax import registry
from ghostjax.attacks import records as attacks
from ghostjax.config import sections
from ghostjax.defenses import records as defenses
from ghostjax.evaluation.records import Judge
from ghostjax.fields import Range, Record, facts, static_half, traced_half
from ghostjax.records import Optimizer, Schedule
from ghostjax.stego import records as stegos
from ghostjax.training.fit import OPTIMIZERS, SCHEDULES

HOME = Path(ghostjax.__file__).parent
FILES = sorted(HOME.rglob("*.py"))
ALGORITHMS = [
    HOME / "training" / "classifier.py",
    HOME / "evaluation" / "judge.py",
    *(path for name in ("stego", "defenses", "attacks")
      for path in sorted((HOME / name).glob("*.py"))),
]  # fmt: skip
ROWS = [row for family in registry.FAMILIES.values() for row in family.values()]


def records():
    """The records of all families and of all sections."""
    here = [
        value
        for value in vars(sections).values()
        if isinstance(value, type)
        and issubclass(value, Record)
        and value.__module__ == sections.__name__
    ]
    return [row.record for row in ROWS] + here + [Judge]


def fields_of(record):
    """(name, type, facts, default) of each field."""
    hints, value = get_type_hints(record), record()
    for field in dataclasses.fields(record):
        default = getattr(value, field.name)
        yield field.name, hints[field.name], facts(field), default


IN_HYPER = ("traced", "switch")
each_record = pytest.mark.parametrize("record", records(), ids=lambda r: r.__name__)


@each_record
def test_every_field_says_what_it_is(record):
    for name, hint, known, default in fields_of(record):
        assert known.kind in ("static", "key", *IN_HYPER)
        if hint in (int, float):
            assert type(default) is hint, name
            assert known.range != Range() or name == "seed", f"{name} has no range"
            whole = record is sections.Config  # of which no program is made
            assert known.kind == "key" or name != "seed" or whole, name
        else:
            counted = get_args(hint)[:1] == (int,)  # a range is of each value
            assert known.range == Range() or counted, name
            assert known.kind == "static", name
        if known.range != Range() and hint in (int, float):
            assert known.range.holds(default), f"{name} = {default}"
        if known.kind in IN_HYPER:
            assert np.dtype(known.dtype).kind == (
                "f" if hint is float else known.dtype[0]
            )


@each_record
def test_a_whole_number_that_is_traced_fits_its_dtype(record):
    for name, hint, known, _ in fields_of(record):
        if known.kind in IN_HYPER and hint is int:
            ends, limits = np.iinfo(known.dtype), known.range
            assert limits.least is not None and limits.most is not None, name
            assert ends.min <= limits.least <= limits.most <= ends.max, name


@each_record
def test_every_record_splits_into_two_halves(record):
    value = record()
    half, hyper = static_half(value), traced_half(value)
    assert hash(half) == hash(static_half(record())) and half == static_half(half)
    for name, _, known, _ in fields_of(record):
        assert (name in hyper) == (known.kind in IN_HYPER) or isinstance(
            getattr(value, name), Record
        )


def test_names_and_rows_agree_and_every_factory_is_there():
    for family in registry.FAMILIES.values():
        for name, row in family.items():
            assert row.record().name == name == registry.name_of(row.record)
            assert callable(registry.located(row.factory)), row


# Where a record's field is a choice, the table that implements it.
TABLES = [
    (stegos.Nns, "network", "stego.nns", "NETWORKS"),
    (stegos.Nns, "distance", "stego.nns", "_DISTANCES"),
    (defenses.Noise, "distribution", "defenses.noise", "_CHANGES"),
    (defenses.GhostPlus, "adversarial", "defenses.ghost_plus", "_ADVERSARIAL"),
    (attacks.Rmle, "solver", "attacks.solvers", "SOLVERS"),
    (attacks.Rmle, "start", "attacks.rmle", "STARTS"),
    (attacks.Shadow, "solver", "attacks.solvers", "SOLVERS"),
    (attacks.Shadow, "start", "attacks.rmle", "STARTS"),
    (attacks.Rmle, "preset", "attacks.records", "PRESETS"),
]


@pytest.mark.parametrize("record, field, module, table", TABLES)
def test_the_choices_of_a_record_are_the_rows_of_its_table(
    record, field, module, table
):
    rows = getattr(import_module(f"ghostjax.{module}"), table)
    assert set(get_args(get_type_hints(record)[field])) == set(rows)


def test_optimizers_and_schedules_are_those_of_the_training():
    assert set(get_args(Optimizer)) == set(OPTIMIZERS)
    assert set(get_args(Schedule)) == set(SCHEDULES)
    for record in records():
        for name, hint, _, _ in fields_of(record):
            if get_origin(hint) is Literal and name.endswith("optimizer"):
                assert set(get_args(hint)) <= set(OPTIMIZERS), record
            if get_origin(hint) is Literal and name.endswith("schedule"):
                assert set(get_args(hint)) == set(SCHEDULES), record


@pytest.mark.parametrize("preset", attacks.PRESETS)
def test_presets_are_values_of_their_record(preset):
    values = attacks.PRESETS[preset]
    assert attacks.Rmle(preset=preset, **values).preset == preset


@cache
def tree_of(path):
    return ast.parse(path.read_text())


@cache
def functions(path):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, kinds)]


def place(path, node, what):
    return f"{path.relative_to(HOME.parent)}:{node.lineno} {what}"


def with_defaults(function):
    """The names of the parameters that have a default."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    late = positional[len(positional) - len(arguments.defaults) :]
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return [a.arg for a in (*late, *(a for a, default in named if default))]


def restated(path):
    """Defaults of hyper-parameters outside of the records."""
    names = {field.name for record in records() for field in dataclasses.fields(record)}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            stated = with_defaults(node)
        elif isinstance(node, ast.ClassDef):
            stated = [
                line.target.id
                for line in node.body
                if isinstance(line, ast.AnnAssign) and line.value is not None
            ]
        else:
            continue
        yield from (place(path, node, name) for name in stated if name in names)


def test_a_default_of_a_hyper_parameter_is_stated_in_its_record_alone():
    paths = [path for path in ALGORITHMS if path.name != "records.py"]
    assert [line for path in paths for line in restated(path)] == []


FORBIDDEN = {"own", "told", "made", "found", "same", "kept", "given"}


def names(tree):
    """(node, name) of everything that a file gives a name to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node, node.id
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield node, node.name
        elif isinstance(node, ast.arg):
            yield node, node.arg
        elif isinstance(node, ast.alias):
            yield node, node.asname or node.name
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            yield node, node.name


def allowed(tree):
    """The module `own`, the field `Training.own`, and the parameter `own` that stands
    beside `shared`: of draws, and of the steps that call them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            every = {a.arg: a for a in ast.walk(node.args) if isinstance(a, ast.arg)}
            if "own" in every and "shared" in every:
                yield every["own"]
        elif isinstance(node, ast.ClassDef) and node.name == "Training":
            fields = (n.target for n in node.body if isinstance(n, ast.AnnAssign))
            yield from (target for target in fields if target.id == "own")
        elif isinstance(node, ast.alias) and node.name == "own":
            yield node


def nameless(path):
    tree = tree_of(path)
    exempt = {id(node) for node in allowed(tree)}
    return [
        place(path, node, name)
        for node, name in names(tree)
        if name in FORBIDDEN and id(node) not in exempt
    ]


def test_names_say_what_a_value_is():
    assert [line for path in FILES for line in nameless(path)] == []


def code_lines(path):
    """The numbers of the lines that hold code: no blank, comment or docstring."""
    layout = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
    lines = set()
    source = io.StringIO(path.read_text())
    for token in tokenize.generate_tokens(source.readline):
        if token.type not in layout:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return lines


def long(path):
    tall = [node for node in functions(path) if node.end_lineno - node.lineno >= 60]
    lines = code_lines(path) if tall else set()
    for node in tall:
        count = len(lines.intersection(range(node.lineno, node.end_lineno + 1)))
        if count > 60:
            yield place(path, node, f"{node.name} {count}")


def test_no_function_is_longer_than_60_lines():
    assert [line for path in FILES for line in long(path)] == []


def crowded(path):
    for node in functions(path):
        positional = [*node.args.posonlyargs, *node.args.args]
        if positional and positional[0].arg in ("self", "cls"):
            positional = positional[1:]
        extra = [a for a in (node.args.vararg, node.args.kwarg) if a]
        count = len(positional) + len(extra) + len(node.args.kwonlyargs)
        if count > 6 and (positional or node.args.vararg):
            yield place(path, node, f"{node.name} {count}")


def test_no_function_has_more_than_6_parameters():
    """Where all are keyword-only, their number is the caller's to read."""
    assert [line for path in FILES for line in crowded(path)] == []


def test_the_tests_of_names_and_sizes_see_what_they_must(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.HOME", tmp_path / "ghostjax")
    body = "\n".join("    x = 1" for _ in range(60))
    path = tmp_path / "ghostjax" / "one.py"
    path.parent.mkdir()
    path.write_text(
        "def draw(key, index, shared, own):\n    return own\n"
        "class Training:\n    own: int = 1\n    made: int = 2\n"
        "def given(own, weight=1.0):\n    for told in own:\n        pass\n"
        "    return [kept for kept in own]\n"
        "def many(self, a, b, c, d, e, *, f, g): pass\n"
        "def named(*, a, b, c, d, e, f, g): pass\n"
        f'def full():\n    """Of\n\n    lines."""\n\n    # one\n{body}\n'
        f"def fits():\n{body[:-10]}\n"
        "class Settings:\n    steps: int = 3\n"
    )
    seen = {line.split(" ", 1)[1] for line in nameless(path)}
    assert seen == {"made", "given", "own", "told", "kept"}
    assert [line.split(" ", 1)[1] for line in long(path)] == ["full 61"]
    assert [line.split(" ", 1)[1] for line in crowded(path)] == ["many 7"]
    assert {line.split(" ", 1)[1] for line in restated(path)} == {"weight", "steps"}
