"""What has crashed the runtime is counted over processes, refused the third time, and allowed again on request."""

from collections.abc import Callable
from pathlib import Path

from tests.faults.crashing import answer_of_the_next_process, ask, dies, text
from tests.serving import Server

Serve = Callable[..., Server]


def test_a_request_that_crashed_twice_is_refused_until_the_record_is_cleared(
    family: str, serve: Serve, tmp_path: Path
) -> None:
    server = serve(family=family)
    struck = tmp_path / "struck"
    prompt = f"a secret <<script tokens=3 segv=2 once={struck}>>"
    for _ in range(2):
        struck.unlink(missing_ok=True)
        assert dies(server, prompt)
        assert text(answer_of_the_next_process(server, "<<script text=other>>")) == "other"
    refused = ask(server, prompt)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (422, "false")
    assert "DELETE /health/crashes" in refused.json()["error"]["message"]
    assert text(ask(server, "<<script text=other>>")) == "other"
    (crashed,) = server.get("/health").json()["crashes"].items()
    assert crashed[1] == 2
    assert "secret" not in crashed[0]
    assert server.delete("/health/crashes").json() == {"cleared": 1}
    assert server.get("/health").json()["crashes"] == {}
    assert text(ask(server, prompt)) == "w0 w1 w2"


def test_a_crash_that_does_not_come_again_is_forgotten(family: str, serve: Serve, tmp_path: Path) -> None:
    server = serve(family=family)
    prompt = f"<<script tokens=3 abrt=2 once={tmp_path / 'struck'}>>"
    assert dies(server, prompt)
    assert text(answer_of_the_next_process(server, prompt)) == "w0 w1 w2"
    assert server.get("/health").json()["crashes"] == {}


def test_a_model_whose_load_crashed_twice_is_refused_and_the_one_before_it_is_restored_each_time(
    family: str, serve: Serve, tmp_path: Path
) -> None:
    struck = tmp_path / "struck"
    server = serve(family=family, models={"good.rkllm": "", "bad.rkllm": f"segv=init\nonce={struck}"})
    assert text(ask(server, "<<script text=before>>", model="good")) == "before"
    for _ in range(2):
        struck.unlink(missing_ok=True)
        assert dies(server, "hello", model="bad")
        # No name: whatever is loaded answers, so the model has been restored and not only loaded for this request.
        after = answer_of_the_next_process(server, "<<script text=after>>", model=None)
        assert (text(after), after.json()["model"]) == ("after", "good")
    refused = ask(server, "hello", model="bad")
    assert (refused.status_code, refused.headers["x-should-retry"]) == (422, "false")
    assert "Loading 'bad' has crashed" in refused.json()["error"]["message"]
    assert text(ask(server, "<<script text=still>>", model=None)) == "still"
    server.delete("/health/crashes")
    assert text(ask(server, "<<script text=well>>", model="bad")) == "well"
