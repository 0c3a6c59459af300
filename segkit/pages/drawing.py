"""A figure as a drawing inside the page: sharp at any size, in the colours of the page by day and by night.

Text stays text, and the colours of `look` become the variables of the stylesheet. What has many points is kept as
pixels within the drawing, so that ten thousand customers weigh what a photograph of them weighs.
"""

import base64
import io
import re

from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from PIL import Image

from segkit.pages.look import ACCENT, FAINT, INK, QUIET, SOFT, WARN, style

DPI = 160  # of pixels: sharp on a dense screen
MANY = 300  # points from which on they are kept as pixels
VARIABLES = {
    INK: "ink",
    "#000000": "ink",
    "#262626": "ink",  # seaborn's black
    QUIET: "quiet",
    FAINT: "line",
    "#ffffff": "paper",
    ACCENT: "accent",
    SOFT: "accent-soft",
    WARN: "warn",
}
HALO = "halo"  # the group of a text that is outlined in the colour of the paper
PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
TAG = re.compile(r"<(?!/)[^>]*>")


def svg(figure: Figure) -> str:
    """A figure as an <svg> element without size or background; the same figure gives the same bytes."""
    halos = _ready(figure)
    drawn = io.StringIO()
    try:
        with style():
            figure.savefig(
                drawn, format="svg", dpi=DPI, transparent=True, metadata={"Date": None, "Creator": None, "Type": None}
            )
    finally:
        for text, effects in halos.items():
            text.set_path_effects(effects)
            text.set_gid(None)
    return _cleaned(drawn.getvalue())


def png(figure: Figure) -> bytes:
    """PNG without a date or software name, in at most 256 colours: a third of the weight, no difference to the eye."""
    drawn = io.BytesIO()
    with style():
        figure.savefig(drawn, format="png", dpi=DPI, metadata={"Software": None})
    image = Image.open(drawn).convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return _packed(image)


def _ready(figure: Figure) -> dict[Text, list]:
    """Many points become pixels, and outlined texts are marked: as a path, each letter would be a drawing."""
    for collection in figure.findobj(Collection):
        collection.set_rasterized(len(collection.get_offsets()) > MANY)
    halos = {text: text.get_path_effects() for text in figure.findobj(Text) if text.get_path_effects()}
    for text, effects in halos.items():
        if any(isinstance(effect, withStroke) for effect in effects):
            text.set_path_effects([])
            text.set_gid(HALO)
    return halos


def _cleaned(text: str) -> str:
    """Only the drawing: no head, no metadata, no names that nothing refers to, two decimals, variables for colours."""
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'<style type="text/css">.*?</style>', "", body, flags=re.DOTALL)
    body = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1>", body, count=1)
    body = body.replace(f'id="{HALO}"', 'class="sk-halo"').replace("xlink:href", "href")
    used = set(re.findall(r"#([\w-]+)", body))
    body = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", body)
    body = PNG.sub(lambda found: f"data:image/png;base64,{_lighter(found[1])}", body)
    body = TAG.sub(lambda found: _tag(found[0]), body)
    return re.sub(r">\s+<", "><", body).strip()


def _tag(tag: str) -> str:
    if "base64" in tag:
        return tag
    short = re.sub(r"(\.\d\d)\d+", r"\1", re.sub(r"\s+", " ", tag)).replace("font-family: 'DejaVu Sans'; ", "")
    for colour, name in VARIABLES.items():
        short = short.replace(colour, f"var(--sk-{name},{colour})")
    return short


def _lighter(encoded: str) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")
    return base64.b64encode(_packed(image.quantize(256, method=Image.Quantize.FASTOCTREE))).decode("ascii")


def _packed(image: Image.Image) -> bytes:
    light = io.BytesIO()
    image.save(light, format="png", optimize=True)
    return light.getvalue()
