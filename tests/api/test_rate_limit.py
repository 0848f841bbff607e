"""So many requests a minute for each key, evenly, and by a clock that nobody sets."""

import pytest

from rkllama_flask.api.web.rate_limit import RateLimit
from tests.api.conftest import Api

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_may_come_at_once_and_then_it_fills_evenly() -> None:
    clock = Clock()
    limit = RateLimit(clock)
    assert [limit.take("a", 3) for _ in range(3)] == [0, 0, 0]
    assert limit.take("a", 3) == pytest.approx(20)
    clock.now = 19
    assert limit.take("a", 3) == pytest.approx(1)
    clock.now = 20.001
    assert limit.take("a", 3) == 0
    assert limit.take("a", 3) > 0


def test_one_client_does_not_use_up_anothers() -> None:
    limit = RateLimit(Clock())
    assert limit.take("a", 1) == 0
    assert limit.take("a", 1) > 0
    assert limit.take("b", 1) == 0


def test_a_limit_below_one_a_minute_is_kept_too() -> None:
    clock = Clock()
    limit = RateLimit(clock)
    assert limit.take("a", 0.5) == 0
    assert limit.take("a", 0.5) == pytest.approx(120)


def test_a_flood_of_names_takes_no_room_for_long() -> None:
    clock = Clock()
    limit = RateLimit(clock)
    for n in range(5000):
        clock.now = n / 10
        limit.take(str(n), 5)
    assert len(limit._buckets) < 2000


def test_who_asks_too_often_is_told_when_to_come_back_in_each_apis_shape(api: Api) -> None:
    api.configure(rate_limit=2, api_keys=("one", "two"))
    one = {"Authorization": "Bearer one"}
    assert [api.post("/v1/chat/completions", CHAT, headers=one).status_code for _ in range(2)] == [200, 200]
    refused = api.post("/v1/chat/completions", CHAT, headers=one)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.json["error"]["type"] == "rate_limit_exceeded"
    assert api.post("/v1/messages", {}, headers=one).json["error"]["type"] == "rate_limit_error"
    assert "Try again in" in api.post("/api/chat", {}, headers=one).json["error"]
    assert api.post("/v1/chat/completions", CHAT, headers={"Authorization": "Bearer two"}).status_code == 200
    assert api.get("/v1/models", headers=one).status_code == 200


def test_one_key_is_one_client_however_it_is_sent(api: Api) -> None:
    api.configure(rate_limit=2, api_keys=("one",))
    ways = [{"Authorization": "Bearer one"}, {"Authorization": "bearer   one"}, {"X-Api-Key": "one"}]
    assert [api.post("/v1/chat/completions", CHAT, headers=way).status_code for way in ways] == [200, 200, 429]


def test_wrong_keys_are_no_way_around_it_and_cost_the_right_one_nothing(api: Api) -> None:
    api.configure(rate_limit=1, api_keys=("one",))
    for n in range(3):
        assert api.post("/v1/chat/completions", CHAT, headers={"X-Api-Key": f"guess{n}"}).status_code == 401
    assert api.post("/v1/chat/completions", CHAT, headers={"X-Api-Key": "one"}).status_code == 200


def test_without_the_setting_nobody_is_counted(api: Api) -> None:
    assert {api.post("/v1/chat/completions", CHAT).status_code for _ in range(50)} == {200}
