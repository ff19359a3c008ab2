"""Line charts as SVG."""

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 175, 40, 52


@dataclass
class Line:
    title: str
    colour: str
    xs: list
    ys: list
    lows: list    # the band around the line; the same as ys for none
    highs: list


def line_chart(title, x_label, y_label, lines, levels=(), logarithmic=False):
    """`levels`: (text, y), drawn dashed across. A logarithmic y axis needs positive values."""
    values = [y for line in lines for y in line.lows + line.highs] + [y for _, y in levels]
    logarithmic = logarithmic and min(values) > 0
    scale = math.log10 if logarithmic else float
    margin = 0.04 * (scale(max(values)) - scale(min(values)))
    low, high = scale(min(values)) - margin, scale(max(values)) + margin
    y_ticks = [y for y in (_decade_ticks if logarithmic else _ticks)(min(values), max(values)) if low <= scale(y) <= high]
    x_ticks = _ticks(0, max(x for line in lines for x in line.xs))

    def px(x):
        return LEFT + (WIDTH - LEFT - RIGHT) * x / (x_ticks[-1] or 1)

    def py(y):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (scale(y) - low) / ((high - low) or 1)

    def points(xs, ys):
        return " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in zip(xs, ys))

    y_label += ", logarithmic" if logarithmic else ""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
           'font-family="sans-serif" font-size="12" fill="#222">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
           f'<text x="{LEFT}" y="22" font-size="15" font-weight="bold">{escape(title)}</text>']
    for y in y_ticks:
        out += [f'<line x1="{LEFT}" x2="{right}" y1="{py(y):.1f}" y2="{py(y):.1f}" stroke="#e4e4e4"/>',
                f'<text x="{LEFT - 8}" y="{py(y) + 4:.1f}" text-anchor="end">{y:g}</text>']
    for x in x_ticks:
        out += [f'<line x1="{px(x):.1f}" x2="{px(x):.1f}" y1="{bottom}" y2="{bottom + 5}" stroke="#222"/>',
                f'<text x="{px(x):.1f}" y="{bottom + 19}" text-anchor="middle">{_short(x)}</text>']
    out += [f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#222"/>',
            f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>',
            f'<text transform="translate(18 {(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>']
    for text, y in levels:
        out += [f'<line x1="{LEFT}" x2="{right}" y1="{py(y):.1f}" y2="{py(y):.1f}" stroke="#666" stroke-dasharray="5 4"/>',
                f'<text x="{LEFT + 6}" y="{py(y) - 4:.1f}" fill="#666" font-size="11">{escape(text)}</text>']
    for row, line in enumerate(lines):
        if line.lows != line.highs:
            out.append(f'<polygon points="{points(line.xs, line.highs)} {points(line.xs[::-1], line.lows[::-1])}" '
                       f'fill="{line.colour}" fill-opacity="0.15"/>')
        out.append(f'<polyline points="{points(line.xs, line.ys)}" fill="none" stroke="{line.colour}" stroke-width="2"/>')
        out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="2.5" fill="{line.colour}"/>' for x, y in zip(line.xs, line.ys)]
        y = TOP + 12 + 20 * row
        out += [f'<line x1="{right + 14}" x2="{right + 36}" y1="{y}" y2="{y}" stroke="{line.colour}" stroke-width="3"/>',
                f'<text x="{right + 42}" y="{y + 4}">{escape(line.title)}</text>']
    return "\n".join([*out, "</svg>"]) + "\n"


def _ticks(low, high, count=5):
    """About `count` round numbers that enclose [low, high]."""
    span = (high - low) or abs(high) or 1
    magnitude = 10 ** math.floor(math.log10(span / count))
    step = next(m * magnitude for m in (1, 2, 5, 10) if span / (m * magnitude) <= count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def _decade_ticks(low, high):
    """1, 2 and 5 of every decade; even ones where these are too few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [round(m * 10.0 ** d, 12) for d in decades for m in (1, 2, 5)]
    inside = [t for t in ticks if low <= t <= high]
    return inside if len(inside) >= 3 else [t for t in _ticks(low, high) if t > 0]


def _short(x):
    for least, size, unit in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if x >= least:
            return f"{x / size:g} {unit}"
    return f"{x:g}"
