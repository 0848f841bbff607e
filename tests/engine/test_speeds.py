"""How long what runs will go on, by what has been measured."""

from collections.abc import Callable

import pytest

from rkllama_flask.engine.jobs import Generate, ModelSpec
from rkllama_flask.engine.models.speeds import Speeds

MILLISECOND = 1_000_000


@pytest.fixture
def spec(model: Callable[..., ModelSpec]) -> ModelSpec:
    return model()


@pytest.fixture
def speeds(spec: ModelSpec) -> Speeds:
    """Answers have had 100 tokens of 10 ms: a second."""
    speeds = Speeds()
    speeds.of(spec).saw_answer(100, 1000 * MILLISECOND, whole=True)
    return speeds


@pytest.mark.parametrize(
    ("limit", "taken", "left"), [(None, 0.4, 0.6), (None, 5.0, 5.0), (800, 3.0, 3.0), (800, 6.0, 2.0), (20, 9.0, 0.0)]
)
def test_an_answer_longer_than_usual_goes_on_as_long_again_within_its_limit(
    speeds: Speeds, spec: ModelSpec, limit: int | None, taken: float, left: float
) -> None:
    job = Generate(spec=spec, prompt=(), max_tokens=limit)
    assert speeds.left(job, taken) == pytest.approx(left)


def test_of_a_model_that_has_not_answered_yet_nothing_is_known(spec: ModelSpec) -> None:
    assert Speeds().left(Generate(spec=spec, prompt=()), 5.0) == 0
