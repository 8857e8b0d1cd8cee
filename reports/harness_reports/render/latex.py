r"""A report as LaTeX: a fragment to ``\input`` into a paper, with booktabs.

Special characters of LaTeX are escaped, and so are characters that pdfTeX's fonts lack.
"""

from __future__ import annotations

import re

from harness_reports.tables.model import Column, Report, Table, TableCell

PACKAGES = r"\usepackage[T1]{fontenc} \usepackage{booktabs,graphicx,longtable}"
WIDE, LONG = 8, 40
"""Columns from which a table is scaled to the width of the text, and rows from which it may break over pages."""
PARAGRAPH = r"p{0.5\textwidth}"
SPELT = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}", "`": r"\textasciigrave{}",
    "*": r"\textasteriskcentered{}", "†": r"\textdagger{}", "‡": r"\textdaggerdbl{}", "§": r"\textsection{}",
    "[": "{[}", "]": "{]}", "±": r"\textpm{}", "–": r"\textendash{}", "—": r"\textemdash{}", "×": r"\texttimes{}",
    "°": r"\textdegree{}", "‖": r"\textbardbl{}", "¶": r"\textparagraph{}",
}  # fmt: skip
"""Escapes; square brackets too, because LaTeX would read them as an option after a line's end."""


def latex(report: Report) -> str:
    """All tables, then the notes."""
    notes = "\n".join(rf"\item {escape(note)}" for note in report.notes)
    parts = [f"% In the preamble: {PACKAGES}", *map(_table, report.tables)]
    parts += ["\\begin{itemize}\\small\\sloppy\n" + notes + "\n\\end{itemize}"] if notes else []
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Escapes text for LaTeX, on one line; characters beyond Latin-1 become U+1F600 and the like."""
    spelt = "".join(SPELT.get(c) or (c if c.isascii() or "À" <= c <= "ÿ" else f"U+{ord(c):04X}") for c in _line(text))
    return re.sub("([-,])(?=[-,])", r"\1{}", spelt)  # -- and ,, would become other signs


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _table(table: Table) -> str:
    sides = "".join("r" if column.form else PARAGRAPH if column.long else "l" for column in table.columns)
    caption = escape(f"{table.title}. {' '.join(table.caption)}")
    header = _row([escape(column.name) for column in table.columns])
    body = "\n".join(_row([_cell(*each) for each in zip(table.columns, row, strict=True)]) for row in table.rows)
    label = rf"\label{{tab:{table.key}}}"
    if len(table.rows) >= LONG:
        size = r"\tiny" if len(table.columns) >= WIDE else r"\scriptsize"
        lines = [
            rf"{{{size}\setlength{{\tabcolsep}}{{2pt}}",
            rf"\begin{{longtable}}{{@{{}}{sides}@{{}}}}",
            rf"\caption{{{caption}}}{label}\\",
            rf"\toprule{chr(10)}{header}{chr(10)}\midrule{chr(10)}\endfirsthead",
            rf"\toprule{chr(10)}{header}{chr(10)}\midrule{chr(10)}\endhead",
            r"\bottomrule" + "\n" + r"\endfoot",
            body,
            r"\end{longtable}}",
        ]
        return "\n".join(lines)
    grid = "\n".join(
        [
            rf"\begin{{tabular}}{{@{{}}{sides}@{{}}}}",
            *(r"\toprule", header, r"\midrule", body, r"\bottomrule"),
            r"\end{tabular}",
        ]
    )
    if len(table.columns) >= WIDE:
        grid = rf"\resizebox{{\textwidth}}{{!}}{{%{chr(10)}{grid}}}"
    lines = [
        r"\begin{table*}",
        r"\centering\small\setlength{\belowcaptionskip}{1ex}",
        rf"\caption{{{caption}}}{label}",
        grid,
        r"\end{table*}",
    ]
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(column: Column, cell: TableCell) -> str:
    text = escape(cell.text)
    if column.form and not cell.absence:
        text = text.replace("-", r"\textminus{}")
    if column.long:
        text = rf"\raggedright {text}"
    signs = rf"\textsuperscript{{{escape(cell.signs)}}}" if cell.signs else ""
    return (rf"\textbf{{{text}}}" if cell.best else text) + signs
