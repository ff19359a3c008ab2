"""One text, written as Markdown beside its pictures and as HTML with the pictures inside."""

import base64
import re
from html import escape

STYLE = """body { font: 15px/1.5 sans-serif; color: #222; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; font-size: 13px; display: block; overflow-x: auto; }
td, th { border-bottom: 1px solid #ddd; padding: 4px 9px; text-align: right; white-space: nowrap; }
td:first-child, th:first-child { text-align: left; }
img, svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; } .wide img { max-width: none; }
code, pre { background: #f4f4f4; font-size: 13px; } pre { padding: .8em; overflow-x: auto; }"""


class Document:
    def __init__(self, title, folder):
        self._title, self._folder = title, folder
        self._markdown, self._html = [f"# {title}"], [f"<h1>{escape(title)}</h1>"]
        folder.mkdir(parents=True, exist_ok=True)

    def heading(self, text):
        self._add(f"## {text}", f"<h2>{escape(text)}</h2>")

    def text(self, text):
        """`code` in backticks."""
        self._add(text, f"<p>{_inline(text)}</p>")

    def items(self, texts):
        self._add("\n".join(f"- {text}" for text in texts), "<ul>" + "".join(f"<li>{_inline(text)}</li>" for text in texts) + "</ul>")

    def code(self, text):
        self._add(f"```\n{text}\n```", f"<pre>{escape(text)}</pre>")

    def table(self, header, rows):
        lines = ["| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows]]
        body = "".join("<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        head = "<tr>" + "".join(f"<th>{_inline(cell)}</th>" for cell in header) + "</tr>"
        self._add("\n".join(lines), f"<table>{head}{body}</table>")

    def plot(self, name, svg):
        (self._folder / "plots").mkdir(exist_ok=True)
        (self._folder / "plots" / f"{name}.svg").write_text(svg)
        self._add(f"![{name}](plots/{name}.svg)", svg)

    def picture(self, path, alt):
        """A file in the report's folder."""
        data = base64.b64encode(path.read_bytes()).decode()
        self._add(f"![{alt}]({path.relative_to(self._folder)})",
                  f'<div class="wide"><img alt="{escape(alt)}" src="data:image/{path.suffix[1:]};base64,{data}"></div>')

    def save(self):
        (self._folder / "report.md").write_text("\n\n".join(self._markdown) + "\n")
        page = self._folder / "report.html"
        page.write_text(f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(self._title)}</title>\n'
                        f"<style>{STYLE}</style></head><body>\n" + "\n".join(self._html) + "\n</body></html>\n")
        return page

    def _add(self, markdown, html):
        self._markdown.append(markdown)
        self._html.append(html)


def _inline(text):
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text, quote=False))
