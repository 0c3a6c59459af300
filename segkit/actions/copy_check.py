"""The check that every advertising text passes, whoever wrote it: names by placeholder, no figure, claim or link."""

import re
from collections.abc import Iterable, Sequence

from segkit.actions.facts import PLACEHOLDER, Fact, loose_figures, render

LONGEST = {"subject": 70, "push": 120, "ad": 220, "product": 120}  # characters as people read them
LABELS = {"subject": "Subject line", "push": "Push message", "ad": "Short ad", "product": "Product line"}
NAMES = (
    "need_1",
    "need_1_cap",
    "need_2",
    "need_3",
    "lack",
    "add_need",
)  # facts that may be said to customers: no figure
CLAIMS = re.compile(
    r"\b(free|discount\w*|off|sales?|sav(?:e|es|ed|ing|ings)|cheap\w*|low(?:er|est)|best|better|guarantee\w*|proven|win\w*|won|"
    r"prizes?|gifts?|bonus\w*|coupons?|vouchers?|refunds?|reward\w*|deals?|offers?|reduc\w*|prices?|cut|bargain\w*|limited|hurry|"
    r"last chance|only today|today only|now only|new|newest|popular|award\w*|exclusive\w*|approved|clinical\w*|healthy|"
    r"organic|everyone|nobody|always in stock|most)\b|[$€£]",
    re.IGNORECASE,
)
ALLOWED_CLAIMS = ("no hurry",)  # words of the list that claim nothing where they stand so
LINKS = re.compile(r"https?:|www\.|\b\w+\.(?:com|net|org|io|info|biz|ru|cn)\b|@|\bdot com\b", re.IGNORECASE)
MARKUP = re.compile(r"[<>\[\]`\\|_#*]")
SHOUTED = re.compile(r"\b[A-Z]{3,}\b")
WORD = re.compile(r"[^\W\d_]{4,}")
COMMON = frozenset(
    "with from that your this have here there what when where more also them they into over some".split()
)


def refusal(form: object, *, slot: str, facts: Sequence[Fact], segment: str, names: Iterable[str] = ()) -> str:
    """Why a text may not be used; "" where it may.

    Takes  form: a text with placeholders, or whatever else was answered; slot: subject, push, ad or product
    Gives  a reason in words, without the text itself

    Parameters
    ----------
    facts, segment : the facts it may be filled with
    names : names from the data; a word of theirs may be said by a placeholder only, so that what is hidden in a name is
        not repeated
    """
    if not isinstance(form, str) or not form.strip():
        return "it is no text"
    if form != form.strip() or any(not sign.isprintable() for sign in form):
        return "it is not one plain line"
    if loose_figures(form):
        return "it holds a number or a brace that is no fact"
    asked = PLACEHOLDER.findall(form)
    if not asked:
        return "it names nothing of what they need"
    segment_facts = {f.name for f in facts if f.segment == segment}
    if not set(asked) <= segment_facts & set(NAMES):
        return "it uses a fact that may not be said to customers"
    outside = PLACEHOLDER.sub(" ", form)
    for found, why in ((_claims(outside), "it claims what the data does not hold"),
                       (LINKS.search(outside), "it holds a link or an address"),
                       (MARKUP.search(outside), "it holds markup"),
                       (SHOUTED.search(outside) or outside.count("!") > 1, "it shouts")):  # fmt: skip
        if found:
            return why
    outside_words = {word.lower() for word in WORD.findall(outside)} - COMMON
    if outside_words & {word.lower() for name in names for word in WORD.findall(name)}:
        return "it repeats a name of the data outside a placeholder"
    if len(render(form, facts, segment=segment)) > LONGEST[slot]:
        return f"it is longer than {LONGEST[slot]} characters"
    return ""


def _claims(text: str) -> bool:
    lower = text.lower()
    for harmless in ALLOWED_CLAIMS:
        lower = lower.replace(harmless, " ")
    return bool(CLAIMS.search(lower))
