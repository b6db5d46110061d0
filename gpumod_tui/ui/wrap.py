"""Long sentences on narrow screens."""

from functools import lru_cache

from rich.cells import chop_cells

from gpumod_tui.ui.logtext import harmless

_CHARS_A_CELL = 4
"""At most, of a harmless text: a letter and what is combined with it."""


def wrap(text: str, width: int) -> list[str]:
    """Lines of whole words, one at least; a word that is too long stands alone and is cut when it is painted."""
    lines = [""]
    for word in harmless(text.replace("\n", " ")).split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > max(20, width):
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines


def chop(text: str, width: int, most: int) -> list[str]:
    """Pieces of at most `width` cells, `most` of them, behind a space where there is one; what is left stays on the
    last one, to be cut there. Together they are the text's beginning, as far as it can be seen."""
    if len(text) <= width and text.isascii():
        return [text]
    return list(_pieces(text, max(1, width), most))


@lru_cache(256)
def _pieces(text: str, width: int, most: int) -> tuple[str, ...]:
    # Painted again and again while lines come, and only the beginning is seen.
    text = text[: (most + 1) * width * _CHARS_A_CELL]
    pieces: list[str] = []
    at, ascii_only = 0, text.isascii()
    while len(pieces) < most - 1 and at < len(text):
        piece = text[at : at + width] if ascii_only else _fitting(text[at : at + width * _CHARS_A_CELL], width)
        space = piece.rfind(" ") + 1
        if at + len(piece) < len(text) and space > len(piece) * 2 // 3:
            piece = piece[:space]
        pieces.append(piece)
        at += len(piece)
    return (*pieces, text[at:]) if at < len(text) or not pieces else tuple(pieces)


def _fitting(text: str, width: int) -> str:
    """The beginning of so many cells; one character at least."""
    return (chop_cells(text, width) or [""])[0] or text[:1]
