"""Pictures of a finished run: the panel, the strips, the training curves.

Images are uint8 NHWC with one or three channels and are shown as they are: black is 0,
white is 255, nothing is stretched, and a pixel is enlarged to a square of equal pixels.
The panel is composed pixel by pixel with Pillow, the curves are a matplotlib Figure
without pyplot. Imports no jax.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import cycle
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

__all__ = [
    "CELL",
    "COLOURS",
    "Caption",
    "Column",
    "DPI",
    "EXAMPLES",
    "SPANS",
    "WHITE",
    "cell_corner",
    "columns",
    "difference_gain",
    "enlargement",
    "finite",
    "low_bits",
    "panel",
    "png",
    "strip",
    "tidy",
    "training",
    "widen",
]

EXAMPLES = 8  # rows of a panel
CELL = 256  # an image is enlarged by the whole number that brings it nearest below
MARGIN, GAP, HEADER, CAPTION = 24, 20, 84, 44  # pixels of the panel's layout
DPI = 300  # the panel's, for print
WHITE = np.iinfo(np.uint8).max
INK, FAINT, GOOD, BAD = "#1b1b1b", "#666666", "#00509d", "#b3400b"
SPANS = {
    "accuracy": (10.0, -3.0, 103.0),
    "recognised": (10.0, -3.0, 103.0),
    "psnr": (2.0, -np.inf, np.inf),
    "ssim": (0.1, -1.03, 1.03),
}
"""Score -> the least that its axis spans, and where it ends at the latest."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


class Caption(NamedTuple):
    """The line under one image."""

    text: str
    colour: str = INK


class Column(NamedTuple):
    """One column of the panel."""

    name: str  # of its strip's file
    title: str
    subtitle: str
    images: np.ndarray  # uint8 [n, H, W, C]
    captions: Sequence[Caption]


def columns(arrays: Mapping[str, np.ndarray], bits: int | None) -> list[Column]:
    """The panel's columns, left to right, from a run's arrays.

    Args:
      arrays: "cover", "secret", "stego", "perturbed", "reconstruction", "extracted",
        "revealed" as uint8 [n, H, W, C], and "cover_label", "secret_label", "answer" as
        int [n]; "denoised", of the reconstruction, and "repaired", of what is
        extracted, 0 or 1; "diverged", bool [n], of the searches; what is missing is
        left out.
      bits: zeta of the LSB method, None for other methods.

    Returns:
      Cover, secret, stego, difference, perturbed stego, reconstruction, its low bits,
      revealed.
    """
    recovered = (_marked(x, arrays.get("diverged")) for x in _recovered(arrays, bits))
    shown = [*_sent(arrays, bits), *recovered, *_revealed(arrays)]
    return [column for column in shown if len(column.images)]


def low_bits(images: np.ndarray, bits: int) -> np.ndarray:
    """The `bits` low bits of uint8 images moved to the top, as LSB reveals them."""
    return (images << np.uint8(8 - bits)).astype(np.uint8)


