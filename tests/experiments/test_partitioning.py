"""Where to cut: the cost model's closed form, the limits, the walk itself."""

import csv
from dataclasses import replace

import pytest
import sample
from rich.console import Console

from ghostjax import config, runtime
from ghostjax.config import grid, sections
from ghostjax.experiments import partitioning, plan
from ghostjax.experiments.device import LIMITS, cost

DEVICE = sections.Device(
    edge_gflops=2.0,
    edge_watts=5.0,
    uplink_mbps=4.0,
    radio_watts=1.5,
    radio_watts_per_mbps=0.25,
    round_trip_ms=30.0,
    cloud_gflops=1000.0,
)


def test_cost_equals_the_numbers_worked_out_by_hand():
    found = cost(DEVICE, edge_flops=10e6, cloud_flops=50e6, sent=2000)
    assert found.edge_ms == pytest.approx(5)  # 1e7 / 2e9 s
    assert found.upload_ms == pytest.approx(4)  # 16,000 bits / 4e6 s
    assert found.other_ms == pytest.approx(30.05)
    assert found.latency_ms == pytest.approx(39.05)
    assert found.energy_mj == pytest.approx(5 * 5 + 4 * (1.5 + 0.25 * 4))


def test_cuts_leave_out_what_only_normalises_and_the_last_layer():
    base = config.Config()
    lenet5 = replace(base, target=replace(base.target, network="lenet5"))
    assert partitioning.cuts(lenet5) == [
        "conv1", "ReLU1", "pool1", "conv2", "ReLU2", "pool2",
        "fc1", "fc1act", "fc2", "fc2act",
    ]  # fmt: skip
    assert partitioning.cuts(base)[0] == "conv1"


def line(cut, ssim, latency, mflops, accuracy=98.0):
    return {
        "cut": cut, "worst_ssim": ssim, "worst_psnr": 40 * ssim, "accuracy": accuracy,
        "worst_recognised": 100 * ssim,
        "edge_mflops": mflops, "kilobytes": 2.0, "latency_ms": latency,
        "energy_mj": 3.0,
    }  # fmt: skip


ROWS = [
    line("conv1", 1.0, 60.0, 0.1),
    line("ReLU2", 0.7, 50.0, 0.5),
    line("pool2", 0.28, 52.0, 0.6, accuracy=97.0),
    line("fc1", 0.1, 55.0, 0.8),
]


@pytest.mark.parametrize(
    ("limits", "cut"),
    [
        ({}, "ReLU2"),
        ({"max_ssim": 0.3}, "pool2"),
        ({"max_ssim": 0.28}, "pool2"),  # a limit may be met exactly
        ({"max_ssim": 0.3, "min_accuracy": 97.5}, "fc1"),
        ({"max_psnr": 5.0}, "fc1"),
        ({"max_recognised": 12.5}, "fc1"),
        ({"max_edge_mflops": 0.4}, "conv1"),
        ({"max_latency_ms": 51.0}, "ReLU2"),
    ],
)
def test_the_fastest_cut_that_keeps_the_limits(limits, cut):
    assert partitioning.recommend(ROWS, limits).cut == cut


def test_no_cut_names_the_nearest_and_the_limit_that_it_breaks():
    found = partitioning.recommend(ROWS, {"max_ssim": 0.3, "max_edge_mflops": 0.55})
    assert found.cut is None
    assert "Nearest is pool2, with 0.6 against --max-edge-mflops 0.55" in found.words
    assert LIMITS["max_edge_mflops"][1] in found.words
    nothing = partitioning.recommend(ROWS, {"max_latency_ms": 0.0})
    assert nothing.cut is None


def test_a_cut_without_a_number_keeps_no_limit():
    rows = [line("conv1", float("nan"), 10.0, 0.1), line("fc1", 0.2, 20.0, 0.1)]
    assert partitioning.recommend(rows, {"max_ssim": 0.3}).cut == "fc1"


def test_a_cut_counts_the_best_of_all_pictures_that_the_attacker_has():
    base = config.Config()
    seen = {"stego": "lsb", "accuracy_secret": 97.0, "recognised": 50.0}
    for name, value in (("reconstruction", 0.05), ("extracted", 0.06)):
        seen |= {f"{s}_{name}_secret_mean": value for s in ("ssim", "psnr")}
    read = {f"{s}_extracted_before_secret_mean": 0.4 for s in ("ssim", "psnr")}
    worst = [
        partitioning._row(base, "pool1", {"rmle": row})["worst_ssim"]
        for row in (seen, seen | read)
    ]
    assert worst == [0.06, 0.4]


CONFIG = f"""
name = "where"
{sample.TARGET}
[defense]
name = "plain"
[attacker]
images = 4
[attack]
name = "rmle"
preset = "authors"
[judge]
used = false
[sweep]
"attack.steps" = [1, 60]
"""


@pytest.fixture
def sample_package():
    with sample.registered(), sample.without_curves():
        yield


def test_the_walk_says_where_to_cut(sample_package, tmp_path, monkeypatch):
    (tmp_path / "where.toml").write_text(CONFIG)
    monkeypatch.setattr(partitioning, "cuts", lambda member: ["pool1", "fc1"])
    console = Console(record=True, width=200)
    walked = grid.load(tmp_path / "where.toml")
    limits = {"max_edge_mflops": 0.008}
    runtime.configure()
    page = partitioning.walk(walked, limits, tmp_path / "runs", console)
    rows = list(
        csv.DictReader((page.parent / "partition.csv").read_text().splitlines())
    )
    assert [row["cut"] for row in rows] == ["pool1", "fc1"]
    pool1, fc1 = rows
    assert (pool1["fails"], pool1["recommended"]) == ("", "true")
    assert (fc1["fails"], fc1["recommended"]) == ("max_edge_mflops", "false")
    assert float(pool1["kilobytes"]) == 4 * 196 / 1e3
    assert int(fc1["edge_parameters"]) == 196 * 24 + 24
    flops, upload = [4 * 196, 2 * 196 * 24], 8 * 4 * 196 / 6e3
    assert float(pool1["edge_mflops"]) == pytest.approx(flops[0] / 1e6)
    assert float(fc1["edge_mflops"]) == pytest.approx(sum(flops) / 1e6)
    assert float(pool1["upload_ms"]) == pytest.approx(upload)
    assert pool1["best_attack"] == "rmle 60"
    assert float(pool1["worst_ssim"]) == float(pool1["ssim rmle 60"])
    assert (page.parent / "partition.png").stat().st_size > 10_000
    assert "Cut after pool1" in page.read_text()
    printed = console.export_text()
    assert "pool1 ←" in printed and "--max-edge-mflops" in printed
    again = Console(record=True, width=200)
    slow = [replace(m, device=DEVICE) for m in walked.members]
    slow = walked._replace(members=tuple(slow))
    partitioning.walk(slow, {}, tmp_path / "runs", again)
    assert again.export_text().count("already finished") == 4


def test_the_device_does_not_name_the_run():
    base = config.build({})
    dataset = sample.module("pictures").load("patterns")
    hashes = {
        plan.member(one, dataset).hash for one in (base, replace(base, device=DEVICE))
    }
    assert len(hashes) == 1
