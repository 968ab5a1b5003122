"""An iris seen from above, drawn to scale from its four measurements."""

from __future__ import annotations

from markupsafe import Markup, escape

SIZE = 360  # pixels, of the square picture
VIEW = 8.2  # centimetres from the centre to the edge, for every flower that fits
COLOURS = {  # sepal, petal
    "setosa": ("#7b86d9", "#a9b2f0"),
    "versicolor": ("#6a5acd", "#9b8ee8"),
    "virginica": ("#9a4fb0", "#c58ad6"),
}


def draw(
    sepal_length: float,
    sepal_width: float,
    petal_length: float,
    petal_width: float,
    species: str = "setosa",
) -> Markup:
    """Draw three sepals and three petals as an SVG. Lengths and widths are in centimetres.

    All flowers share one scale, so that they can be compared. Only a flower too large for the
    picture is drawn smaller, and the scale bar with it.
    """
    scale = SIZE / 2 / max(VIEW, sepal_length, petal_length)
    sepal_colour, petal_colour = COLOURS[species]
    sepal = _leaf(sepal_length * scale, sepal_width * scale, sepal_colour)
    sepal += _signal(sepal_length * scale, sepal_width * scale)
    petal = _leaf(petal_length * scale, petal_width * scale, petal_colour)
    parts = [f'<g transform="rotate({angle})">{sepal}</g>' for angle in (0, 120, 240)]
    parts += [f'<g transform="rotate({angle})">{petal}</g>' for angle in (60, 180, 300)]
    label = (
        f"Iris {species}: sepals {sepal_length:g} x {sepal_width:g} cm, "
        f"petals {petal_length:g} x {petal_width:g} cm"
    )
    return Markup(
        f'<svg viewBox="0 0 {SIZE} {SIZE}" role="img" aria-label="{escape(label)}" '
        'style="width:100%;max-width:360px;height:auto">'
        f'<rect width="{SIZE}" height="{SIZE}" rx="12" fill="#f4f7f1"/>'
        f'<g transform="translate({SIZE / 2} {SIZE / 2})">{"".join(parts)}'
        f'<circle r="{0.18 * scale:.1f}" fill="#e8c547"/></g>{_scale_bar(scale)}</svg>'
    )


def _leaf(length: float, width: float, colour: str) -> str:
    """Draw a sepal or petal that points up. Length and width are in pixels.

    The outline is two cubic Bezier curves whose control points lie a = 2/3 of the width off the
    axis. Such a curve reaches 3/4 a = half the width, so the leaf is exactly as wide as measured.
    """
    off = width * 2 / 3
    near, far = -0.35 * length, -0.95 * length
    outline = (
        f"M0 0C{off:.1f} {near:.1f} {off:.1f} {far:.1f} 0 {-length:.1f}"
        f"C{-off:.1f} {far:.1f} {-off:.1f} {near:.1f} 0 0Z"
    )
    veins = "".join(
        f"M0 0Q{side * off:.1f} {-0.5 * length:.1f} {side * off / 2:.1f} {-0.85 * length:.1f}"
        for side in (-0.6, -0.25, 0.25, 0.6)
    )
    return (
        f'<path d="{outline}" fill="{colour}" stroke="#43396b" stroke-width="1.2"/>'
        f'<path d="{veins}" fill="none" stroke="#fff" stroke-opacity=".45"/>'
    )


def _signal(length: float, width: float) -> str:
    """Draw the yellow patch at a sepal's base that guides insects. Lengths are in pixels."""
    return (
        f'<ellipse cy="{-0.45 * length:.1f}" rx="{0.14 * width:.1f}" ry="{0.22 * length:.1f}" '
        'fill="#f2d14b" fill-opacity=".85"/>'
    )


def _scale_bar(scale: float) -> str:
    left, bottom = 18, SIZE - 18
    return (
        f'<path d="M{left} {bottom - 5}v5h{scale:.1f}v-5" fill="none" stroke="#444" stroke-width="1.5"/>'
        f'<text x="{left + scale / 2:.1f}" y="{bottom - 9}" font-size="12" fill="#444" '
        'text-anchor="middle" font-family="sans-serif">1 cm</text>'
    )
