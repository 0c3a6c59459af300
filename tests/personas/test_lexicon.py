"""Names of needs: real groups of things, other languages, codes, and an analyst's own lexicon."""

import pandas as pd
import pytest

from segkit.errors import SourceError
from segkit.personas.lexicon import OWN, charges, parse_lexicon, read_lexicon
from segkit.personas.need_names import COLUMNS, flag_things, name_needs

GROCERY = {  # from Complete Journey, largest first
    "Quick family meals": "FRZN MEAT/MEAT DINNERS|FROZEN PIZZA|LUNCHMEAT|FROZEN MEAT|DINNER MXS:DRY|FRZN POTATOES",
    "Baby care": "DIAPERS & DISPOSABLES|INFANT FORMULA|BABY FOODS|BABY HBC|INFANT CARE PRODUCTS",
    "Wine, beer and spirits": "BEERS/ALES|DOMESTIC WINE|LIQUOR|IMPORTED WINE|MISC WINE|KITCHEN GADGETS|SUSHI",
    "Fresh produce": "BERRIES|TOMATOES|TROPICAL FRUIT|GRAPES|APPLES|ONIONS|STONE FRUIT|MELONS|PEPPERS-ALL|CARROTS",
    "Household supplies": "BATH TISSUES|LAUNDRY DETERGENTS|FD WRAPS/BAGS/TRSH BG|HOUSEHOLD CLEANG NEEDS|PAPER TOWELS|"
    "LAUNDRY ADDITIVES|DISHWASH DETERGENTS|AIR CARE|BLEACH",
    "Personal care": "HAIR CARE PRODUCTS|SHAVING CARE PRODUCTS|MAKEUP AND TREATMENT|FEMININE HYGIENE|DEODORANTS",
    "Health and pharmacy": "ANALGESICS|VITAMINS|COLD AND FLU|DIETARY AID PRODUCTS|COFFEE|SINUS AND ALLERGY|ANTACIDS",
    "Pet care and tobacco": "CIGARETTES|DOG FOODS|TOBACCO OTHER|CAT FOOD|CAT LITTER",
}
GIFTS = {  # from Online Retail
    "Afternoon tea": "REGENCY CAKESTAND 3 TIER|ROSES REGENCY TEACUP AND SAUCER|REGENCY TEAPOT ROSES",
    "Metal signs": "GIN + TONIC DIET METAL SIGN|COOK WITH WINE METAL SIGN|HOT BATHS METAL SIGN",
    "Shopping and lunch bags": "JUMBO BAG STRAWBERRY|LUNCH BAG RED RETROSPOT|JUMBO BAG APPLES|LUNCH BAG CARS BLUE",
    "Party decorations": "PARTY BUNTING|PAPER CHAIN KIT RETROSPOT|SET/20 RED RETROSPOT PAPER NAPKINS|PINK PARTY BAGS",
    "Cosy things and doormats": "DOORMAT HEARTS|LOVE HOT WATER BOTTLE|DOORMAT FAIRY CAKE|HAND WARMER BIRD DESIGN",
    "Cards and gift wrap": "RED RETROSPOT WRAP|SPACEBOY BIRTHDAY CARD|WRAP ENGLISH ROSE|SWALLOWS GREETING CARD",
    "Crafts and sewing": "FELTCRAFT DOLL MOLLY|FELTCRAFT CUSHION OWL|TRADITIONAL KNITTING NANCY",
    "Christmas decorations": "PAPER CHAIN KIT 50'S CHRISTMAS|CHRISTMAS LIGHTS 10 REINDEER|VINTAGE CHRISTMAS STOCKING",
}
GERMAN = {
    "Obst und Gemüse": "Obst|Gemüse|Salate|Kräuter",
    "Milch, Käse und Eier": "MOLKEREIPRODUKTE|KÄSE|Joghurt|Eier",
    "Putzen und Waschen": "Waschmittel|Putzmittel|WC-Reiniger|Müllbeutel",
    "Haustierbedarf": "Hundefutter|Katzenfutter|Katzenstreu",
    "Babypflege": "Windeln|Babynahrung|Feuchttücher",
    "Snacks und Süßes": "Süßwaren|Schokolade|Knabbergebäck",
    "Tabakwaren": "Zigaretten|Tabakwaren",
}
SAAS = {
    "Automating routine work": "workflow builder|api keys|webhooks|scheduled jobs",
    "Simple low-cost invoicing": "simple invoice|price page|billing settings|plan comparison",
    "Getting paid on time": "payment link|reminder|dunning letter|cash forecast",
    "Tax and audit": "tax report|receipt scan|ledger export|audit trail",
    "Running a team": "task board|shift plan|time sheet|team chat",
    "Winning new customers": "newsletter|landing page|contact form|lead list",
    "Selling online": "web shop|stock level|shipping label|product photo",
    "Booking appointments": "calendar|booking page|text reminder|waiting list",
    "Quotes and contracts": "quote|contract|e-signature|milestone",
    "Knowing the numbers": "profit report|custom chart|spreadsheet sync|benchmark",
    "Trying the product out": "tutorial|template gallery|sample data|invite friend",
    "Serving customers": "shared inbox|help desk|canned reply|feedback form",
    "Everyday basics": "login|dashboard|profile|notifications|help page|search",
}
SHOPS = {  # each is a data set of its own kind
    "fashion": {
        "Underwear and hosiery": "Bra|Underwear bottom|Socks",
        "Swimwear and holiday looks": "Bikini top|Sarong",
    },
    "sports": {"Running": "Running shoes men|Running shorts", "Camping": "Tent 2P|Sleeping bag|Camping stove"},
    "bank": {"Investing": "Funds|Securities", "Everyday banking": "Current Accounts|Direct Debit"},
    "events": {"Getting help": "contact_support|faqView", "Buying and tracking orders": "add_to_cart|checkout"},
    "departments": {
        "Home and living": "bed_bath_table|furniture_decor",
        "Health and beauty": "health_beauty|perfumery",
    },
}
OWN_LEXICON = """
needs:
  - {key: sunday_lunch, label: Sunday lunch, job: eat together, keywords: [beef, carrots]}
"""


