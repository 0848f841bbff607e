"""`run`: one answer, or a conversation."""

import sys
from dataclasses import dataclass, field
from typing import Any

from rkllama_flask.cli.client import Client, Failed
from rkllama_flask.cli.output import harmless

_HELP = """\
/clear   forget what was said
/bye     leave (as Ctrl-D does)
Ctrl-C   stop an answer
Begin with \"\"\" for several lines, and end them with \"\"\"."""
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


@dataclass
class Conversation:
    """What was said so far. `think` None leaves it to the model whether it thinks."""

    client: Client
    model: str
    system: str | None = None
    think: bool | None = None
    verbose: bool = False
    messages: list[dict[str, str]] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Ask, and write the answer as it comes; an answer that is stopped counts as it is. Raises Failed."""
        self.messages.append({"role": "user", "content": text})
        pieces: list[str] = []
        last: dict[str, Any] = {}
        screen = _Screen()
        try:
            for last in self.client.stream("/api/chat", self._body()):
                message = last["message"]
                screen.think(message.get("thinking", ""))
                screen.write(message["content"])
                pieces.append(message["content"])
        except BaseException:
            if not pieces:
                self.messages.pop()
            raise
        finally:
            screen.end()
            if pieces:
                self.messages.append({"role": "assistant", "content": "".join(pieces)})
        if self.verbose:
            print(_figures(last), file=sys.stderr)

    def clear(self) -> None:
        self.messages.clear()

    def _body(self) -> dict[str, Any]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        body: dict[str, Any] = {"model": self.model, "messages": [*system, *self.messages]}
        return body | ({} if self.think is None else {"think": self.think})


def converse(conversation: Conversation) -> None:
    """Read from the terminal and answer, until the user leaves; what fails is told, and goes on."""
    import readline  # noqa: F401 - gives `input` its history and its keys

    print("/? for help")
    while True:
        try:
            text = _read()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\nCtrl-D or /bye to leave")
            continue
        match text:
            case "":
                continue
            case "/bye":
                return
            case "/clear":
                conversation.clear()
            case "/?" | "/help":
                print(_HELP)
            case _:
                try:
                    conversation.say(text)
                except KeyboardInterrupt:
                    print()
                except Failed as error:
                    print(error, file=sys.stderr)


def _read() -> str:
    text = input(">>> ").strip()
    if not text.startswith('"""'):
        return text
    lines = [text.removeprefix('"""')]
    while not lines[-1].rstrip().endswith('"""'):
        lines.append(input("... "))
    return "\n".join(lines).strip().removesuffix('"""').strip()


class _Screen:
    """Where an answer is written. Thoughts are shown on a terminal only, and dimmed."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._thinks = False
        self._line_is_open = False

    def think(self, text: str) -> None:
        if text and self._is_terminal:
            self._put(f"{'' if self._thinks else _DIM}{harmless(text)}", text)
            self._thinks = True

    def write(self, text: str) -> None:
        if text:
            self._stop_thinking()
            self._put(harmless(text) if self._is_terminal else text, text)

    def end(self) -> None:
        self._stop_thinking()
        if self._line_is_open:
            self._put("\n", "\n")

    def _stop_thinking(self) -> None:
        if self._thinks:
            self._thinks = False
            self._put(f"{_PLAIN}\n\n", "\n")

    def _put(self, shown: str, text: str) -> None:
        sys.stdout.write(shown)
        sys.stdout.flush()
        self._line_is_open = not text.endswith("\n")


def _figures(last: dict[str, Any]) -> str:
    """Tokens and their speeds, of the last line of an answer; durations are in ns."""

    def speed(kind: str) -> str:
        count, seconds = last.get(f"{kind}_count", 0), last.get(f"{kind}_duration", 0) / 1e9
        return f"{count} tokens" + (f", {count / seconds:.1f}/s" if seconds else "")

    cached = last.get("prompt_eval_cached_count")
    kept = f", {cached} of them cached" if cached else ""
    total = last.get("total_duration", 0) / 1e9
    return f"prompt: {speed('prompt_eval')}{kept}; answer: {speed('eval')}; {total:.1f} s in all"
