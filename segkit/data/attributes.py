"""Read the columns of a table of customers for segments: what each holds, how it is used, and what is left out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from segkit.data.guesses import is_birth, words_in_name
from segkit.data.values import NO_VALUE
from segkit.errors import InputError
from segkit.format import FLOOR

LEFT_OUT_ROLES = {  # role -> why a column with it shapes no segment
    "identifier": "left out: an address or id",
    "consent": "left out: a consent, for exports only",
    "ignore": "left out: its role is ignore",
    "current_segment": "compared with at the end",
}
FEWEST_COLUMNS = 2  # that can be used; one alone goes together with nothing
MIN_FILLED = 0.3  # share of customers with a value
MIN_DATES = 0.95  # share of texts that are dates, in a column of dates
MOST_LEVELS = 12  # values of a category that count; the others are one
MIN_LEVEL_SHARE = 0.02  # of customers
MIN_COVERED = 0.3  # share of customers with one of those values
MANY_VALUES = 50  # from here on, a text that differs in most rows is no category
SAME_NUMBERS, SAME_GROUPS, SAME_MIXED = 0.95, 0.95, 0.8  # Spearman, Cramér's V, eta²: both columns say the same
OLDEST = 110  # years
OTHER, YES, NO = "other", "yes", "no"
YES_WORDS = {"yes", "y", "true", "t", "1", "ja", "oui", "si", "sí", "sim", "x"}
NO_WORDS = {"no", "n", "false", "f", "0", "nein", "non", "não", "nao"}
UNITS = r"[\s\u00a0\u202f'’€$£¥%]|\b(?:EUR|USD|GBP|CHF|JPY)\b"
AMOUNT = r"[+-]?\d{1,15}(?:[.,]\d{3})*(?:[.,]\d+)?"
DATE_FORMATS = ("ISO8601", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y%m%d")
END_WORDS = {"end", "ends", "expires", "expiry", "expiration", "due", "renewal", "until", "valid", "next"}
ID_WORDS = {"id", "key", "nr", "no", "number", "uuid", "guid"}
SPEND_WORDS = {
    *("spend", "spent", "revenue", "sales", "income", "salary", "amount", "turnover", "clv", "ltv", "balance"),
    *("umsatz", "einkommen", "gehalt", "monetary", "paid"),
}
NOT_MONEY = {"count", "number", "n", "share", "pct", "percent", "score", "frequency", "orders"}
YEARS, DAYS, NUMBER, COUNT, SCORE, MONEY = "years", "days", "number", "count", "score", "money"
FLAG, CATEGORY = "flag", "category"
SINCE = "days since "
PLURALS = ("s", "children", "people")  # ends of labels of what is counted


@dataclass(frozen=True)
class Attribute:
    """A column that shapes segments.

    Parameters
    ----------
    label
        Its name in words.
    kind
        years, days, number, count, score, money, flag or category.
    """

    name: str
    label: str
    kind: str
    role: str

    @property
    def is_number(self) -> bool:
        """Return whether its values are numbers."""
        return self.kind not in (FLAG, CATEGORY)


@dataclass(frozen=True)
class Attributes:
    """Hold what is known of customers.

    Parameters
    ----------
    used
        The columns that shape segments.
    table
        Their values by customer_id: numbers, or texts; missing where unknown.
    current
        The columns of segments that the customers are in already.
    report
        Every column: column, role, filled (share), use.
    """

    used: tuple[Attribute, ...]
    table: pd.DataFrame
    current: pd.DataFrame
    report: pd.DataFrame


def read_attributes(people: pd.DataFrame, *, roles: Mapping[str, str], as_of: date) -> Attributes:
    """Read the columns of a table of customers, sorted by customer_id, and decide which of them shape segments.

    Parameters
    ----------
    people
        ``customer_id`` and columns of numbers or texts, one row a customer.
    roles
        Role of each column; a column with role ignore may be missing.
    as_of
        Dates become years (of birth) or days before it.

    Raises
    ------
    InputError
        Fewer than two columns can be used; the message gives the reason for each of the others.
    """
    people = people.set_index("customer_id").sort_index()
    used, values, rows = [], {}, []
    for name, role in roles.items():
        column = people.get(name)
        filled = float(_known(column).mean()) if column is not None else np.nan
        use, attribute = LEFT_OUT_ROLES.get(role, ""), None
        if not use:
            use, attribute, read = _read_column(column, name=name, role=role, as_of=as_of)
        if attribute is not None:
            same = next((one for one in used if _is_same(values[one.name], read, one, attribute)), None)
            if same is None:
                used.append(attribute)
                values[name] = read
            else:
                use = f"left out: it says the same as {same.label}"
        rows.append({"column": name, "role": role, "filled": filled, "use": use})
    report = pd.DataFrame(rows, columns=["column", "role", "filled", "use"])
    if len(used) < FEWEST_COLUMNS:
        reasons = "; ".join(f"{row.column}: {row.use}" for row in report.itertuples())
        raise InputError(
            f"customers: segments need {FEWEST_COLUMNS} columns that tell customers apart, and {len(used)} can be used "
            f"({reasons or 'there are no other columns'}). Give more columns, or another role."
        )
    current = people[[name for name, role in roles.items() if role == "current_segment" and name in people]]
    return Attributes(tuple(used), pd.DataFrame(values, index=people.index), current, report)


def latest_date(people: pd.DataFrame, *, roles: Mapping[str, str]) -> date | None:
    """Return the latest date in a table of customers; births, and dates on which something ends, do not count."""
    found = []
    for name in people:
        if roles.get(name) in (None, "identifier", "ignore") or is_birth(name) or words_in_name(name) & END_WORDS:
            continue
        dates = _read_dates(people[name]) if people[name].dtype == object else None
        found += [dates.max()] if dates is not None else []
    return max(found).date() if found else None


def label_of(name: str) -> str:
    """Write the name of a column as words.

    Examples
    --------
    >>> label_of("totalSpend_2023"), label_of("NPS")
    ('total spend 2023', 'NPS')
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ").split()
    return " ".join(word if word.isupper() and len(word) <= 4 else word.lower() for word in words) or name


