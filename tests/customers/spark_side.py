"""What the tests ask of Spark, in a process of its own: a line of JSON in for each state, "done" out."""

import json
import sys
from pathlib import Path

import ibis

from segkit.customers.days import Days, build_days
from segkit.customers.features import features_expression
from segkit.data.engine import open_engine
from segkit.data.runs import load_run
from segkit.period import Period
from segkit.segments.model import model_from_arrays
from segkit.segments.sql import assign_in_engine

PARTS = ("rows", "categories", "channels")


def main() -> None:
    """Take `left` and `right` (Parquet of events), write their days and the features into `out`."""
    con = open_engine(sys.argv[1], settings=json.loads(sys.argv[2]))
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "query" in asked:
            _ask_sql(con, asked)
            print("done", flush=True)
            continue
        if "place" in asked:
            _place(con, asked)
            print("done", flush=True)
            continue
        kinds, out = asked["kinds"], asked["out"]
        events = con.read_parquet(asked["left"]).union(con.read_parquet(asked["right"]))
        days = build_days(events, kinds=kinds)
        for part in PARTS:
            getattr(days, part).to_parquet(f"{out}/{part}", mode="overwrite")
        kept = Days(**{part: con.read_parquet(f"{out}/{part}") for part in PARTS})
        period = Period.parse(asked["as_of"], lookback_days=asked["lookback_days"], horizon_days=1)
        features = features_expression(kept, period=period, kinds=kinds)
        features.to_pandas().to_parquet(f"{out}/features.parquet")
        print("done", flush=True)


def _place(con: ibis.BaseBackend, asked: dict[str, str]) -> None:
    """Place `features` and `weights` (Parquet) by the model of the run `place`; the cluster writes `out`."""
    model = model_from_arrays(*load_run(asked["place"]).load_model())
    features, weights = (con.read_parquet(asked[part]) for part in ("features", "weights"))
    placed = assign_in_engine(model, features, weights=weights, confidence=True)
    placed.to_parquet(asked["out"], mode="overwrite")


def _ask_sql(con: ibis.BaseBackend, asked: dict[str, str]) -> None:
    """Run `query`, a file of segkit export, as its comments say, over `events` (Parquet); one file of rows in `out`."""
    text = Path(asked["query"]).read_text(encoding="utf-8")
    con.raw_sql("set spark.sql.session.timeZone = America/New_York")  # what the comments set does not depend on it
    for line in text.splitlines():
        if line.startswith("--   set "):
            con.raw_sql(line.removeprefix("--   ").rstrip(";"))
    con.read_parquet(asked["events"], table_name="segkit_events")
    con.sql(text.rstrip().rstrip(";"), dialect="spark").to_pandas().to_parquet(asked["out"])


if __name__ == "__main__":
    main()
