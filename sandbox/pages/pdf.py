"""PDF files of text: plain lines, or a document laid out with columns, over as many A4 pages as it takes."""

import unicodedata
from collections.abc import Iterable

LEFT, RIGHT, TOP, BOTTOM, LEADING = 56, 539, 780, 64, 18
# Helvetica's widths of the characters from space to tilde, in thousandths of the type size.
_WIDTHS = (
    "278 278 355 556 556 889 667 191 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 556 556 278 "
    "278 584 584 584 556 1015 667 667 722 722 667 611 778 722 278 500 667 556 833 722 778 667 778 722 667 611 722 "
    "667 944 667 667 611 278 278 278 469 556 333 556 556 500 556 556 278 556 556 222 222 500 222 833 556 556 556 "
    "556 333 500 278 556 500 722 500 500 500 334 260 334 584"
)
WIDTHS = {chr(32 + index): int(width) for index, width in enumerate(_WIDTHS.split(" "))}
AVERAGE = 556


class Document:
    """Pages of Helvetica, written from the top down. Letters the font lacks lose their accents, or become
    question marks."""

    def __init__(self) -> None:
        self._pages: list[list[str]] = [[]]
        self._y: float = TOP

    def down(self, points: float) -> None:
        """Leave room, on a new page where this one is full."""
        self._y -= points
        if self._y < BOTTOM:
            self._pages.append([])
            self._y = TOP

    def text(
        self, text: str, *, x: float = LEFT, size: int = 10, bold: bool = False, end: bool = False
    ) -> None:
        """Write on the current line, from `x` on, or up to it with `end`."""
        start = x - width(text, size) if end else x
        font = "F2" if bold else "F1"
        self._pages[-1].append(f"BT /{font} {size} Tf {start:.2f} {self._y:.2f} Td ({_escaped(text)}) Tj ET")

    def rule(self) -> None:
        """Draw a line across the page."""
        self._pages[-1].append(f"0.8 G {LEFT} {self._y:.2f} m {RIGHT} {self._y:.2f} l S 0 G")

    def paragraph(self, text: str, *, x: float = LEFT, within: float = RIGHT - LEFT, size: int = 10) -> None:
        """Write text over as many lines as it takes, each followed by a step down."""
        for line in wrapped(text, within=within, size=size):
            self.text(line, x=x, size=size)
            self.down(size * 1.4)

    def finish(self) -> bytes:
        return _file(self._pages)


def width(text: str, size: float) -> float:
    """Return how wide a text is, in points."""
    return sum(WIDTHS.get(each, AVERAGE) for each in text) * size / 1000


def wrapped(text: str, *, within: float, size: float) -> list[str]:
    """Return the text cut into lines no wider than `within` points; a longer word is cut too."""
    lines = [""]
    for word in (part for each in text.split() for part in _pieces(each, within=within, size=size)):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and width(longer, size) > within:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _pieces(word: str, *, within: float, size: float) -> list[str]:
    pieces = [""]
    for letter in word:
        if pieces[-1] and width(pieces[-1] + letter, size) > within:
            pieces.append(letter)
        else:
            pieces[-1] += letter
    return pieces


def write_pdf(lines: Iterable[str]) -> bytes:
    """Return plain lines as a PDF."""
    document = Document()
    for line in lines:
        document.text(line, size=12)
        document.down(LEADING)
    return document.finish()


def _file(pages: list[list[str]]) -> bytes:
    kids = " ".join(f"{5 + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /Lang (en) >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>",
    ]
    for index, page in enumerate(pages):
        content = "\n".join(page).encode("cp1252", errors="replace")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {6 + 2 * index} 0 R"
            " /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> >>".encode()
        )
        objects.append(
            b"<< /Length " + str(len(content)).encode() + b" >>\nstream\n" + content + b"\nendstream"
        )
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += str(number).encode() + b" 0 obj\n" + body + b"\nendobj\n"
    table = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010d} 00000 n \n".encode() for offset in offsets)
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n".encode()
    return bytes(out)


def _plain(letter: str) -> str:
    """Return a letter the font has: itself, or itself without its accents."""
    try:
        letter.encode("cp1252")
    except UnicodeEncodeError:
        return unicodedata.normalize("NFKD", letter).encode("ascii", errors="ignore").decode() or "?"
    return letter


def _escaped(line: str) -> str:
    kept = "".join(_plain(each) if each.isprintable() else " " for each in line)
    return kept.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
