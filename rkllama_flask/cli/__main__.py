"""Use a running server from the command line.

Models come from Hugging Face (org/repo, org/repo:file, org/repo:quantisation) and are then used by their names.
"""

import argparse
import os
import sys
from collections.abc import Callable

from rkllama_flask.cli import commands
from rkllama_flask.cli.client import Client, Failed
from rkllama_flask.settings import Settings, SettingsError

_EXAMPLES = """\
examples:
  rkllama pull org/repo             the file made for this board, with tokenizer and template
  rkllama run qwen3-0.6b            a conversation; Ctrl-D ends it
  rkllama run qwen3-0.6b "Why?"     one answer
  cat text | rkllama run qwen3-0.6b "Summarise:"

The server is looked for where its own settings say, unless --server or RKLLAMA_URL name another.
RKLLAMA_API_KEY is the key for one that wants keys.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code: 0, 1 for what failed, 130 for what was interrupted."""
    parsed = _parse(arguments)
    try:
        act: Callable[[Client, argparse.Namespace], None] = parsed.act
        act(_client(parsed.server), parsed)
        sys.stdout.flush()
    except (Failed, SettingsError) as error:
        print(f"rkllama: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains when it flushes at its end
        return 1
    return 0


def _client(server: str | None) -> Client:
    url, key = server or os.environ.get("RKLLAMA_URL"), os.environ.get("RKLLAMA_API_KEY")
    if url:
        return Client(url if "://" in url else f"http://{url}", key)
    settings = Settings.from_environment()
    if settings.host.startswith("unix:"):
        raise Failed("The server listens on a unix socket: say with --server where it is reached by HTTP.")
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    return Client(f"http://{host}:{settings.port}", key or next(iter(settings.api_keys), None))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    """Also a prompt behind options, as in `run model --think "Why?"`: older argparse looks for it before them alone."""
    parser = _parser()
    parsed, rest = parser.parse_known_args(arguments)
    if rest and ("prompt" not in parsed or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        parsed.prompt += rest
    return parsed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rkllama", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", metavar="URL", help="where the server is, such as http://board:8080")
    commanded = parser.add_subparsers(title="commands", required=True, metavar="command")

    def add(name: str, act: Callable[[Client, argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        command = commanded.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.set_defaults(act=act)
        return command

    add("list", commands.list_models, "the models on disk")
    command = add("pull", commands.pull, "fetch a model from Hugging Face, or look whether it changed")
    command.add_argument("model", help="org/repo, org/repo:file or org/repo:quantisation")
    command = add("show", commands.show, "all that is known about a model")
    command.add_argument("model")
    for part in ("modelfile", "parameters", "template", "system", "license"):
        command.add_argument(f"--{part}", dest="part", action="store_const", const=part, help=f"only its {part}")
    add("ps", commands.list_loaded, "the models that are loaded")
    command = add("run", commands.run, "talk with a model")
    command.add_argument("model", help="its name; one that isn't here and names a repository is pulled")
    command.add_argument("prompt", nargs="*", help="without it, and without a pipe: a conversation")
    command.add_argument("--system", help="what the model is told before everything else")
    command.add_argument("--think", action=argparse.BooleanOptionalAction, help="whether the model is to think first")
    command.add_argument("--verbose", action="store_true", help="tokens and speeds after each answer")
    command = add("rm", commands.remove, "delete models")
    command.add_argument("models", nargs="+", metavar="model")
    command = add("cp", commands.copy, "give a model another name; the weights are shared")
    command.add_argument("source")
    command.add_argument("destination")
    command = add("create", commands.create, "make a model of a Modelfile; files that it names here are uploaded")
    command.add_argument("model")
    command.add_argument(
        "-f",
        "--file",
        default="Modelfile",
        help="the Modelfile (%(default)s), or the weights alone; - for standard input",
    )
    command = add("stop", commands.stop, "unload a model")
    command.add_argument("model")
    return parser


if __name__ == "__main__":
    sys.exit(main())
