"""What the hub has, through its own client library; its errors become sentences."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

from rkllama_flask.catalog.pull.choice import RemoteFile
from rkllama_flask.errors import PullFailed

TIMEOUT = 20.0
"""Seconds without a byte after which a connection counts as lost."""

ConnectionLost = (httpx2.TransportError,)
"""What a transfer that may be taken up again raises."""


@dataclass(frozen=True)
class Repository:
    """A repository as it was at one commit, `revision`; `base` is the one its weights were converted from."""

    name: str
    revision: str
    files: tuple[RemoteFile, ...]
    base: str | None


class Hub:
    """The hub at `endpoint`, asked with `token`, or with the one that `hf auth login` left if that is None."""

    def __init__(self, endpoint: str, token: str | None) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._token = token
        self._api = HfApi(endpoint=self.endpoint, token=token)

    def look(self, repo: str) -> Repository:
        """What a repository has now. Raises PullFailed."""
        try:
            with self._explained(repo):
                info = self._api.model_info(repo, files_metadata=True, timeout=TIMEOUT)
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # what the library makes of other answers
            raise self._no_hub() from error
        files = tuple(
            RemoteFile(one.rfilename, one.size, one.lfs.sha256 if one.lfs else None, one.blob_id)
            for one in info.siblings or ()
            if one.size is not None
        )
        if info.sha is None or not all(_safe(file.path) for file in files):
            raise self._no_hub()
        card = info.card_data
        base = card.get("base_model") if card else None
        relation = card.get("base_model_relation") if card else None
        bases = [base] if isinstance(base, str) else base if isinstance(base, list) else []
        same = relation in (None, "quantized") and len(bases) == 1 and isinstance(bases[0], str)
        return Repository(info.id or repo, info.sha, files, bases[0] if same else None)

    @contextmanager
    def open(self, repo: str, revision: str, file: RemoteFile, start: int) -> Iterator[httpx2.Response]:
        """The bytes of a file from `start` on, if the status is 206. Raises PullFailed, and ConnectionLost."""
        url = hf_hub_url(repo, file.path, revision=revision, endpoint=self.endpoint)
        headers = build_hf_headers(token=self._token) | {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with (
            self._explained(repo, transfer=True),
            http_stream_backoff(
                "GET", url, headers=headers, timeout=TIMEOUT, retry_on_exceptions=(), follow_redirects=True
            ) as response,
        ):
            hf_raise_for_status(response)
            yield response

    def _no_hub(self) -> PullFailed:
        return PullFailed(f"{self.endpoint} doesn't answer as Hugging Face does: check HF_ENDPOINT.", status=502)

    @contextmanager
    def _explained(self, repo: str, *, transfer: bool = False) -> Iterator[None]:
        where = urlsplit(self.endpoint).netloc
        try:
            yield
        except GatedRepoError as error:
            raise PullFailed(
                f"{repo} is given only to those who accepted its conditions: do so on {self.endpoint}/{repo}, and set "
                "HF_TOKEN to a token of that account.",
                status=403,
            ) from error
        except DisabledRepoError as error:
            raise PullFailed(f"{repo} was disabled by {where}.", status=403) from error
        except (RepositoryNotFoundError, HFValidationError) as error:
            # The first words are Ollama's, which its clients know.
            raise PullFailed(
                f"pull model manifest: file does not exist: {where} has no {repo}, or it is private and HF_TOKEN is "
                "not of an account that may see it",
                status=404,
            ) from error
        except LocalTokenNotFoundError as error:
            raise PullFailed(str(error), status=401) from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            advice = "set HF_TOKEN to a valid token" if status == 401 else "try again later"
            raise PullFailed(f"{where} answered {status} to a question for {repo}: {advice}.", status=502) from error
        except (OfflineModeIsEnabled, httpx2.TransportError) as error:
            if transfer:
                raise
            raise PullFailed(
                f"{where} can't be reached ({_reason(error)}). Check this machine's network, set HF_ENDPOINT to a "
                "mirror, or copy the model's files into the models folder by hand.",
                status=502,
            ) from error


def _safe(path: str) -> bool:
    """Whether a path stays where it is put: the hub's word for it is not enough."""
    return path.isprintable() and not path.startswith("/") and ".." not in path.split("/") and "\\" not in path


def _reason(error: Exception) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    return str(error) or ("it didn't answer in time" if isinstance(error, httpx2.TimeoutException) else "no connection")