def difference_gain(cover: np.ndarray, stego: np.ndarray, bits: int | None) -> int:
    """The whole number that makes |stego - cover| visible.

    With LSB it depends on zeta alone (WHITE // (2^zeta - 1)), so panels of one zeta can
    be compared; otherwise on the 99.5th percentile of the difference.
    """
    gap = np.abs(stego.astype(int) - cover)
    if bits and gap.max(initial=0) < 2**bits:
        return WHITE // (2**bits - 1)
    return max(1, int(WHITE // max(1.0, np.percentile(gap, 99.5))))


def panel(shown: Sequence[Column], examples: int = EXAMPLES) -> Image.Image:
    """Composes columns to one picture, at most `examples` rows; see `cell_corner`."""
    count = min(examples, min(len(column.images) for column in shown))
    height, width = shown[0].images.shape[1:3]
    scale = enlargement(height, width)
    right, bottom = cell_corner(count, len(shown), height, width)
    size = (right - GAP + MARGIN, bottom + MARGIN // 2)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for j, column in enumerate(shown):
        left, top = cell_corner(0, j, height, width)
        middle = left + width * scale // 2
        title = _Line(text=column.title, size=25, colour=INK, bold=True)
        _write(draw, (middle, top - 62), title, width * scale)
        subtitle = _Line(text=column.subtitle, size=20, colour=FAINT)
        _write(draw, (middle, top - 28), subtitle, width * scale)
        for i in range(count):
            left, top = cell_corner(i, j, height, width)
            cell = _enlarged(column.images[i], scale)
            box = (left - 1, top - 1, left + cell.width, top + cell.height)
            draw.rectangle(box, outline="#b0b0b0")
            canvas.paste(cell, (left, top))
            text, colour = column.captions[i]
            caption = _Line(text=text, size=21, colour=colour)
            _write(draw, (middle, top + cell.height + 18), caption, cell.width)
    return canvas


def enlargement(height: int, width: int) -> int:
    """How many panel pixels a side of one image pixel takes."""
    return max(1, CELL // max(height, width))


def cell_corner(row: int, column: int, height: int, width: int) -> tuple[int, int]:
    """Left and top, in panel pixels, of the image in a row and column."""
    scale = enlargement(height, width)
    left = MARGIN + column * (width * scale + GAP)
    return left, MARGIN // 2 + HEADER + row * (height * scale + CAPTION)


def strip(images: np.ndarray) -> Image.Image:
    """Images side by side, one pixel per pixel, for measuring and for papers."""
    return _enlarged(np.concatenate(list(images), axis=1), 1)


def png(image: Image.Image, **options: Any) -> bytes:
    """A picture as the content of a PNG file; `options` are Pillow's."""
    stream = BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


def training(metrics: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Loss (log where it spans a factor of 5) over accuracy, one column per part.

    Args:
      metrics: records with "part", "step" and numbers; a step that a resumed run
        repeats counts once, the last time. None comes back where there is no loss.
    """
    parts = {
        str(record["part"]): None
        for record in metrics
        if "part" in record and finite(record.get("loss"))
    }
    if not parts:
        return None
    figure = Figure(figsize=(4.2 * len(parts), 5.2), layout="constrained")
    axes = figure.subplots(2, len(parts), squeeze=False, sharex="col")
    for (upper, lower), part in zip(axes.T, parts, strict=True):
        records = [record for record in metrics if record.get("part") == part]
        upper.set_title(part, fontweight="bold")
        _curves(upper, records, [key for key in _keys(records) if "loss" in key])
        others = [key for key in _keys(records) if "loss" not in key]
        _curves(lower, records, others)
        lower.set_visible(bool(others))
        upper.tick_params(labelbottom=not others)
        (lower if others else upper).set_xlabel("step")
    return figure


def _curves(ax: Axes, records: Sequence[Mapping[str, Any]], keys: list[str]) -> None:
    """One line per key; accuracies given in [0, 1] become percent."""
    for key, colour in zip(keys, cycle(COLOURS), strict=False):
        points = {r["step"]: r[key] for r in records if finite(r.get(key))}
        steps = sorted(points)
        values = np.array([points[step] for step in steps], float)
        if "accuracy" in key and values.max() <= 1:
            values = 100 * values
        ax.plot(steps, values, color=colour, lw=1.6, label=key.replace("_", " "))
        if "loss" in key and values.min() > 0 and values.max() > 5 * values.min():
            ax.set_yscale("log")
    percent = all("accuracy" in key for key in keys)
    ax.set_ylabel("loss" if "loss" in keys else "accuracy (%)" if percent else "")
    if percent and keys:
        widen(ax, "y", "accuracy")
    if len(keys) > 1:
        ax.legend(frameon=False, fontsize=8)
    tidy(ax)


def _keys(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys worth a curve, in order of appearance."""
    skipped = ("step", "epoch", "rate", "second", "time")
    keys = {
        key: None
        for record in records
        for key, value in record.items()
        if finite(value) and not any(word in key for word in skipped)
    }
    return list(keys)


def tidy(ax: Axes) -> None:
    """The look that all charts share."""
    ax.grid(alpha=0.25, lw=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def widen(ax: Axes, axis: Literal["x", "y"], score: str) -> None:
    """Makes an axis so long that a small change looks small, inside what can be.

    Args:
      ax: with everything drawn that its limits follow from.
      axis: which of its two.
      score: what it shows: "accuracy" and "recognised" in percent span at least 10
        points, "psnr" 2 dB, "ssim" 0.1.
    """
    least, bottom, top = SPANS[score]
    low, high = getattr(ax, f"get_{axis}lim")()
    missing = max(0.0, least - (high - low)) / 2
    low, high = max(low - missing, bottom), min(high + missing, top)
    high = min(max(high, low + least), top)
    getattr(ax, f"set_{axis}lim")(min(low, high - least), high)


def finite(value: Any) -> bool:
    """Whether a value is a finite number."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    try:
        return number and isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _sent(arrays: Mapping[str, np.ndarray], bits: int | None) -> Iterator[Column]:
    """What the user has and sends."""
    cover, stego = arrays.get("cover"), arrays.get("stego")
    answers = _answers(arrays)
    if cover is not None:
        yield _labelled("cover", "public image", arrays)
    if "secret" in arrays:
        beside = () if stego is not None else answers
        yield _labelled("secret", "sensitive image", arrays, beside)
    if stego is not None:
        yield Column(
            name="stego",
            title=f"stego, ζ = {bits}" if bits else "stego",
            subtitle="secret in cover",
            images=stego,
            captions=answers or [Caption("")] * len(stego),
        )
    if stego is not None and cover is not None:
        yield _difference(cover, stego, bits)
    if "perturbed" in arrays and cover is not None:
        yield Column(
            name="perturbed",
            title="perturbed",
            subtitle="what enters the edge",
            images=arrays["perturbed"],
            captions=_decibels(arrays["perturbed"], cover),
        )


def _recovered(arrays: Mapping[str, np.ndarray], bits: int | None) -> Iterator[Column]:
    """What the attacker gets of it."""
    secret, rebuilt = arrays.get("secret"), arrays.get("reconstruction")
    if rebuilt is not None:
        denoised = ", denoised" if arrays.get("denoised", 0) else ""
        yield Column(
            name="reconstruction",
            title="reconstruction",
            subtitle=f"by the attacker{denoised}",
            images=rebuilt,
            captions=_decibels(rebuilt, secret),
        )
    low = arrays.get("extracted")
    if low is None and rebuilt is not None and "stego" in arrays and bits:
        low = low_bits(rebuilt, bits)
    if low is not None:
        repaired = ", denoised" if arrays.get("repaired", 0) else ""
        yield Column(
            name="low_bits",
            title=f"its low {bits} bits" if bits else "extracted",
            subtitle=f"the attacker's secret{repaired}",
            images=low,
            captions=_decibels(low, secret),
        )


def _revealed(arrays: Mapping[str, np.ndarray]) -> Iterator[Column]:
    """What the receiver gets."""
    if "revealed" in arrays:
        yield Column(
            name="revealed",
            title="revealed",
            subtitle="by the receiver",
            images=arrays["revealed"],
            captions=_decibels(arrays["revealed"], arrays.get("secret")),
        )


def _marked(column: Column, diverged: np.ndarray | None) -> Column:
    """The column with the words under those pictures whose search went astray."""
    if diverged is None:
        return column
    pairs = zip(column.captions, diverged, strict=True)
    captions = [Caption("diverged", BAD) if lost else said for said, lost in pairs]
    return column._replace(captions=captions)


def _labelled(
    name: str,
    subtitle: str,
    arrays: Mapping[str, np.ndarray],
    answers: Sequence[Caption] = (),
) -> Column:
    images, labels = arrays[name], arrays.get(f"{name}_label")
    captions = [Caption("")] * len(images)
    if labels is not None:
        captions = [Caption(f"{name}: {label}") for label in labels]
    if labels is not None and answers:
        both = zip(captions, answers, strict=True)
        captions = [Caption(f"{c.text}, {a.text}", a.colour) for c, a in both]
    return Column(
        name=name, title=name, subtitle=subtitle, images=images, captions=captions
    )


def _answers(arrays: Mapping[str, np.ndarray]) -> list[Caption]:
    """What the cloud answered; wrong ones say so and differ in colour."""
    if "answer" not in arrays:
        return []
    truth = arrays.get("secret_label", arrays["answer"])
    both = zip(arrays["answer"], truth, strict=True)
    return [
        Caption(f"answer: {a} ✓", GOOD) if a == t else Caption(f"answer: {a} ✗", BAD)
        for a, t in both
    ]


def _difference(cover: np.ndarray, stego: np.ndarray, bits: int | None) -> Column:
    gain = difference_gain(cover, stego, bits)
    gap = np.abs(stego.astype(int) - cover)
    return Column(
        name="difference",
        title=f"difference × {gain}",
        subtitle="|stego − cover|",
        images=np.minimum(WHITE, gap * gain).astype(np.uint8),
        captions=_decibels(stego, cover),
    )


def _decibels(images: np.ndarray, truth: np.ndarray | None) -> list[Caption]:
    """PSNR of each image against the truth, 8-bit."""
    if truth is None:
        return [Caption("")] * len(images)
    error = ((images.astype(float) - truth) ** 2).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        values = 10 * np.log10(WHITE**2 / error)
    shown = ["∞ dB" if np.isinf(v) else f"{v:.1f} dB" for v in values]
    return [Caption(text, FAINT) for text in shown]


def _enlarged(image: np.ndarray, scale: int) -> Image.Image:
    """uint8 [H, W, 1 or 3] as RGB, each pixel a square of `scale` pixels."""
    square = image.repeat(scale, axis=0).repeat(scale, axis=1)
    return Image.fromarray(np.broadcast_to(square, (*square.shape[:2], 3)).copy())


class _Line(NamedTuple):
    """Words in the panel."""

    text: str
    size: int  # of the font, pixels, at most
    colour: str
    bold: bool = False


def _write(
    draw: ImageDraw.ImageDraw, middle: tuple[int, int], line: _Line, width: int
) -> None:
    """Centred text, made smaller until it fits the width."""
    file = "DejaVuSans-Bold.ttf" if line.bold else "DejaVuSans.ttf"
    path, size = Path(matplotlib.get_data_path(), "fonts", "ttf", file), line.size
    font = ImageFont.truetype(path, size)
    while size > 6 and draw.textlength(line.text, font) > width + GAP - 4:
        size -= 1
        font = ImageFont.truetype(path, size)
    draw.text(middle, line.text, fill=line.colour, font=font, anchor="mm")
