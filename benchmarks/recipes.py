"""Run recipes and write recipes/RESULTS.md from what they come to.

    python benchmarks/recipes.py --out runs                       # every recipe that comes with edgekit
    python benchmarks/recipes.py --out runs fashion-cnn --again   # one; latency is measured anew

What is trained and compressed already is reused, so that a quiet hour can measure what a busy one trained. The table
holds every recipe that has results in --out, those in folders of their own too: they need code, packages or data that
their first lines name, and are run from where these lie (`edgekit run NAME.yaml --out runs/NAME`).
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

from edgekit.files import write_text
from edgekit.pipeline import run_recipe
from edgekit.progress import note
from edgekit.recipe import list_recipes, load_recipe
from edgekit.report.results_table import RecipeRun, results_table

HOME = Path(__file__).parents[1]


def main() -> None:
    """Run what is asked for, then write the table of all that there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="names; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="directory of the runs, one folder each")
    parser.add_argument("--again", action="store_true", help="measure latency anew")
    parser.add_argument("--table", type=Path, default=HOME / "recipes" / "RESULTS.md")
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    asked = parser.parse_args()
    known = list_recipes()
    for name in [] if asked.only_table else asked.recipes or known:
        note(f"recipe {name}", style="bold")
        place = asked.out / name
        if asked.again:
            (place / "steps" / "bench.json").unlink(missing_ok=True)
        run_recipe(load_recipe(known[name]), place)
    shown = sorted([*known, *(path.stem for path in (HOME / "recipes").glob("*/*.yaml"))])
    runs = [run_of(name, asked.out / name) for name in shown if (asked.out / name / "results.json").is_file()]
    write_text(asked.table, results_table(runs, "python benchmarks/recipes.py"))
    note(f"{len(runs)} recipes in {asked.table}")


def run_of(name: str, place: Path) -> RecipeRun:
    """What a finished run left."""
    report = json.loads((place / "results.json").read_text(encoding="utf-8"))
    training = place / "steps" / "train.json"  # not there where a model is taken as it is
    seconds = json.loads(training.read_text(encoding="utf-8"))["seconds"] if training.is_file() else 0.0
    measured = (place / "steps" / "bench.json").stat().st_mtime
    date = datetime.fromtimestamp(measured, UTC).date().isoformat()
    epochs = sum(epoch["seconds"] for epoch in report["training"].get("history", ()))  # of interrupted trainings too
    command = f"edgekit run {name}" if name in list_recipes() else f"edgekit run {name}.yaml"
    return RecipeRun(report, command, date, max(epochs, seconds))


if __name__ == "__main__":
    main()
