"""The command line: parses, calls, prints; jax only where a command needs it."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ghostjax import __version__, interrupt, terminal
from ghostjax.config import grid, locate, named, toml, words
from ghostjax.evaluation import columns
from ghostjax.experiments import device
from ghostjax.experiments.ways import Failed, Ways
from ghostjax.fields import Range
from ghostjax.names import unknown
from ghostjax.report.comparison_page import compare
from ghostjax.report.folder import cautions, read_row
from ghostjax.report.run_page import summary, write_report
from ghostjax.training.strategies import STRATEGIES

if TYPE_CHECKING:  # else imported where it is used: it reads data
    from ghostjax.experiments.plan import Member

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script; exit status 0; 2 with one line about bad input; 1 with
    a list of the members that have failed."""
    with terminal.guarded() as output:
        return _main(sys.argv[1:] if arguments is None else arguments, output)


def _main(arguments: Sequence[str], output: terminal.Stream) -> int:
    console = terminal.console(output)
    try:
        options, overrides = _parsed(arguments)
        output.lasting = options.command in _OVERRIDDEN  # it outlives its terminal
        if options.command in _OVERRIDDEN:
            with interrupt.listening():
                _OVERRIDDEN[options.command](options, overrides, console)
        else:
            _COMMANDS[options.command](options, console)
        output.flush()
    except (ValueError, OSError) as error:
        print(f"ghostjax: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except Failed as failed:
        print(f"ghostjax: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print("ghostjax: stopped; the same command continues", file=sys.stderr)
        return stop.status if isinstance(stop, interrupt.Stopped) else 130
    return 0


_ENDINGS = 20  # members whose keys a dry run prints


class _Parser(argparse.ArgumentParser):
    """One whose errors are a line, as all others are."""

    commands: "Mapping[str, _Parser]" = {}

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see `{self.prog} --help`")


def _parsed(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and the words that are laid over a config."""
    parser = _parser()
    command = next((word for word in arguments if not word.startswith("-")), "")
    overrides: list[str] = []
    if command in _OVERRIDDEN:
        arguments, overrides = words.divided(arguments)
    options, rest = parser.parse_known_args(arguments)
    for word in rest:
        if word.startswith("-"):
            known = list(parser.commands[options.command]._option_string_actions)
            known += words.keys() if command in _OVERRIDDEN else []
            raise ValueError(unknown("option", word.partition("=")[0], known))
    if rest:
        raise ValueError(
            f"{' '.join(rest)!r} is more than `ghostjax {options.command}` takes: see "
            f"`ghostjax {options.command} --help`"
        )
    return options, overrides


@cache
def _parser() -> _Parser:
    parser = _Parser(
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
    parser.commands = commands.choices
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
    for name, limit in device.LIMITS.items():
        option = f"--{name.replace('_', '-')}"
        kind = _within(limit.range)
        cut.add_argument(option, type=kind, metavar="X", help=limit.what)
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


def _within(limits: Range) -> Callable[[str], float]:
    """A parser of finite numbers in a range."""

    def parse(word: str) -> float:
        try:
            number = float(word)
        except ValueError:
            number = float("nan")
        if not isfinite(number):
            raise argparse.ArgumentTypeError(f"{word!r} is no finite number")
        if not limits.holds(number):
            raise argparse.ArgumentTypeError(f"{word!r} must be {limits.words()}")
        return number

    return parse


class _Columns(argparse.Action):
    """Prints what the columns of a row mean, and exits, as --help does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(columns.listed())
        parser.exit()


def _run(
    options: argparse.Namespace, overrides: Sequence[str], console: Console
) -> None:
    chosen = words.override_all(grid.load(locate(options.config)), overrides)
    if options.dry_run:
        from ghostjax.experiments import overview

        members, _ = _laid_out(chosen)
        _say(overview.planned(members, options.output), console)
        _say(["", *_endings(members)], console)
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
        console.print(table)
    if page.exists():
        console.print(f"report: {page}")


def _status(
    options: argparse.Namespace, overrides: Sequence[str], console: Console
) -> None:
    chosen = words.override_all(grid.load(locate(options.config)), overrides)
    from ghostjax.experiments import overview

    members, titles = _laid_out(chosen)
    _say(overview.standing(members, titles, options.output), console)


def _laid_out(chosen: grid.Sweep) -> "tuple[list[Member], list[str]]":
    """The members of a plan, and what tells each from the others."""
    from ghostjax.experiments import plan

    keys = grid.telling(chosen)
    members = plan.lay_out(chosen.members, lambda config: grid.title(config, keys))
    return members, [grid.title(one.config, keys) for one in members]


def _endings(members: "Sequence[Member]") -> list[str]:
    """What members end with, once all files, variants, axes and words are laid over
    each other."""
    lines = ["what members end with, where it is not the default"]
    for one in members[:_ENDINGS]:
        pairs = grid.departures(one.config)
        text = ", ".join(f"{key} {value}" for key, value in pairs if key != "name")
        lines.append(f"{one.folder}  {text}")
    more = len(members) - _ENDINGS
    return [*lines, f"and {more} more"] if more > 0 else lines


def _say(lines: Sequence[str], console: Console) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def _partition(
    options: argparse.Namespace, overrides: Sequence[str], console: Console
) -> None:
    chosen = words.override_all(grid.load(locate(options.config)), overrides)
    named = {name: getattr(options, name) for name in device.LIMITS}
    limits = {name: value for name, value in named.items() if value is not None}
    from ghostjax import runtime
    from ghostjax.experiments import partitioning

    runtime.configure()
    page = partitioning.walk(chosen, limits, options.output, console)
    console.print(f"report: {page}")


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
    console.print(table)


def _networks(options: argparse.Namespace, console: Console) -> None:
    from ghostjax import registry, runtime
    from ghostjax.models import chain, zoo

    runtime.require_backend()
    names = [options.name] if options.name else list(registry.NETWORKS)
    for name in names:
        network = zoo.network(name)
        ks = {layer: str(k) for k, layer in network.k.items()}
        layers = chain.describe(network.build(network.classes), network.image_shape)
        total = sum(layer.parameters for layer in layers)
        facts = f"{network.classes} classes, {total:,} parameters"
        shape = _shape(network.image_shape)
        title = f"  {network.source}; image {shape}, {facts}"
        console.print(Text.assemble((name, "bold"), title))
        table = Table(box=None, pad_edge=False)
        table.add_column("layer")
        for column in ("K", "output", "parameters", "edge MFLOPs", "bytes sent"):
            table.add_column(column, justify="right")
        flops = 0
        for layer in layers:
            flops += layer.flops
            row = ks.get(layer.name, ""), _shape(layer.shape), f"{layer.parameters:,}"
            table.add_row(layer.name, *row, f"{flops / 1e6:.2f}", f"{layer.bytes:,}")
        console.print(table)
        console.print()
    console.print(
        "edge MFLOPs: of one image up to and including the layer, a multiply-add is 2; "
        "bytes: float32 features of one image cut there; K: the papers' cut numbers"
    )


def _doctor(options: argparse.Namespace, console: Console) -> None:
    from ghostjax import data, runtime
    from ghostjax.experiments import environment

    for name, value in environment.describe().items():
        console.print(f"{name:<22}{value or '-'}")
    programs = runtime.cache_programs() or "not kept"
    console.print(f"{'compiled programs':<22}{programs}")
    for entry in data.available():
        text = f"{'data ' + entry.name:<22}{entry.status}  {_counts(entry.counts)}"
        console.print(text)


def _configs(options: argparse.Namespace, console: Console) -> None:
    folder = options.folder or named.folder()
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}: give the one that holds configs")
    for path in sorted(folder.glob("*.toml")):
        title = path if options.folder else path.stem
        console.print(Text(str(title), "bold"))
        try:
            grid.load(path)
        except ValueError as error:  # a file of something else is no config
            console.print(f"  no config of ghostjax: {error}")
            continue
        for line in toml.text(path).splitlines():
            if line.startswith("#"):
                console.print(f"  {line[1:].strip()}")


def _report(options: argparse.Namespace, console: Console) -> None:
    if len(options.runs) == 1:
        page = write_report(options.runs[0])
    else:
        page = compare(options.runs, options.output)
    console.print(f"report: {page}")
    for line in cautions(*options.runs):
        terminal.say(f"caution: {line}")


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
