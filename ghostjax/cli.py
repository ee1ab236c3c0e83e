"""The command line: parses, calls, prints; jax only where a command needs it."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from ghostjax import __version__, config
from ghostjax.config import grid, locate, named, sections
from ghostjax.evaluation import columns
from ghostjax.experiments import device
from ghostjax.experiments.ways import Failed, Ways
from ghostjax.fields import Record
from ghostjax.registry import FAMILIES
from ghostjax.report.comparison_page import compare
from ghostjax.report.folder import read_row
from ghostjax.report.run_page import summary, write_report
from ghostjax.training.strategies import STRATEGIES

if TYPE_CHECKING:  # else imported where it is used: it reads data
    from ghostjax.experiments.plan import Member

__all__ = ["main", "override", "override_all"]

_WHERE = "command line"  # where an override that cannot be stands


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script; exit status 0; 2 with one line about bad input; 1 with
    a list of the members that have failed."""
    parser = _parser()
    options, overrides = parser.parse_known_args(arguments)
    if overrides and options.command not in _OVERRIDDEN:
        parser.error(f"unknown arguments: {' '.join(overrides)}")
    console = Console(soft_wrap=True) if not sys.stdout.isatty() else Console()
    try:
        if options.command in _OVERRIDDEN:
            _OVERRIDDEN[options.command](options, overrides, console)
        else:
            _COMMANDS[options.command](options, console)
    except (ValueError, OSError) as error:
        print(f"ghostjax: {error}", file=sys.stderr)
        return 2
    except Failed as failed:
        print(f"ghostjax: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ghostjax: stopped; the same command continues", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "ghostjax", description="Private split inference: GHOST and its attackers."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = _add_runs(commands)
    data = commands.add_parser("data", help="list data sets, or prepare one")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="what is known and what is prepared")
    prepare = actions.add_parser("prepare", help="download and prepare a data set")
    prepare.add_argument("name")
    prepare.add_argument("--source", type=Path, help="a folder or zip of raw files")
    networks = commands.add_parser("networks", help="layers, shapes, cost of each cut")
    networks.add_argument("name", nargs="?", help="one network; default: a summary")
    commands.add_parser("doctor", help="versions, devices, data: what would run here")
    configs = commands.add_parser("configs", help="the experiments at hand")
    configs.add_argument(
        "folder", type=Path, nargs="?", help="default: those that come with ghostjax"
    )
    report = commands.add_parser("report", help="rebuild a report, or compare runs")
    report.add_argument("runs", type=Path, nargs="+", help="finished run folders")
    report.add_argument("--output", type=Path, default=Path("comparison"))
    for command in (run, report):
        command.add_argument(
            "--help-columns",
            action=_Columns,
            nargs=0,
            help="what the columns of a result row mean, and their units",
        )
    completion = commands.add_parser("completion", help="print shell completion")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def _add_runs(commands: Any) -> argparse.ArgumentParser:
    """Adds the commands that take a plan and words over it; gives that of `run`."""
    run = commands.add_parser(
        "run",
        help="run one experiment or a sweep, or continue it",
        description="Runs what a config file holds; started again it continues. Any "
        "key can be overridden: --seed 3 --attack.steps 500 --defense.name plain. "
        "`ghostjax run CONFIG --help-keys` lists them.",
    )
    cut = commands.add_parser(
        "partition",
        help="every cut's cost and leakage, and where to cut",
        description="Attacks the config's defense at every cut of its network and "
        "recommends the fastest cut that keeps the limits. Keys can be overridden as "
        "for run; [device] describes edge, uplink and cloud.",
    )
    for name, (_, what) in device.LIMITS.items():
        option = f"--{name.replace('_', '-')}"
        cut.add_argument(option, type=float, metavar="X", help=what)
    status = commands.add_parser(
        "status",
        help="which members of a sweep are done, running, begun, failed or missing",
        description="Reads the output folder of a run of CONFIG, which may go on at "
        "the same time. Keys can be overridden as they were for run.",
    )
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="print members, tasks, groups and what is there already; run nothing",
    )
    _add_ways(run)
    for command in (run, cut, status):
        command.add_argument(
            "config", help="a TOML file, or a name that `ghostjax configs` lists"
        )
        command.add_argument(
            "--output", type=Path, default=Path("runs"), help="default: runs"
        )
    return run


def _add_ways(run: argparse.ArgumentParser) -> None:
    """Adds how a sweep is run, which is part of no result."""
    run.add_argument(
        "--devices",
        type=_count("all"),
        metavar="N",
        help="local devices that members and targets are spread over; default: all",
    )
    run.add_argument(
        "--strategy",
        choices=STRATEGIES,
        help="how members that share a program are trained; default: what is fastest",
    )
    run.add_argument(
        "--members-at-once",
        type=_count(),
        metavar="K",
        help="members trained in step, at most",
    )
    run.add_argument(
        "--retry-failed",
        action="store_true",
        help="run members again that have failed",
    )


