"""The command line: parses, calls, prints; jax only where a command needs it."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from ghostjax import __version__, config, device, sections, sweep
from ghostjax.attack_sections import PRESETS


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script; exit status 0, or 2 with one line about bad input."""
    parser = _parser()
    given, overrides = parser.parse_known_args(arguments)
    if overrides and given.command not in _OVERRIDDEN:
        parser.error(f"unknown arguments: {' '.join(overrides)}")
    console = Console(soft_wrap=True) if not sys.stdout.isatty() else Console()
    try:
        if given.command in _OVERRIDDEN:
            _OVERRIDDEN[given.command](given, overrides, console)
        else:
            _COMMANDS[given.command](given, console)
    except (ValueError, OSError) as error:
        print(f"ghostjax: {error}", file=sys.stderr)
        return 2
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
    for command in (run, cut):
        command.add_argument("config", type=Path, help="a TOML file, as in configs/")
        command.add_argument(
            "--output", type=Path, default=Path("runs"), help="default: runs"
        )
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
    configs.add_argument("folder", type=Path, nargs="?", default=Path("configs"))
    report = commands.add_parser("report", help="rebuild a report, or compare runs")
    report.add_argument("runs", type=Path, nargs="+", help="finished run folders")
    report.add_argument("--output", type=Path, default=Path("comparison"))
    completion = commands.add_parser("completion", help="print shell completion")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def _run(given: argparse.Namespace, overrides: Sequence[str], console: Console) -> None:
    chosen = override_all(sweep.load(given.config), overrides)
    from ghostjax import experiment, report, runtime

    runtime.configure()
    if chosen.keys:
        page = sweep.run(chosen, given.output, console)
    else:
        folder = experiment.run(chosen.members[0], given.output, console)
        page = report.write_report(folder)
        table = Table.grid(padding=(0, 2))
        for name, text in report.summary(report.read_row(folder)):
            table.add_row(name, text)
        console.print(table, highlight=False)
    console.print(f"report: {page}", highlight=False)


def _partition(
    given: argparse.Namespace, overrides: Sequence[str], console: Console
) -> None:
    chosen = override_all(sweep.load(given.config), overrides)
    named = {name: getattr(given, name) for name in device.LIMITS}
    limits = {name: value for name, value in named.items() if value is not None}
    from ghostjax import partitioning, runtime

    runtime.configure()
    page = partitioning.walk(chosen, limits, given.output, console)
    console.print(f"report: {page}", highlight=False)


def override_all(base: sweep.Sweep, overrides: Sequence[str]) -> sweep.Sweep:
    """The sweep with the words applied to every member.

    Raises:
      ValueError: a word for what the sweep itself varies, or members made equal.
    """
    for word in overrides:
        key = word.removeprefix("--").partition("=")[0].replace("-", "_")
        if key in base.keys:
            raise ValueError(
                f"{word.partition('=')[0]}: the config sweeps over {key}: change it "
                "there"
            )
    if not overrides:
        return base
    changed = [override(member, overrides) for member in base.members]
    return base._replace(members=sweep.distinct(changed, base.keys))


def override(base: sections.Config, overrides: Sequence[str]) -> sections.Config:
    """The config with `--section.key value` words applied.

    `--stego.name`, `--defense.name`, `--attack.name` and `--denoise.name` change the
    member of a table; keys that both members have keep their values, others start from
    their defaults. `--attack.preset` fills in all of a preset's keys.
    """
    words = list(overrides)
    for section in sections.TABLES:
        name, old = _take(words, f"--{section}.name"), getattr(base, section)
        cls = config.section_class(section, name or old.name, "command line")
        if type(old) is not cls:
            shared = {key for key in vars(cls()) if key != "name" and key in vars(old)}
            member = cls(**{key: getattr(old, key) for key in shared})
            base = replace(base, **{section: member})
    if hasattr(base.attack, "preset") and (preset := _take(words, "--attack.preset")):
        tree = asdict(type(base.attack)()) | PRESETS.get(preset, {})
        own = {key: tree[key] for key in PRESETS["authors"]}
        base = replace(base, attack=replace(base.attack, preset=preset, **own))
    words = ["--help" if word == "--help-keys" else word for word in words]
    changed = tyro.cli(
        sections.Config,
        prog="ghostjax run CONFIG",
        default=base,
        args=words,
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
    )
    return config.check(changed)


def _take(words: list[str], flag: str) -> str | None:
    """Takes `flag value` or `flag=value` out of the words; the value, or None."""
    for place, word in enumerate(words):
        head, equals, value = word.partition("=")
        if head == flag:
            if not equals and place + 1 == len(words):
                raise ValueError(f"{flag} needs a value")
            taken = words[place : place + (1 if equals else 2)]
            del words[place : place + len(taken)]
            return value if equals else taken[1]
    return None


def _data(given: argparse.Namespace, console: Console) -> None:
    from ghostjax import data

    if given.action == "prepare":
        console.print(str(data.prepare(given.name, source=given.source)))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "image", "classes", "status", "images"):
        table.add_column(column)
    for entry in data.available():
        info = data.DATASETS[entry.name]
        classes, counts = str(len(info.class_names)), _counts(entry.counts)
        table.add_row(entry.name, _shape(info.shape), classes, entry.status, counts)
    console.print(table, highlight=False)


def _networks(given: argparse.Namespace, console: Console) -> None:
    from ghostjax import chain, zoo

    names = [given.name] if given.name else list(zoo.NETWORKS)
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


def _doctor(given: argparse.Namespace, console: Console) -> None:
    from ghostjax import data, environment, runtime

    for name, value in environment.describe().items():
        console.print(f"{name:<22}{value or '-'}", highlight=False)
    console.print(
        f"{'compiled programs':<22}{runtime.cache_programs()}", highlight=False
    )
    for entry in data.available():
        text = f"{'data ' + entry.name:<22}{entry.status}  {_counts(entry.counts)}"
        console.print(text, highlight=False)


def _configs(given: argparse.Namespace, console: Console) -> None:
    if not given.folder.is_dir():
        raise ValueError(f"no folder {given.folder}: give the one that holds configs")
    for path in sorted(given.folder.glob("*.toml")):
        sweep.load(path)  # a config that does not load is named here
        header = [
            line[1:].strip()
            for line in path.read_text().splitlines()
            if line.startswith("#")
        ]
        console.print(f"[bold]{path}[/bold]", highlight=False)
        for line in header:
            console.print(f"  {line}", highlight=False, markup=False)


def _report(given: argparse.Namespace, console: Console) -> None:
    from ghostjax import report

    if len(given.runs) == 1:
        page = report.write_report(given.runs[0])
    else:
        page = report.compare(given.runs, given.output)
    console.print(f"report: {page}", highlight=False)


def _completion(given: argparse.Namespace, console: Console) -> None:
    import shtab

    print(shtab.complete(_parser(), given.shell))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in counts.items())


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


_OVERRIDDEN = {"run": _run, "partition": _partition}
_COMMANDS = {
    "data": _data,
    "networks": _networks,
    "doctor": _doctor,
    "configs": _configs,
    "report": _report,
    "completion": _completion,
}