def _things(groups: dict[str, str]) -> pd.DataFrame:
    rows = [
        (f"N{number:02d}", thing, 100.0 - 5 * place)
        for number, names in enumerate(groups.values(), start=1)
        for place, thing in enumerate(names.split("|"))
    ]
    return pd.DataFrame(rows, columns=["need", "thing", "spend"])


def _names(groups: dict[str, str], **options: object) -> list[str]:
    return name_needs(_things(groups), **options)["name"].tolist()


@pytest.mark.parametrize("groups", [GROCERY, GIFTS, SAAS, *SHOPS.values()], ids=["grocery", "gifts", "saas", *SHOPS])
def test_real_groups_of_things_get_the_name_a_marketer_would_use(groups: dict[str, str]) -> None:
    named = name_needs(_things(groups))

    assert named["name"].tolist() == list(groups)
    assert list(named) == COLUMNS and set(named["named_by"]) == {"lexicon"}
    assert named["match"].between(0.4, 1.0).all() and named["job"].str.len().min() > 5


def test_german_things_are_matched_and_named_in_german() -> None:
    assert _names(GERMAN, language="de") == list(GERMAN)


def test_needs_and_things_that_call_for_care_are_flagged() -> None:
    named = name_needs(_things(GROCERY)).set_index("name")["sensitive"]
    things = ["DOMESTIC WINE", "CIGARETTES", "ANALGESICS", "BABY FOODS", "GRAPES", "DOG FOODS", "CHEESES"]
    flagged = flag_things(things).set_index("thing")

    assert set(named[named].index) == {
        "Baby care", "Wine, beer and spirits", "Health and pharmacy", "Pet care and tobacco",
    }  # fmt: skip
    assert flagged.index[flagged["never_offer"]].tolist() == ["DOMESTIC WINE", "CIGARETTES", "ANALGESICS"]
    assert flagged.index[flagged["sensitive"]].tolist() == ["DOMESTIC WINE", "CIGARETTES", "ANALGESICS", "BABY FOODS"]
    assert not flag_things(GIFTS["Metal signs"].split("|"))["never_offer"].any(), "a sign is no gin"


