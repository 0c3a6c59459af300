"""The texts of the cards on a personas page, read back."""

from html.parser import HTMLParser

import pandas as pd


def card_texts(html: str) -> pd.DataFrame:
    """What the cards on a page say: segment, and the text of each part, as a reader sees it."""
    reader = _Reader()
    reader.feed(html)
    rows = [{"segment": segment, **parts} for segment, parts in reader.found.items()]
    return pd.DataFrame(rows).fillna("") if rows else pd.DataFrame(columns=["segment"])


class _Reader(HTMLParser):
    """Collects the text of every element that names its part, by card."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: dict[str, dict[str, str]] = {}
        self.card, self.open = "", []  # the card we are in; the elements that are open, each with its part

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "article" and "sk-card" in (named.get("class") or ""):
            self.card = named.get("id") or ""
            self.found[self.card] = {}
        if tag not in ("br", "img", "i", "hr", "path", "circle", "rect"):
            self.open.append((tag, named.get("data-part")))

    def handle_endtag(self, tag: str) -> None:
        while self.open and tag not in ("br", "img", "i", "hr", "path", "circle", "rect"):
            if self.open.pop()[0] == tag:
                break

    def handle_data(self, data: str) -> None:
        part = next((part for _tag, part in reversed(self.open) if part), None)
        if part and self.card:
            self.found[self.card][part] = self.found[self.card].get(part, "") + data