def _count(every: str = "") -> Callable[[str], int | None]:
    """A parser of whole numbers from 1, or of the word that means None."""

    def parse(word: str) -> int | None:
        if every and word == every:
            return None
        if not word.isdecimal() or int(word) < 1:
            raise argparse.ArgumentTypeError(f"{word!r} is no whole number from 1")
        return int(word)

    return parse


class _Columns(argparse.Action):
    """Prints what the columns of a row mean, and exits, as --help does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(columns.listed())
        parser.exit()


def _run(
    options: argparse.Namespace, overrides: Sequence[str], console: Console
) -> None:
    chosen = override_all(grid.load(locate(options.config)), overrides)
    if options.dry_run:
        from ghostjax.experiments import overview

        members, _ = _laid_out(chosen)
        _say(overview.planned(members, options.output), console)
        return
    ways = Ways(
        strategy=options.strategy,
        at_once=options.members_at_once,
        devices=options.devices,
        retry_failed=options.retry_failed,
    )
    from ghostjax import runtime
    from ghostjax.experiments import comparison

    runtime.configure()
    if chosen.keys:
        page = comparison.compare(chosen, options.output, console, ways=ways)
    else:
        outcome = comparison.with_reports(
            chosen.members, chosen.keys, options.output, console, ways=ways
        )
        (folder,) = outcome.folders
        page = folder / "report.html"
        table = Table.grid(padding=(0, 2))
        for name, text in summary(read_row(folder)):
            table.add_row(name, text)
        console.print(table, highlight=False)
    console.print(f"report: {page}", highlight=False)


def _status(
    options: argparse.Namespace, overrides: Sequence[str], console: Console
) -> None:
    chosen = override_all(grid.load(locate(options.config)), overrides)
    from ghostjax.experiments import overview

    members, titles = _laid_out(chosen)
    _say(overview.standing(members, titles, options.output), console)


def _laid_out(chosen: grid.Sweep) -> "tuple[list[Member], list[str]]":
    """The members of a plan, and what tells each from the others."""
    from ghostjax.experiments import plan

    keys = grid.telling(chosen)
    members = plan.lay_out(chosen.members, lambda config: grid.title(config, keys))
    return members, [grid.title(one.config, keys) for one in members]


def _say(lines: Sequence[str], console: Console) -> None:
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _partition(
    options: argparse.Namespace, overrides: Sequence[str], console: Console
) -> None:
    chosen = override_all(grid.load(locate(options.config)), overrides)
    named = {name: getattr(options, name) for name in device.LIMITS}
    limits = {name: value for name, value in named.items() if value is not None}
    from ghostjax import runtime
    from ghostjax.experiments import partitioning

    runtime.configure()
    page = partitioning.walk(chosen, limits, options.output, console)
    console.print(f"report: {page}", highlight=False)


def override_all(base: grid.Sweep, words: Sequence[str]) -> grid.Sweep:
    """The sweep with the words laid over every member.

    Raises:
      ValueError: a word for what the sweep itself varies, `seeds` with all that it
        stands for included, or members made equal; what `override` refuses.
    """
    _require_free(words, base)
    if not words:
        return base
    trees = [override(tree, words) for tree in base.trees]
    members = [config.build(tree, _WHERE) for tree in trees]
    changed = grid.changed(base, members, trees)
    _require_free(words, changed)  # seeds of records that came in are varied too
    return changed


def _require_free(words: Sequence[str], sweep: grid.Sweep) -> None:
    for key in _stated(words):
        if key in sweep.keys:
            raise ValueError(f"--{key}: the config sweeps over {key}: change it there")


def override(tree: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """The tree of a config with `--section.key value` words laid over it.

    The keys that the words name are one layer, as those of a file that extends the
    config are: `--attack.name inverse` starts from that member's defaults, and
    `--attack.preset adam` means all of the preset. `--help-keys` prints the keys there
    are and what they default to, and exits.

    Raises:
      ValueError: an unknown member or preset, or a word without its value.
    """
    stated = _stated(words)
    chosen: dict[str, Any] = {}
    for family in FAMILIES:  # a name and a preset decide on the other keys
        for key in (f"{family}.name", f"{family}.preset"):
            if key in stated:
                if stated[key] is None:
                    raise ValueError(f"--{key} needs a value")
                chosen = config.overlay(chosen, config.nested(key, stated[key]))
    form = _form(config.records(config.merge(tree, chosen), _WHERE))
    parsed = tyro.cli(
        type(form),
        prog="ghostjax run CONFIG",
        default=form,
        args=["--help" if word == "--help-keys" else word for word in words],
        config=(tyro.conf.FlagConversionOff, tyro.conf.HelptextFromCommentsOff),
    )
    layer: dict[str, Any] = {}
    for key in stated:
        value = grid.value_of(parsed, key)
        layer = config.overlay(layer, config.nested(key, value))
    return config.merge(tree, layer)


def _stated(words: Sequence[str]) -> dict[str, str | None]:
    """Key -> first word of its value, of those that the words name; None: no word."""
    stated = {}
    for word, after in zip(words, [*words, "--"][1:], strict=True):
        if word.startswith("--"):
            head, equals, value = word[2:].partition("=")
            following = None if after.startswith("--") else after
            stated[head.replace("-", "_")] = value if equals else following
    return stated


def _form(values: Mapping[str, Any]) -> sections.Config:
    """What tyro is to fill in: a Config of these values, which checks nothing."""
    filled = {**vars(sections.Config()), **values}
    for key, record in filled.items():
        if isinstance(record, Record):
            kind: type = type(record)  # mypy takes a `type[...]` for unhashable
            cls = _unchecked(kind, tuple(FAMILIES.get(key, ())))
            stated = {field.name: getattr(record, field.name) for field in fields(cls)}
            filled[key] = cls(**stated)
    form: sections.Config = _unchecked(sections.Config)(**filled)
    return form


@cache
def _unchecked(cls: Any, names: tuple[str, ...] = ()) -> Any:
    """The class of a record without the checks that `config.build` makes; its `name`
    may be any of these."""
    body = {"__doc__": cls.__doc__, "__post_init__": lambda record: None}
    name = [("name", Literal[names], field(default=cls.name))] if names else []
    return make_dataclass(
        cls.__name__, name, bases=(cls,), namespace=body, frozen=True, kw_only=True
    )


def _data(options: argparse.Namespace, console: Console) -> None:
    from ghostjax import data

    if options.action == "prepare":
        console.print(str(data.prepare(options.name, source=options.source)))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "image", "classes", "status", "images"):
        table.add_column(column)
    for entry in data.available():
        info = data.info(entry.name)
        classes, counts = str(len(info.class_names)), _counts(entry.counts)
        table.add_row(entry.name, _shape(info.shape), classes, entry.status, counts)
    console.print(table, highlight=False)


def _networks(options: argparse.Namespace, console: Console) -> None:
    from ghostjax import registry
    from ghostjax.models import chain, zoo

    names = [options.name] if options.name else list(registry.NETWORKS)
    for name in names:
        network = zoo.network(name)
        ks = {layer: str(k) for k, layer in network.k.items()}
        layers = chain.describe(network.build(network.classes), network.image_shape)
        total = sum(layer.parameters for layer in layers)
        facts = f"{network.classes} classes, {total:,} parameters"
        shape = _shape(network.image_shape)
        console.print(
            f"[bold]{name}[/bold]  {network.source}; image {shape}, {facts}",
            highlight=False,
        )
        table = Table(box=None, pad_edge=False)
        table.add_column("layer")
        for column in ("K", "output", "parameters", "edge MFLOPs", "bytes sent"):
            table.add_column(column, justify="right")
        flops = 0
        for layer in layers:
            flops += layer.flops
            row = ks.get(layer.name, ""), _shape(layer.shape), f"{layer.parameters:,}"
            table.add_row(layer.name, *row, f"{flops / 1e6:.2f}", f"{layer.bytes:,}")
        console.print(table, highlight=False)
        console.print()
    console.print(
        "edge MFLOPs: of one image up to and including the layer, a multiply-add is 2; "
        "bytes: float32 features of one image cut there; K: the papers' cut numbers",
        highlight=False,
    )


def _doctor(options: argparse.Namespace, console: Console) -> None:
    from ghostjax import data, runtime
    from ghostjax.experiments import environment

    for name, value in environment.describe().items():
        console.print(f"{name:<22}{value or '-'}", highlight=False)
    console.print(
        f"{'compiled programs':<22}{runtime.cache_programs()}", highlight=False
    )
    for entry in data.available():
        text = f"{'data ' + entry.name:<22}{entry.status}  {_counts(entry.counts)}"
        console.print(text, highlight=False)


def _configs(options: argparse.Namespace, console: Console) -> None:
    folder = options.folder or named.folder()
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}: give the one that holds configs")
    for path in sorted(folder.glob("*.toml")):
        grid.load(path)  # a config that does not load is named here
        header = [
            line[1:].strip()
            for line in path.read_text().splitlines()
            if line.startswith("#")
        ]
        title = path if options.folder else path.stem
        console.print(f"[bold]{title}[/bold]", highlight=False)
        for line in header:
            console.print(f"  {line}", highlight=False, markup=False)


def _report(options: argparse.Namespace, console: Console) -> None:
    if len(options.runs) == 1:
        page = write_report(options.runs[0])
    else:
        page = compare(options.runs, options.output)
    console.print(f"report: {page}", highlight=False)


def _completion(options: argparse.Namespace, console: Console) -> None:
    import shtab

    print(shtab.complete(_parser(), options.shell))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in counts.items())


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


_OVERRIDDEN = {"run": _run, "partition": _partition, "status": _status}
_COMMANDS = {
    "data": _data,
    "networks": _networks,
    "doctor": _doctor,
    "configs": _configs,
    "report": _report,
    "completion": _completion,
}
