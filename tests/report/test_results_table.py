from __future__ import annotations

from edgekit.report.results_table import RecipeRun, results_table

from .test_report import facts_of, model


def test_a_section_a_recipe_with_command_date_and_machine() -> None:
    models = [model("base", 1000, 0.98, 1.0, 1.0), model("int8", 250, 0.975, 0.4, 2.5)]
    models[1]["metric"]["test"]["also"] = {"x": {"name": "calibration-error", "value": 0.021, "unit": ""}}
    models[1]["metric"]["test"]["drift"] = {"name": "snr", "value": 31.25, "unit": "dB"}
    models[1]["generation"] = {"tokens_per_second": 12.34}
    facts = facts_of(models)
    facts["training"] = {"history": [{"epoch": 1}]}
    facts["export"] = {"torch": {}, "max_length": {"after": 64, "before": 128}}
    text = results_table([RecipeRun(facts, "edgekit run tiny", "2026-01-02", 90.0)], "python make.py")
    assert "Written by `python make.py`" in text
    assert "`edgekit run tiny`, 2026-01-02: cnn/pico, trained on digits in 1.5 min; cpu, batch 1, 2 threads of" in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [len(row) for row in rows] == [9, 9, 9]
    assert rows[2][0] == "| **int8**"
    assert rows[2][3] == "**calibration-error 2.10 %, snr 31.25 dB, 12.3 tokens/s**"
    assert rows[2][5] == "**4.00x**"
    assert "- longest text: 64 tokens of 128" in text