def _known(column: pd.Series) -> pd.Series:
    if column.dtype != object:
        return column.notna()
    return column.notna() & ~column.astype(str).str.strip().str.lower().isin(NO_VALUE)


def _read_column(
    column: pd.Series, *, name: str, role: str, as_of: date
) -> tuple[str, Attribute | None, pd.Series | None]:
    """Return how a column is used, and what it is read as; None where it is left out."""
    column = column.where(_known(column))
    filled = column.notna().mean()
    if filled < MIN_FILLED:
        return f"left out: known of {filled:.0%} of customers", None, None
    if column.nunique() < 2:
        return "left out: the same for everyone", None, None
    label = label_of(name)
    if column.dtype != object:
        return _read_number(column.astype(float), name=name, label=label, role=role)
    dates, numbers = _read_dates(column), read_amounts(column)
    if dates is not None:
        return _read_day(dates, name=name, label=label, role=role, as_of=as_of)
    if numbers is not None:
        return _read_number(numbers, name=name, label=label, role=role)
    texts = column.astype(str).str.strip().where(column.notna())
    return _read_category(texts, name=name, label=label, role=role)


def _read_number(
    column: pd.Series, *, name: str, label: str, role: str
) -> tuple[str, Attribute | None, pd.Series | None]:
    words, values = words_in_name(name), column.dropna()
    whole = bool((values == values.round()).all())
    if column.nunique() == 2:
        if set(values) == {0.0, 1.0}:
            return _flag(column == 1, known=column.notna(), name=name, label=label, role=role)
        return _read_category(_whole_texts(column), name=name, label=label, role=role)
    if whole and values.is_unique and len(values) >= MANY_VALUES and words & ID_WORDS:
        return "left out: a number of its own for each customer", None, None
    if whole and role == "geographic":  # a postcode
        return _read_category(_whole_texts(column), name=name, label=label, role=role)
    how = "by rank, as it is spread unevenly" if is_heavy_tailed(values) else "a number"
    return how, Attribute(name, label, _kind_of_number(label, role=role, whole=whole, words=words), role), column


def _kind_of_number(label: str, *, role: str, whole: bool, words: set[str]) -> str:
    if label.startswith(SINCE):
        return DAYS
    if role == "survey":
        return SCORE
    if words & SPEND_WORDS and not words & NOT_MONEY:
        return MONEY
    if words & {"age", "alter"}:
        return YEARS
    return COUNT if whole and label.endswith(PLURALS) else NUMBER


def read_amounts(column: pd.Series) -> pd.Series | None:
    """Read texts that are numbers with currency signs, units or thousands, such as "€ 25,960"; None for others."""
    bare = column[_known(column)].astype(str).str.replace(UNITS, "", regex=True)
    decimal = decimal_sign(bare.tolist())
    if not decimal:
        return None
    plain = bare.where(bare.str.fullmatch(AMOUNT)).str.replace("." if decimal == "," else ",", "", regex=False)
    return pd.to_numeric(plain.str.replace(",", ".", regex=False), errors="coerce").reindex(column.index)


def decimal_sign(texts: Sequence[str]) -> str:
    """Guess the decimal sign of numbers with currency signs, units or thousands; empty where texts are no numbers.

    The last of two different separators is that of decimals; a single one is, unless three digits always follow it.

    Examples
    --------
    >>> decimal_sign(["€ 25,960", "€ 1,200"]), decimal_sign(["1.200,50 €"]), decimal_sign(["12,5"]), decimal_sign(["a"])
    ('.', ',', ',', '')
    """
    bare = [re.sub(UNITS, "", text) for text in texts]
    found = [text for text in bare if re.fullmatch(AMOUNT, text)]
    if not found or len(found) < MIN_DATES * len(bare) or any(re.match(r"0\d", text) for text in found):
        return ""
    both = next((text for text in found if "," in text and "." in text), "")
    if both:
        return max(".,", key=both.rfind)
    sign = "," if any("," in text for text in found) else "."
    other = "," if sign == "." else "."
    groups = [text.split(sign)[1:] for text in found if sign in text]
    return other if groups and all(len(part) == 3 for each in groups for part in each) else sign


