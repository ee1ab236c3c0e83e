"""What a cut costs in time and energy, from a stated device and network. No jax.

  latency = edge FLOPs / edge rate + 8 bytes / uplink rate + round trip
            + cloud FLOPs / cloud rate
  energy of the edge = edge time * edge watts + upload time * (a + b * uplink rate)

One image at a time; nothing overlaps; layers run at one rate whatever their kind, where
real devices are slower on some. The radio's form is Huang et al.'s (MobiSys 2012); its
tail after sending, the same at every cut, is left out, and so is what the edge draws
while it waits. The default numbers and their sources are in `sections.Device`.
"""

from typing import NamedTuple

from ghostjax.config.sections import Device
from ghostjax.fields import Range

__all__ = ["Cost", "LIMITS", "Limit", "cost"]


class Limit(NamedTuple):
    """What a cut can be asked to keep."""

    column: str  # of the cut's row
    what: str
    range: Range  # of numbers that limit anything


_SOME, _PERCENT = Range(least=0), Range(least=0, most=100)
LIMITS = {
    "max_ssim": Limit(
        "worst_ssim", "SSIM of the best attack's pictures", Range(least=-1, most=1)
    ),
    "max_psnr": Limit("worst_psnr", "PSNR of the best attack's pictures, dB", _SOME),
    "max_recognised": Limit(
        "worst_recognised", "secrets recognised, percent", _PERCENT
    ),
    "max_edge_mflops": Limit(
        "edge_mflops", "millions of operations on the edge", _SOME
    ),
    "max_kilobytes": Limit("kilobytes", "sent, of 1,000 bytes", _SOME),
    "max_latency_ms": Limit("latency_ms", "latency, milliseconds", _SOME),
    "max_energy_mj": Limit("energy_mj", "energy of the edge, millijoules", _SOME),
    "min_accuracy": Limit("accuracy", "accuracy, percent", _PERCENT),
}
"""By name."""


class Cost(NamedTuple):
    """Of one image."""

    edge_ms: float
    upload_ms: float
    other_ms: float  # round trip and cloud
    latency_ms: float
    energy_mj: float  # of the edge, in millijoules


def cost(device: Device, edge_flops: float, cloud_flops: float, sent: float) -> Cost:
    """Latency and energy of one image.

    Args:
      device: rates and watts.
      edge_flops: operations before the cut; a multiply-add is 2.
      cloud_flops: operations behind it.
      sent: bytes that cross it.
    """
    edge = edge_flops / (1e6 * device.edge_gflops)
    upload = 8 * sent / (1e3 * device.uplink_mbps)
    other = device.round_trip_ms + cloud_flops / (1e6 * device.cloud_gflops)
    radio = device.radio_watts + device.radio_watts_per_mbps * device.uplink_mbps
    energy = edge * device.edge_watts + upload * radio
    return Cost(
        edge_ms=edge,
        upload_ms=upload,
        other_ms=other,
        latency_ms=edge + upload + other,
        energy_mj=energy,
    )
