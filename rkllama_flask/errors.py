"""Everything that can be said to a client as an error, once; each API dialect renders it in its own shape.

RkllamaError                    500
├── InvalidRequest              400   a field is wrong; `param` names it
│   ├── ContextLengthExceeded   400   both counts are known before anything is sent
│   ├── TemplateFailed          400   the model's chat template refused these messages, in its own words
│   └── UnsupportedRequest      400   the answer would be wrong without something that can't be had here
├── Unauthorized                401
├── Forbidden                   403
├── NotFound                    404
│   ├── ModelNotFound           404
│   └── CacheNotFound           404
├── RequestTimedOut             408   the request's body stopped coming
├── PayloadTooLarge             413
├── TooManyRequests             429   more than RATE_LIMIT allows this client; `retry_after` says when
├── ModelUnusable               422   the file can't be loaded here, and trying again won't change that
├── StorageFull                 507   the disk or the room for caches is full
├── Unavailable                 503   try again: `retry_after` says when
│   ├── QueueFull
│   ├── WaitedTooLong
│   ├── Draining
│   ├── RuntimeBusy                   another process holds the NPU
│   └── ProcessSpent                  this process can load nothing more; its successor can
├── PullFailed                  500   a model could not be fetched; `status` is told where the dialect allows it
├── AnswerUnfit                 500   the model's answer is not the JSON that was asked for; another try may be
├── RuntimeFailed               500   the runtime failed in a run
│   └── LibraryUnusable         500   no library, or a foreign one
└── TimedOut                    504   a deadline passed
    └── RuntimeHung             504   the runtime hangs, and its process is replaced

The official SDKs repeat every status of 500 and above by themselves, so an error that would only come again carries
`should_retry = False`, which is sent as `x-should-retry: false`.
"""


class RkllamaError(Exception):
    """An error with a sentence that its reader can act on.

    `status` is the HTTP status, `code` a stable word for programs, `param` the request field at fault,
    `retry_after` whole seconds, `should_retry` what to tell SDKs (None: let them decide). `quotes` says that the
    sentence may hold words of the request or of the answer, which belong in no log.
    """

    status = 500
    code = "internal_error"
    should_retry: bool | None = None
    quotes = False

    def __init__(self, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after

    @property
    def log_text(self) -> str:
        """What may stand in a log."""
        return "only the client was told why" if self.quotes else self.message


class InvalidRequest(RkllamaError):
    status = 400
    code = "invalid_request"
    quotes = True


class ContextLengthExceeded(InvalidRequest):
    """The prompt does not fit: `prompt_tokens` against `limit`, both in tokens.

    `largest` is the context that the model was made for, where that is known to be larger than the one it has.
    """

    code = "context_length_exceeded"

    def __init__(
        self, prompt_tokens: int, limit: int, *, param: str | None = "messages", largest: int | None = None
    ) -> None:
        advice = f"Shorten it, or load the model with a larger context, up to {largest}." if largest else "Shorten it."
        super().__init__(
            f"The prompt has {prompt_tokens} tokens, but this model's context takes at most {limit}. {advice}",
            param=param,
        )
        self.prompt_tokens = prompt_tokens
        self.limit = limit


class TemplateFailed(InvalidRequest):
    code = "template_failed"


class UnsupportedRequest(InvalidRequest):
    code = "unsupported"


class Unauthorized(RkllamaError):
    status = 401
    code = "invalid_api_key"


class Forbidden(RkllamaError):
    status = 403
    code = "forbidden"


class NotFound(RkllamaError):
    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    """No model of this name is on disk."""

    code = "model_not_found"

    def __init__(self, name: str, *, param: str | None = "model") -> None:
        super().__init__(f"model '{name}' not found", param=param)
        self.name = name


class CacheNotFound(NotFound):
    code = "cache_not_found"


class RequestTimedOut(RkllamaError):
    status = 408
    code = "request_timeout"


class PayloadTooLarge(RkllamaError):
    status = 413
    code = "payload_too_large"


class TooManyRequests(RkllamaError):
    """Of one client; the SDKs wait and repeat it by themselves."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, retry_after=min(max(1, retry_after), 60))


class ModelUnusable(RkllamaError):
    """This model can't be loaded here; the message says why and what to do."""

    status = 422
    code = "model_unusable"
    should_retry = False


class ContextTooLarge(ModelUnusable):
    """The model was made for a context of `limit` tokens at most."""

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class StorageFull(RkllamaError):
    """Something can't be kept for want of room; nothing of it is left behind."""

    status = 507
    code = "storage_full"
    should_retry = False


class Unavailable(RkllamaError):
    """`retry_after` is from 1 to 60 seconds: SDKs don't wait longer than that."""

    status = 503
    code = "unavailable"

    def __init__(self, message: str, *, param: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, param=param, retry_after=min(max(1, retry_after), 60))


class QueueFull(Unavailable):
    code = "queue_full"


class WaitedTooLong(Unavailable):
    code = "waited_too_long"


class Draining(Unavailable):
    code = "draining"


class RuntimeBusy(Unavailable):
    code = "runtime_busy"


class ProcessSpent(Unavailable):
    """A load failed in a way after which the runtime can't be trusted in this process; a new one takes over."""

    code = "process_spent"


class PullFailed(RkllamaError):
    """A model could not be fetched from the hub; nothing was listed."""

    code = "pull_failed"
    should_retry = False

    def __init__(self, message: str, *, status: int = 500) -> None:
        super().__init__(message, param="model")
        self.status = status


class AnswerUnfit(RkllamaError):
    """The answer is checked against the client's JSON Schema when it is whole; a fresh answer may be right."""

    code = "answer_unfit"
    quotes = True


class RuntimeFailed(RkllamaError):
    code = "runtime_failed"
    should_retry = False


class LibraryUnusable(RuntimeFailed):
    code = "library_unusable"


class TimedOut(RkllamaError):
    status = 504
    code = "timed_out"
    should_retry = False


class RuntimeHung(TimedOut):
    code = "runtime_hung"
