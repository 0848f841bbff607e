"""One loaded model: a handle of the C library with Python manners.

Every method but `abort` is for one thread, the one that opened the context. None of them logs, takes a lock of
`threading` or imports anything: under gevent each of these would wait for a greenlet.
"""

from collections.abc import Callable, Sequence
from ctypes import POINTER, byref, c_int, c_int32, c_void_p, cast, pointer
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rkllama_flask.errors import ModelUnusable, RuntimeFailed, UnsupportedRequest
from rkllama_flask.runtime import guards
from rkllama_flask.runtime.abi import (
    GENERATE,
    GO_ON,
    INPUT_PROMPT,
    INPUT_TOKEN,
    LAST_HIDDEN_LAYER,
    CallFailed,
    LLMResultCallback,
    RKLLMLoraAdapter,
    RKLLMLoraParam,
    RKLLMPromptCacheParam,
)
from rkllama_flask.runtime.library import Library
from rkllama_flask.runtime.log import listening
from rkllama_flask.runtime.log_lines import ModelFacts, failure, prompt_tokens, read_facts, saved
from rkllama_flask.runtime.run import EmbedResult, Run, RunStatistics
from rkllama_flask.sampling import Sampling

__all__ = ["Context", "ContextParameters", "EmbedResult", "ModelFacts", "RunStatistics"]

_ADAPTER = b"adapter"


@dataclass(frozen=True)
class ContextParameters:
    """What a model is loaded with.

    `context_length` is in tokens (rounded down to a multiple of 32), `max_new_tokens` -1 means to the end.
    `sampling` leaves to the runtime what it does not say. `cpus` are the cores that help the NPU, None the library's
    choice. `embed_flash` leaves the embedding table in the file. `adapters` are (LoRA path, scale), one at most.
    """

    model_path: Path
    context_length: int
    max_new_tokens: int = -1
    sampling: Sampling = Sampling()
    cpus: tuple[int, ...] | None = None
    embed_flash: bool = True
    base_domain_id: int = 0
    adapters: tuple[tuple[Path, float], ...] = ()


