"""MLPerf's scenarios, generated and judged by its own LoadGen."""

from edgekit.bench.scenarios.records import LoadPlan, Scenario, ScenarioReport, ScenarioResult, official
from edgekit.bench.scenarios.run import ScenariosInterrupted, run_scenarios

__all__ = [
    "LoadPlan",
    "Scenario",
    "ScenarioReport",
    "ScenarioResult",
    "ScenariosInterrupted",
    "official",
    "run_scenarios",
]