def _whole_texts(column: pd.Series) -> pd.Series:
    return column.map(lambda value: f"{value:g}", na_action="ignore").astype(object)


def is_heavy_tailed(values: pd.Series) -> bool:
    """Return whether numbers are spread so unevenly that their ranks say more than their distances."""
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    quarter, three = np.quantile(values, [0.25, 0.75])
    left, right = middle - low, high - middle
    return bool(three == quarter or max(left, right) > 3 * min(left, right))


def _read_dates(column: pd.Series) -> pd.Series | None:
    """Return a column of texts as dates; None where they are none."""
    known = column[_known(column)].astype(str).str.strip()
    if known.empty or not known.str.contains(r"\d{4}", regex=True).mean() >= MIN_DATES:
        return None
    for form in DATE_FORMATS:
        dates = pd.to_datetime(known, format=form, errors="coerce", utc=True)
        if dates.notna().mean() >= MIN_DATES and dates.dt.year.between(1900, 2200).mean() >= MIN_DATES:
            return dates.dt.tz_localize(None).reindex(column.index)
    return None


def _read_day(
    dates: pd.Series, *, name: str, label: str, role: str, as_of: date
) -> tuple[str, Attribute | None, pd.Series | None]:
    days = (pd.Timestamp(as_of) - dates).dt.days.astype(float)
    if is_birth(name):
        years = np.floor(days / 365.25)
        return "a date of birth, as age", Attribute(name, "age", YEARS, role), years.where(years.between(0, OLDEST))
    if days.nunique() < 2:
        return "left out: the same for everyone", None, None
    words = re.sub(r"\b(date|day|at|on|timestamp)\b", "", label).strip() or label
    if days.median() < 0:
        return "a date, as days until it", Attribute(name, f"days until {words}", DAYS, role), -days
    return "a date, as days since it", Attribute(name, f"{SINCE}{words}", DAYS, role), days


def _read_category(
    texts: pd.Series, *, name: str, label: str, role: str
) -> tuple[str, Attribute | None, pd.Series | None]:
    lower = texts.str.lower()
    if set(lower.dropna()) <= YES_WORDS | NO_WORDS and lower.nunique() == 2:
        return _flag(lower.isin(YES_WORDS), known=texts.notna(), name=name, label=label, role=role)
    counts = texts.value_counts()
    if len(counts) > MANY_VALUES and len(counts) > counts.sum() / 2:
        return "left out: a text of its own for nearly every customer", None, None
    counts = counts.sort_index().sort_values(ascending=False, kind="stable")
    common = counts[counts >= max(FLOOR, MIN_LEVEL_SHARE * len(texts))].index[:MOST_LEVELS]
    covered = counts[common].sum() / counts.sum()
    if not len(common) or covered < MIN_COVERED:
        return f"left out: {len(counts):,} values, most of them rare", None, None
    read = texts.where(texts.isin(common) | texts.isna(), OTHER)
    if read.nunique() < 2:
        return "left out: nearly the same for everyone", None, None
    rest = len(counts) - len(common)
    how = f"a category of {len(common)} values" + (f"; {rest:,} rare ones count as other" if rest else "")
    return how, Attribute(name, label, CATEGORY, role), read


def _flag(
    yes: pd.Series, *, known: pd.Series, name: str, label: str, role: str
) -> tuple[str, Attribute | None, pd.Series | None]:
    if min(yes[known].sum(), (~yes[known]).sum()) < FLOOR:
        return "left out: nearly the same for everyone", None, None
    return "yes or no", Attribute(name, label, FLAG, role), pd.Series(np.where(yes, YES, NO), yes.index).where(known)


def _is_same(one: pd.Series, other: pd.Series, first: Attribute, second: Attribute) -> bool:
    """Return whether two columns say the same, so that they would count twice."""
    both = (one.notna() & other.notna()).to_numpy()
    a, b = one[both], other[both]
    if len(a) < FLOOR or a.nunique() < 2 or b.nunique() < 2:
        return False
    if first.is_number and second.is_number:
        return bool(abs(np.corrcoef(a.rank(), b.rank())[0, 1]) > SAME_NUMBERS)
    if first.is_number != second.is_number:
        values, groups = (a, b) if first.is_number else (b, a)
        ranks = values.rank()
        between = ranks.groupby(groups.to_numpy()).transform("mean").var()
        return bool(between / ranks.var() > SAME_MIXED)
    return _cramers_v(pd.crosstab(a, b).to_numpy()) > SAME_GROUPS


def _cramers_v(counts: np.ndarray) -> float:
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    return float(np.sqrt(((counts - expected) ** 2 / expected).sum() / counts.sum() / (min(counts.shape) - 1)))