class Context:
    """A model in memory, ready to run.

    `sampling` is complete: what init really used. `facts` is what the library said about the model. `context_length`
    is in tokens; a prompt may take four less.
    """

    def __init__(self, library: Library, parameters: ContextParameters) -> None:
        """For `open` only."""
        self.library = library
        self.sampling = parameters.sampling
        self.facts = ModelFacts()
        self.context_length = parameters.context_length
        self._name = parameters.model_path.name
        self._handle = c_void_p(None)
        self._lora: RKLLMLoraParam | None = None
        self._run: Run | None = None
        self._was_aborted = False
        self._cache_loaded = False
        self._reuses_nothing = True
        # As long as the handle lives the library may use all of these.
        self._callback = LLMResultCallback(self._receive)
        self._callback_argument = library.abi.callback_argument(self._callback)
        self._param: Any = None

    @classmethod
    def open(cls, library: Library, parameters: ContextParameters) -> "Context":
        """Load a model.

        Raises ModelUnusable or RuntimeFailed with the reason the library printed, InvalidRequest for an impossible
        context length, and ProcessSpent where this process can't load anything any more.
        """
        guards.usable_process(library)
        context = cls(library, parameters)
        adapter = guards.adapter(parameters.adapters)
        context._initialise(parameters)
        try:
            # Templates are applied outside; with the built-in one a finished prompt would be wrapped again.
            context._call(library.calls.set_chat_template, b"", b"", b"", doing="switching the built-in template off")
            if adapter is not None:
                context._load_adapter(*adapter)
        except BaseException:
            context.close()
            raise
        return context

    def run(
        self,
        prompt: str | Sequence[int],
        on_token: Callable[[bytes, int], None],
        *,
        sampling: Sampling | None = None,
        max_new_tokens: int | None = None,
        save_cache: Path | None = None,
        on_begin: Callable[[], None] | None = None,
    ) -> RunStatistics:
        """Generate, and return when the runtime has ended the run.

        `on_token(text, token id)` is called once per token; the text is empty while a character is incomplete. What it
        raises aborts the run and is raised here. `sampling` and `max_new_tokens` are for this run alone, where the
        library can do that (`Library.per_run_sampling`); elsewhere they are left to the caller. With `save_cache` the
        prompt cache is written there at the end. `on_begin` is called right before the library is: who is woken by it
        finds Python's lock free.

        Raises ContextLengthExceeded with exact counts, or RuntimeFailed; UnsupportedRequest or StorageFull where the
        cache could not be written.
        """
        infer = self.library.abi.infer_param(mode=GENERATE)
        self.library.abi.limit_run(infer, (sampling or Sampling()).over(self.sampling), max_new_tokens)
        if save_cache is not None:
            infer.prompt_cache_params = pointer(RKLLMPromptCacheParam(1, guards.cache_target(save_cache)))
        fresh = self._reuses_nothing
        run, lines = self._perform(prompt, infer, on_token, on_begin)
        if save_cache is not None and not (saved(lines) and guards.is_written(save_cache)):
            raise failure(
                lines, RuntimeFailed("The runtime wrote no prompt cache and does not say why."), about=self._name
            )
        return replace(run.statistics, prompt_tokens=self._prompt_length(prompt, run, lines, fresh=fresh))

    def embed(self, prompt: str | Sequence[int]) -> EmbedResult:
        """The prompt's last hidden states, computed without anything of an earlier prompt.

        Raises ContextLengthExceeded, RuntimeFailed, or UnsupportedRequest for a model that shows none.
        """
        self.clear()
        infer = self.library.abi.infer_param(mode=LAST_HIDDEN_LAYER)
        self.library.abi.limit_run(infer, self.sampling, 1)
        run, _ = self._perform(prompt, infer, None)
        if run.hidden_states is None:
            raise UnsupportedRequest(
                f"{self._name}: the runtime gave no hidden states, so this model can't make embeddings.", param="model"
            )
        return run.hidden_states

    def abort(self) -> None:
        """Ask the run to end; any thread may, and it does nothing where none is going on.

        The runtime looks between two tokens, so a prefill ends first. The caller has to make sure that the run going on
        is the one it means, and that the context is not closed meanwhile.
        """
        run = self._run
        if run is not None:
            run.aborted = True
            self.library.calls.abort(self._handle)

    def progress(self) -> int:
        """Tokens of the run going on, 0 between runs; any thread may ask."""
        run = self._run
        return 0 if run is None else run.tokens

    def kv_size(self) -> int:
        """Tokens in the KV cache."""
        sizes = (c_int * 1)()
        self._call(self.library.calls.get_kv_cache_size, sizes, doing="asking for the size of the KV cache")
        return sizes[0]

    def clear(self) -> None:
        """Empty the KV cache, so that the next prompt reuses nothing."""
        self._call(self.library.calls.clear_kv_cache, 0, None, None, doing="clearing the KV cache")
        self._reuses_nothing = True

    @property
    def can_load_prompt_cache(self) -> bool:
        """False where it would crash: on 1.2.x right after an aborted run, until another has ended by itself."""
        return not (self._was_aborted and self.library.family == "1.2")

    def load_prompt_cache(self, path: Path) -> None:
        """Load a saved prompt cache, in place of one loaded before; the next run reuses what its prompt begins with.

        Raises RuntimeFailed for a file that can't be used, and where `can_load_prompt_cache` is false.
        """
        name = guards.cache_file(path, library=self.library, aborted=self._was_aborted)
        self.release_prompt_cache()
        self._call(self.library.calls.load_prompt_cache, name, doing=f"loading the prompt cache {path.name}")
        self._cache_loaded, self._reuses_nothing = True, False

    def release_prompt_cache(self) -> None:
        """Let go of the prompt cache that was loaded, if one was."""
        if self._cache_loaded:
            self._cache_loaded = False
            self._call(self.library.calls.release_prompt_cache, doing="releasing the prompt cache")

    def close(self) -> None:
        """Release the model; a second call does nothing."""
        if self._handle:
            handle, self._handle = self._handle, c_void_p(None)
            self.library.calls.destroy(handle)

    # Within

    def _initialise(self, parameters: ContextParameters) -> None:
        abi, calls = self.library.abi, self.library.calls
        param = self._param = calls.default_param()
        param.model_path = guards.model_file(parameters.model_path)
        self.context_length = param.max_context_len = guards.context_length(
            parameters.context_length, path=parameters.model_path
        )
        param.max_new_tokens = parameters.max_new_tokens
        param.skip_special_token = True
        param.is_async = False
        defaults: dict[str, Any] = {knob.name: _rounded(getattr(param, knob.name)) for knob in fields(Sampling)}
        self.sampling = parameters.sampling.over(Sampling(**defaults))
        for name, value in self.sampling.said().items():
            setattr(param, name, value)
        extend = param.extend_param
        extend.base_domain_id = guards.domain(parameters.base_domain_id)
        extend.embed_flash = parameters.embed_flash
        extend.n_batch = 1  # more would make each run read an array of inputs
        extend.use_cross_attn = 0
        if parameters.cpus is not None:
            extend.enabled_cpus_mask, extend.enabled_cpus_num = guards.cpu_set(parameters.cpus)
        abi.complete(param)
        try:
            with listening() as lines:
                calls.init(byref(self._handle), byref(param), self._callback_argument)
        except CallFailed:
            self._handle = c_void_p(None)
        if not self._handle:
            self.library.failed_init = True
            silent = ModelUnusable(
                f"{self._name}: the runtime can't load it and does not say why. The file may be damaged, or made for "
                "another version or board."
            )
            raise failure(lines, silent, about=self._name)
        self.facts = read_facts(lines)

    def _load_adapter(self, path: bytes, scale: float) -> None:
        adapter = RKLLMLoraAdapter(path, _ADAPTER, scale)
        self._call(self.library.calls.load_lora, byref(adapter), doing="loading the LoRA adapter")
        self._lora = RKLLMLoraParam(_ADAPTER)  # loading alone has no effect: each run names it

    def _perform(
        self,
        prompt: str | Sequence[int],
        infer: Any,
        on_token: Callable[[bytes, int], None] | None,
        on_begin: Callable[[], None] | None = None,
    ) -> tuple[Run, list[str]]:
        """Run `prompt` and return when the library has; `input_` and what it points to live until then."""
        input_, _alive = self._input(prompt)
        if self._lora is not None:
            infer.lora_params = pointer(self._lora)
        run = Run(on_token, abort=self.abort, after_hidden_states=self.library.abi.after_hidden_states)
        failed = self._reuses_nothing = False
        self._run = run
        try:
            with listening() as lines:
                if on_begin is not None:
                    on_begin()
                self.library.calls.run(self._handle, byref(input_), byref(infer), None)
        except CallFailed:
            failed = True
        finally:
            self._run = None
            self._was_aborted = run.aborted
        if run.failure is not None:
            raise run.failure
        # What a run returns after an abort is not documented, so it is not judged.
        if (failed and not run.aborted) or run.errored:
            silent = RuntimeFailed("The runtime failed while it answered and does not say why. Load the model again.")
            raise failure(lines, silent, about=self._name)
        return run, lines

    def _input(self, prompt: str | Sequence[int]) -> tuple[Any, object]:
        """The input structure, and what must outlive it."""
        input_ = self.library.abi.input(role=b"user")
        if isinstance(prompt, str):
            input_.input_type = INPUT_PROMPT
            input_.prompt_input = text = guards.prompt_text(prompt)
            return input_, text
        ids = guards.prompt_ids(prompt)
        input_.input_type = INPUT_TOKEN
        input_.token_input.input_ids = cast((c_int32 * len(ids)).from_buffer(ids), POINTER(c_int32))
        input_.token_input.n_tokens = len(ids)
        return input_, ids

    def _prompt_length(self, prompt: str | Sequence[int], run: Run, lines: Sequence[str], *, fresh: bool) -> int | None:
        """The prompt in tokens: as given, else as the log says, else what was computed where nothing was reused.

        Nothing was if the KV cache was empty before (`fresh`), or if it holds just that now. Otherwise it is not known,
        because generated tokens may stay in the cache: some of them, or none.
        """
        if not isinstance(prompt, str):
            return len(prompt)
        if (said := prompt_tokens(lines)) is not None:
            return said
        computed = run.statistics.prefill_tokens
        if computed is None or (run.aborted and not run.tokens):  # an abort may have ended the prefill early
            return None
        try:
            beyond = self.kv_size() - computed
        except RuntimeFailed:  # a complete answer is no failure for that
            return None
        return computed if 0 <= beyond <= (run.tokens if fresh else 0) else None

    def _call(self, function: Callable[..., Any], *arguments: Any, doing: str) -> None:
        """Call a C function on the handle; RuntimeFailed with the log's reason if it fails."""
        try:
            with listening() as lines:
                function(self._handle, *arguments)
        except CallFailed:
            raise failure(lines, RuntimeFailed(f"{self._name}: the runtime failed at {doing}.")) from None

    def _receive(self, result: Any, _userdata: Any, state: int) -> int:
        run = self._run
        return GO_ON if run is None else run.receive(result, state)


def _rounded(value: float) -> int | float:
    """A single-precision default as a person would write it: 0.8, not 0.800000011920929."""
    return value if isinstance(value, int) else round(value, 6)
