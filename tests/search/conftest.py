from tests.steady import timing_decides_nothing  # noqa: F401  -- an autouse fixture
