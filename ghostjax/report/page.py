"""Pieces of a self-contained HTML page, as strings; text is escaped. Imports no jax."""

import html
import re
import warnings
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatterMathtext

from ghostjax import files
from ghostjax.report.tables import Table

__all__ = [
    "Chart",
    "chart",
    "drawn",
    "heading",
    "is_whole",
    "page",
    "paragraph",
    "picture",
    "table",
]

_LONGEST = 80  # characters of a file's name


class Chart(NamedTuple):
    """A figure with its words."""

    name: str  # of its file, once it is reduced to what a name may have
    title: str
    caption: str
    figure: Figure


def page(title: str, body: Sequence[str]) -> str:
    """The whole page; it refers to nothing outside itself, and ends with a digest of
    all that stands before, for `is_whole`."""
    text = _page(title, body)
    return f"{text}{_seal(text.encode(errors='backslashreplace'))}"


def is_whole(path: Path) -> bool:
    """Whether a page is there as it was written."""
    try:
        text, mark, digest = files.read_bytes(path).rpartition(_MARK)
    except files.FileError:
        return False
    return mark + digest == _seal(text).encode()


_MARK = b"<!-- sha256 "


def _seal(text: bytes) -> str:
    return f"{_MARK.decode()}{sha256(text).hexdigest()} -->\n"


def _page(title: str, body: Sequence[str]) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{html.escape(title)} · ghostjax</title><style>{_STYLE}</style></head>"
        "<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def heading(title: str, subject: str) -> str:
    """The page's title and the line below it."""
    return f"<h1>{html.escape(title)}</h1><p class=subject>{html.escape(subject)}</p>"


def paragraph(kind: str, words: str) -> str:
    """A "verdict" or a "caution"."""
    mark = "⚠ " if kind == "caution" else ""
    return f'<p class="{kind}">{mark}{html.escape(words)}</p>'


def table(shown: Table) -> str:
    """A table as HTML; every cell is escaped, the first of a line is its heading."""
    lines = []
    for first, *rest in shown.lines:
        rest = [
            cell.replace(" %", "\u00a0%").replace(" dB", "\u00a0dB") for cell in rest
        ]
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
        lines.append(f"<tr><th scope=row>{html.escape(first)}</th>{cells}</tr>")
    head = "".join(f"<th scope=col>{html.escape(cell)}</th>" for cell in shown.head)
    head = f"<thead><tr>{head}</tr></thead>" if any(shown.head) else ""
    note = f"<p class=note>{html.escape(shown.note)}</p>" if shown.note else ""
    return (
        f"<section><h2>{html.escape(shown.title)}</h2><div class=scroll><table>{head}"
        f"<tbody>{''.join(lines)}</tbody></table></div>{note}</section>"
    )


def chart(folder: Path, shown: Chart) -> str:
    """A chart as HTML, also saved as a PNG in `folder`.

    Its name may be that of a column of anybody's: in the file's name all but letters,
    digits, - and _ is _.
    """
    name = re.sub(r"[^A-Za-z0-9_-]", "_", shown.name)[:_LONGEST] or "_"
    png = drawn(shown.figure)
    files.write_bytes(folder / f"{name}.png", png)
    return picture(png, shown.title, shown.caption)


def drawn(figure: Figure) -> bytes:
    """A chart as the content of a PNG file; no label of it is mathtext or TeX."""
    powers = set[Artist]()  # 10⁻², which the axis writes itself
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            labels = axis.get_ticklabels(which="both")  # which makes them
            if isinstance(axis.get_major_formatter(), LogFormatterMathtext):
                powers.update(labels)
    for text in figure.findobj(Text):
        text.set(parse_math=text in powers, usetex=False)
    png = BytesIO()
    with matplotlib.rc_context({"text.usetex": False}), warnings.catch_warnings():
        # A letter that the font has not is shown as a box.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(png, dpi=160, format="png")
    return png.getvalue()


def picture(png: bytes, name: str, caption: str, kind: str = "chart") -> str:
    """A PNG as HTML, in the page itself."""
    data = b64encode(png).decode()
    image = f'<img alt="{html.escape(name)}" src="data:image/png;base64,{data}">'
    words = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="{kind}"><div>{image}</div>{words}</figure>'


_STYLE = """
:root { --ink:#1b1b1b; --faint:#5c5c5c; --paper:#fff; --line:#dcdcdc; --card:#f3f6fa;
  --warn:#fdf1e3; --edge:#c2620c; --mark:#0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6e6e6; --faint:#a5a5a5;
  --paper:#16181b; --line:#383c41; --card:#20262d; --warn:#33271a; --edge:#e69f00;
  --mark:#56b4e9; } }
* { box-sizing:border-box; }
body { font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif; color:var(--ink);
  background:var(--paper); max-width:68rem; margin:0 auto; padding:1.2rem; }
h1 { margin:0; line-height:1.2; overflow-wrap:anywhere; }
h2 { margin:2rem 0 .5rem; font-size:1.2rem; overflow-wrap:anywhere; }
.subject, .note, figcaption { color:var(--faint); font-size:.9rem; margin:.3rem 0 0; }
.verdict, .caution { padding:.8rem 1rem; border-left:4px solid var(--mark);
  background:var(--card); margin:.8rem 0; overflow-wrap:anywhere; }
.caution { border-color:var(--edge); background:var(--warn); }
.scroll, figure div { overflow-x:auto; }
table { border-collapse:collapse; font-variant-numeric:tabular-nums; font-size:.93rem; }
th, td { padding:.3rem .9rem .3rem 0; border-bottom:1px solid var(--line);
  text-align:left; vertical-align:top; }
thead th { color:var(--faint); font-weight:600; font-size:.83rem; }
tbody th { font-weight:500; }
figure { margin:.8rem 0 0; }
figure div { background:#fff; border-radius:6px; }
img { display:block; max-width:100%; margin:0 auto; }
.wide img { width:100%; min-width:38rem; }
pre { background:var(--card); padding:1rem; overflow-x:auto; font-size:.85rem; }
@media print { body { max-width:none; padding:0; font-size:11pt; }
  .verdict, .caution, figure div { print-color-adjust:exact; }
  .wide img { min-width:0; width:auto; max-height:17cm; }
  table { font-size:.8em; } .scroll { overflow:visible; }
  tr, .chart { break-inside:avoid; } h2 { break-after:avoid; }
  pre { white-space:pre-wrap; } }
"""
