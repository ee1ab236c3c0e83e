"""Where to cut: every layer's cost beside what the attacks get there.

The walk that He et al. recommend and do not give (IoT-J 2020, Section VII, "privacy-
aware partitioning"): each cut of the network is a run of the config's own defense under
each of its attacks. What it costs comes from `device.cost`. Among the cuts that keep
all limits the one with the least latency is recommended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from rich.console import Console

from ghostjax import files
from ghostjax.config import grid
from ghostjax.config.grid import Sweep
from ghostjax.config.sections import Config, OwnTarget
from ghostjax.evaluation.rows import Row, number
from ghostjax.experiments import comparison
from ghostjax.experiments.device import LIMITS, cost
from ghostjax.experiments.progress import say
from ghostjax.fields import content_hash
from ghostjax.models import chain, zoo
from ghostjax.models.layers import Normalize
from ghostjax.report import charts, leaked, page
from ghostjax.report.folder import read_row
from ghostjax.report.leaked import ATTACKED
from ghostjax.report.page import Chart
from ghostjax.report.tables import Table

__all__ = ["Choice", "cuts", "recommend", "walk"]


class Choice(NamedTuple):
    """The cut to take, or why there is none."""

    cut: str | None
    words: str  # one sentence


class _Walk(NamedTuple):
    """What a walk has found."""

    rows: Sequence[Row]  # one for each cut
    attacks: Sequence[str]
    chosen: Choice


def walk(
    sweep_: Sweep, limits: Mapping[str, float], output: Path, console: Console
) -> Path:
    """Runs every cut under every attack and says where to cut.

    Args:
      sweep_: one config, or several that differ in who attacks and how.
      limits: names of `LIMITS` -> numbers; what is not named is not limited.
      output: folder of run folders; the runs are ordinary ones, found when finished.
      console: progress, table and recommendation go there.

    Returns:
      The page `OUTPUT/<name>-partition-<hash>/report.html`; beside it partition.csv and
      partition.png.

    Raises:
      ValueError: no attack, a sweep over more than attacks, or what
        `experiments.run` refuses.
    """
    attacks = _attacks(sweep_)
    base = sweep_.members[0]
    names = cuts(base)
    members = [_at(member, name) for name in names for member in sweep_.members]
    keys = ("defense.cut", *sweep_.keys)
    outcome = comparison.with_reports(members, keys, output, console)
    outcome.require_all()
    folders = outcome.folders
    measured = iter([read_row(folder) for folder in folders])
    rows = []
    for name in names:
        seen = {attack: next(measured) for attack in attacks}
        rows.append(_row(base, name, seen))
    chosen = recommend(rows, limits)
    for row in rows:
        row["fails"] = ", ".join(_failing(row, limits))
        row["recommended"] = row["cut"] == chosen.cut
    digest = content_hash(*(folder.name for folder in folders))[:8]
    folder = output / f"{sweep_.name}-partition-{digest}"
    return _write(folder, base, _Walk(rows, attacks, chosen), limits, console)


def cuts(member: Config) -> list[str]:
    """Names of the layers after which the config's network can be cut, in order.

    All but the last, and but those that only normalise the pixels.

    Raises:
      ValueError: a network of one's own, whose layers are not known.
    """
    if isinstance(member.target, OwnTarget):
        raise ValueError(
            f"network {member.target.network!r} is of the user's own, and its layers "
            "are not known: partition has no cuts to walk"
        )
    network = zoo.network(member.target.network)
    layers = network.build(network.classes)[:-1]
    return [name for name, layer in layers if not isinstance(layer, Normalize)]


def recommend(rows: Sequence[Row], limits: Mapping[str, float]) -> Choice:
    """Among the cuts that keep all limits the one with the least latency.

    Args:
      rows: one for each cut, with "cut", "latency_ms" and the columns of `LIMITS`.
      limits: as for `walk`.

    Returns:
      The cut; or None and, in words, the cut that comes nearest to keeping them, with
      the limit that it breaks most, as a share of the limit.
    """
    good = [row for row in rows if not _failing(row, limits)]
    if good:
        best = min(good, key=lambda row: row["latency_ms"])
        words = f"Cut after {best['cut']}: {best['latency_ms']:.1f} ms, the least of "
        kind = "cuts that keep all limits" if limits else "cuts; no limit was given"
        return Choice(best["cut"], f"{words}the {len(good)} {kind}.")
    near = min(rows, key=lambda row: max(_failing(row, limits).values()))
    failing = _failing(near, limits)
    name = max(failing, key=failing.__getitem__)
    column, what, _ = LIMITS[name]
    return Choice(
        None,
        f"No cut keeps all limits. Nearest is {near['cut']}, with "
        f"{near[column]:.4g} against {_option(name)} {limits[name]:g} ({what}).",
    )


def _failing(row: Row, limits: Mapping[str, float]) -> dict[str, float]:
    """Broken limits -> by how much, as a share of the limit."""
    broken = {}
    for name, limit in limits.items():
        value = row[LIMITS[name][0]]
        over = limit - value if name.startswith("min_") else value - limit
        if not over <= 0:  # a value that is not a number keeps no limit
            broken[name] = over / abs(limit) if limit and over == over else inf
    return broken


def _attacks(sweep_: Sweep) -> list[str]:
    """A name for each member's attack, all different.

    Raises:
      ValueError: a member that does not attack; or they differ in something else.
    """
    for key in sweep_.keys:
        if key.split(".")[0] not in ("attack", "attacker", "denoise"):
            raise ValueError(
                f"partition walks the cuts of one network and defense: it takes a "
                f"sweep over attacks, not over {key}"
            )
    if not all(member.attack.needs for member in sweep_.members):
        raise ValueError("partition needs an attack: attack.name is 'none'")
    names = []
    for member in sweep_.members:
        values = (grid.value_of(member, key) for key in sweep_.keys)
        words = [str(value) for value in values if value is not None]
        if member.attack.name not in words:
            words.insert(0, member.attack.name)
        names.append(" ".join(words))
    return names


def _at(member: Config, cut: str) -> Config:
    return replace(member, defense=replace(member.defense, cut=cut))


def _row(base: Config, cut: str, seen: Mapping[str, Row]) -> dict[str, Any]:
    """One line of the table: what the cut costs, and what each attack got there."""
    network = zoo.network(base.target.network)
    layers = chain.describe(network.build(network.classes), network.image_shape)
    last = [layer.name for layer in layers].index(cut)
    edge, cloud = layers[: last + 1], layers[last + 1 :]
    flops = sum(layer.flops for layer in edge)
    costs = cost(
        base.device, flops, sum(layer.flops for layer in cloud), layers[last].bytes
    )
    first = next(iter(seen.values()))
    row = {
        "cut": cut,
        "edge_mflops": flops / 1e6,
        "edge_parameters": sum(layer.parameters for layer in edge),
        "kilobytes": layers[last].bytes / 1e3,
        **costs._asdict(),
        "accuracy": first["accuracy_secret" if first["stego"] else "accuracy_all"],
    }
    for attack, result in seen.items():
        if lost := leaked.astray(result):
            raise ValueError(f"cut {cut}, {attack}: {lost}")
        for score in ("psnr", "ssim"):
            keys = [f"{score}_{picture}_secret_mean" for picture in ATTACKED]
            values = [number(result, key) for key in keys]
            row[f"{score} {attack}"] = max(v for v in values if v is not None)
        row[f"recognised {attack}"] = result["recognised"]
    for score in ("psnr", "ssim", "recognised"):
        row[f"worst_{score}"] = max(row[f"{score} {attack}"] for attack in seen)
    row["best_attack"] = max(seen, key=lambda attack: row[f"ssim {attack}"])
    return row


def _write(
    folder: Path,
    base: Config,
    walked: _Walk,
    limits: Mapping[str, float],
    console: Console,
) -> Path:
    rows, attacks, chosen = walked
    files.make_folder(folder)
    content = files.csv_bytes(pa.Table.from_pylist(list(rows)))
    files.write_sealed(folder, {"partition.csv": content})
    table = _table(rows, attacks)
    comparison.print_table(table, console)
    say(console, chosen.words)
    figure = charts.partition_chart(rows, attacks, limits.get("max_ssim"), chosen.cut)
    chart = Chart("partition", "Cost and privacy", _CAPTION, figure)
    stated = ", ".join(f"{_option(name)} {limits[name]:g}" for name in limits)
    device = ", ".join(f"{key} {value:g}" for key, value in vars(base.device).items())
    subject = f"{base.data.name} · network {base.target.network} · {base.defense.name}"
    assumed = [("limits", stated or "none"), ("device", device)]
    body = [
        page.heading(f"Where to cut: {base.name}", subject),
        page.paragraph("verdict" if chosen.cut else "caution", chosen.words),
        page.chart(folder, chart),
        page.table(table),
        page.table(Table("Assumed", ("", ""), assumed, _MODEL)),
    ]
    path = folder / "report.html"
    files.write_text(path, page.page(f"Where to cut: {base.name}", body))
    return path


def _table(rows: Sequence[Row], attacks: Sequence[str]) -> Table:
    head = ["cut", "edge MFLOPs", "edge parameters", "kB sent", "latency", "energy"]
    seen = (f"{attack}: PSNR / SSIM / recognised" for attack in attacks)
    head += ["accuracy", *seen, "fails"]
    lines = []
    for row in rows:
        seen = (_got(row, attack) for attack in attacks)
        lines.append(
            [
                f"{row['cut']} ←" if row["recommended"] else row["cut"],
                f"{row['edge_mflops']:.3f}",
                f"{row['edge_parameters']:,}",
                f"{row['kilobytes']:.2f}",
                f"{row['latency_ms']:.1f} ms",
                f"{row['energy_mj']:.1f} mJ",
                f"{row['accuracy']:.2f} %",
                *seen,
                row["fails"] and ", ".join(map(_option, row["fails"].split(", "))),
            ]
        )
    return Table("Cuts", head, lines)


def _got(row: Row, attack: str) -> str:
    psnr, ssim = row[f"psnr {attack}"], row[f"ssim {attack}"]
    return f"{psnr:.2f} / {ssim:.3f} / {row[f'recognised {attack}']:.1f} %"


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


_CAPTION = (
    "Above: what one image costs. Below: mean SSIM of each attack's pictures against "
    "the secret. The band marks the recommended cut."
)
_MODEL = (
    "Costs are computed from these rates, not measured: edge and cloud compute at one "
    "rate whatever the layer, and the features are sent as float32."
)