def test_a_need_that_the_lexicon_does_not_know_is_named_by_its_things() -> None:
    groups = {
        "Молоко and сыр": "Молоко|Сыр",
        "A17, B03 and similar": "A17|B03|C99",
        "Vin rouge and similar things": "Vin rouge|Vin blanc|Vin gris",
        "SKU 12 and SKU 40": "SKU 12|SKU 40",
        "10023": "10023",
        "Cama mesa banho": "cama_mesa_banho",
        "Gizmos and contraptions": "GIZMOS/GADGETRY|CONTRAPTIONS",
        "Flux widgets and quux blobs": "SUPER DUPER FLUX WIDGETS|MEGA GRAND QUUX BLOBS",
    }
    named = name_needs(_things(groups))

    assert named["name"].tolist() == list(groups)
    assert set(named["named_by"]) == {"things"} and (named["match"] == 0).all() and (named["label"] == "").all()


def test_long_product_names_are_named_by_the_phrases_that_they_share() -> None:
    colours = ("RED", "BLUE", "PINK", "GREEN", "IVORY", "BLACK")
    groups = {
        "a": "|".join(f"EDWARDIAN ZORB {colour}" for colour in colours),
        "b": "|".join(f"LARGE ACAPULCO QUIB {colour} X2 PCS" for colour in colours),
    }
    names = _names(groups)

    assert names == ["Edwardian zorb", "Acapulco quib"]


def test_an_entry_that_fits_two_needs_names_the_one_it_fits_better() -> None:
    groups = {
        "a": "DOG FOODS|CAT FOOD|CAT LITTER", "b": "BIRD SEED|GIZMOS", "c": "SOFT DRINKS|BAG SNACKS",
        "d": "HAIR CARE PRODUCTS|DEODORANTS|SHAVING CARE PRODUCTS", "e": "DIAPERS|INFANT FORMULA",
    }  # fmt: skip
    named = name_needs(_things(groups))
    twins = _names({"a": "A17|B03", "b": "A17|B03"})

    assert named["name"].tolist()[:2] == ["Pet care", "Bird seed and gizmos"]
    assert named["runner_up"].tolist()[1] == "Pet care"
    assert twins == ["A17 and B03", "A17 and B03 N02"]


def test_what_most_needs_have_names_none_of_them() -> None:
    everywhere = {"a": "MILK|DOG FOODS", "b": "MILK|CIGARETTES", "c": "MILK|COFFEE", "d": "MILK|NAPPIES"}
    named = name_needs(_things(everywhere))

    assert named["name"].tolist() == ["Pet care", "Tobacco", "Coffee and tea", "Baby care"]


def test_labels_of_the_source_come_before_raw_names_and_the_background_before_the_needs() -> None:
    things = _things({"a": "COUPON/MISC ITEMS", "b": "REFRIGERATED|FROZEN"})
    labels = {
        "COUPON/MISC ITEMS": "fuel", "REFRIGERATED": "chilled natural food", "FROZEN": "frozen natural food",
    }  # fmt: skip
    all_spend = pd.Series({"COUPON/MISC ITEMS": 100.0, "REFRIGERATED": 100.0, "FROZEN": 100.0, "organic": 9e6})

    assert name_needs(things, labels=labels)["name"].tolist() == ["Fuel", "Natural and organic food"]
    unspecific = name_needs(things, labels=labels, background=all_spend)
    assert unspecific["name"].tolist() == ["Fuel", "Food and drink"], "most of natural food is in no need"


def test_the_result_does_not_depend_on_the_order_of_rows_and_odd_input_is_survived() -> None:
    things = _things(GROCERY)
    odd = pd.DataFrame({"need": ["a", "b"], "thing": ["milk", "?"], "spend": [-5.0, float("nan")]})

    pd.testing.assert_frame_equal(name_needs(things), name_needs(things.sample(frac=1, random_state=3)))
    assert name_needs(odd)["name"].tolist() == ["Need a", "Need b"]
    assert list(name_needs(odd[:0])) == COLUMNS and name_needs(odd[:0]).empty and flag_things([]).empty
    assert _names({"a": "milk"}) == ["Milk, cheese and eggs"], "one thing"
    assert _names({"a": "Basic", "b": "Pro", "c": "Team"}) == ["Basic", "Pro", "Team"], "a plan is no clothing"


def test_an_analysts_entries_are_preferred_and_replace_those_of_the_package(tmp_path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(OWN_LEXICON, encoding="utf-8")
    own = read_lexicon(file)

    assert _names({"a": "beef|carrots", "b": "soap|shampoo"}, lexicon=own)[0] == "Sunday lunch"
    assert own.verticals[-1] == OWN and len(own.entries) == len(read_lexicon(None).entries) + 1
    file.write_text(OWN_LEXICON.replace("sunday_lunch", "pets"), encoding="utf-8")
    assert [e.label for e in read_lexicon(file).entries if e.key == "pets"] == ["Sunday lunch"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("Sunday lunch", "What we eat on Sundays"), "own.yaml: needs 1: label: .* has 5 words. Write 1 to 4."),
        (("[beef, carrots]", "[]"), "own.yaml: needs 1: keywords: found .*, expected a list of words or phrases"),
        (("[beef, carrots]", "['12']"), "own.yaml: needs 1: keywords 1: '12' has no letters"),
        (("[beef, carrots]", "['be*ef']"), "a star stands at the start or the end of one word"),
        (("job: eat together", "jobs: eat together"), "unknown key 'jobs'. Did you mean 'job'"),
        (("sunday_lunch", "Sunday Lunch"), "expected a key of small letters"),
        (("needs:", "need:"), "the key 'needs' is missing"),
    ],
)
def test_a_bad_entry_is_refused_with_its_place_and_what_to_do(wrong: tuple[str, str], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        parse_lexicon(OWN_LEXICON.replace(*wrong), label="own.yaml", vertical=OWN)


def test_a_repeated_key_and_a_missing_file_are_refused(tmp_path) -> None:
    with pytest.raises(SourceError, match="two needs have the key 'sunday_lunch'. Rename one of them."):
        parse_lexicon(OWN_LEXICON + OWN_LEXICON.split("needs:")[1], label="own.yaml", vertical=OWN)
    with pytest.raises(SourceError, match="nothing.yaml: there is no such file"):
        read_lexicon(tmp_path / "nothing.yaml")


def test_the_lexicon_of_the_package_is_large_and_without_repeats() -> None:
    lexicon = read_lexicon(None)
    labels = [entry.label.lower() for entry in lexicon.entries]
    german = [entry.label_de for entry in lexicon.entries]

    assert len(lexicon.entries) >= 200 and len(set(lexicon.verticals)) == 13
    assert len(set(labels)) == len(labels) and len({entry.key for entry in lexicon.entries}) == len(labels)
    assert all(german) and len(set(german)) == len(german)
    assert all(len(entry.label.split()) <= 4 and not entry.job.endswith(".") for entry in lexicon.entries)
    assert all(entry.sensitive or entry.charge for entry in lexicon.entries if entry.never_offer)


def test_postage_and_fees_are_charges_and_not_things_that_customers_come_for() -> None:
    things = ["POSTAGE", "DOTCOM POSTAGE", "Bank Charges", "Versandkosten", "RED MUG", "SHIPPING LABEL", "Q1"]
    assert charges(things, labels={"Q1": "Delivery fee"}) == {*things[:4], "Q1"}
