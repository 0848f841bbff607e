"""The models as the dialects use them: chosen by name, loaded, unloaded, looked at; and what each is loaded with."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.check import check
from rkllama_flask.catalog.model import Model
from rkllama_flask.catalog.reading import facts
from rkllama_flask.engine.engine import Engine, EngineStatus
from rkllama_flask.engine.jobs import Done, Failed, Forgive, Job, Load, ModelSpec, Settle, Unload
from rkllama_flask.engine.mailbox import Empty
from rkllama_flask.engine.models.residency import ResidentModel
from rkllama_flask.errors import InvalidRequest, ModelNotFound, ModelUnusable, RkllamaError
from rkllama_flask.generation.contexts import ContextPlan, in_steps, plan_context
from rkllama_flask.generation.following import TICK
from rkllama_flask.generation.prompt.infill import fills_gaps
from rkllama_flask.generation.prompt.templates import ChatTemplate
from rkllama_flask.inference_config import LiveConfig
from rkllama_flask.sampling import Sampling


@dataclass(frozen=True)
class Resident:
    """A loaded model. Unix seconds; `expires_at` None means it stays until it is unloaded. `size` in bytes."""

    model: Model
    context_length: int
    size: int
    loaded_at: float
    expires_at: float | None


class Models:
    """`default_model` answers requests that name none while nothing is loaded, `fallback_model` those that name one
    which isn't here. `model_aliases` are models by further names.

    `max_context_length` in tokens bounds what a model is loaded with unless its Modelfile asks for more, because memory
    for it is taken at once. `on_warning` hears what is doubtful about a model before it is loaded, which models are
    looked at for on this `platform`, such as RK3588.
    """

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        config: LiveConfig,
        *,
        default_model: str | None = None,
        fallback_model: str | None = None,
        model_aliases: Mapping[str, str] = MappingProxyType({}),
        max_context_length: int = 16384,
        platform: str | None = None,
        on_warning: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._catalog = catalog
        self._config = config
        self._default_model = default_model
        self._fallback_model = fallback_model
        self._aliases = model_aliases
        self._max_context_length = max_context_length
        self._platform = platform
        self._on_warning = on_warning

    def find(self, name: str) -> Model:
        """The model of this name or alias, else the one for unknown names. Raises ModelNotFound."""
        try:
            return self._catalog.find(self._aliases.get(name, name))
        except ModelNotFound:
            if self._fallback_model is None:
                raise
            return self._catalog.find(self._fallback_model)

    def names(self) -> dict[str, Model]:
        """Every name that a request can give, with its model: what is on disk, then aliases."""
        found = {model.name: model for model in self._catalog.list()}
        for alias, name in self._aliases.items():
            with suppress(ModelNotFound, ModelUnusable):
                found.setdefault(alias, self._catalog.find(name))
        return found

    def choose(self, name: str | None, *, writes: bool = False) -> Model:
        """The model of this name; without one the loaded model, else the default, else the only one on disk.

        Where it has to be one that `writes`, those that only make embeddings don't count without their name. While one
        is being loaded or restored it waits for that. Raises ModelNotFound, or InvalidRequest where the request has to
        name one.
        """

        def suits(model: Model) -> bool:
            return not writes or "completion" in facts.capabilities(model)

        if name:
            return self.find(name)
        ready = self.status().ready  # asked first: what is restored meanwhile must not be missed
        for resident in self.resident():
            if suits(resident.model):
                return resident.model
        if self._default_model:
            return self._catalog.find(self._default_model)
        models = [model for model in self._catalog.list() if suits(model)]
        if len(models) == 1:
            return models[0]
        if not ready:
            self._wait(Settle())
            for resident in self.resident():
                if suits(resident.model):
                    return resident.model
        raise InvalidRequest("Name a model: none is loaded and there is no default.", param="model")

    def resident(self) -> list[Resident]:
        """The loaded models, the most recently used first."""
        offset = time.time() - time.monotonic()
        found = []
        for entry in self._engine.resident:
            model = self._named(entry.spec)
            if model is None:
                continue
            found.append(
                Resident(
                    model=model,
                    context_length=entry.context_length,
                    size=entry.spec.size,
                    loaded_at=entry.loaded_at + offset,
                    expires_at=None if entry.expires is None else entry.expires + offset,
                )
            )
        return found

    def loading(self) -> Model | None:
        """The model that is being loaded now."""
        spec = self._engine.loading
        return None if spec is None else self._named(spec)

    def _named(self, spec: ModelSpec) -> Model | None:
        """The model of these weights: under the name they were loaded by, else under another, if they have one."""
        fitting = [one for one in self._catalog.list() if (one.path, one.identity) == (spec.path, spec.identity)]
        return next((one for one in fitting if one.name == spec.name), fitting[0] if fitting else None)

    def load(self, model: Model, *, keep_alive: float | None = math.inf, context_length: int | None = None) -> int:
        """Load a model and wait for it; how long that took in ns. `keep_alive` in seconds, None the default's.

        One that has a context of at least `context_length` tokens stays as it is.
        """
        self._look_at(model)
        plan = self._plan(model, 0, asked=context_length)
        job = Load(spec=self._spec(model, plan), keep_alive=keep_alive, least_context=plan.least)
        taken = self._wait(job)
        assert isinstance(taken, int)
        return taken

    def unload(self, model: Model | None = None) -> list[str]:
        """Unload a model, or all; the names of those that were loaded. A running answer ends first."""
        names = {entry.spec.path: entry.spec.name for entry in self._engine.resident}
        paths = self._wait(Unload(path=model.path if model else None))
        assert isinstance(paths, list)
        return [names.get(path, path.stem) for path in paths]

    def forgive_crashes(self) -> int:
        """Allow again every load and request that is refused because it crashed the runtime; how many there were."""
        count = self._wait(Forgive())
        assert isinstance(count, int)
        return count

    def capabilities(self, model: Model) -> tuple[str, ...]:
        """What this model's files really offer, in Ollama's words."""
        found = facts.capabilities(model)
        if "completion" not in found:
            return found
        template = ChatTemplate.for_model(model)
        tools = ("tools",) if ChatTemplate.for_model(model, tools=True).supports_tools else ()
        thinking = ("thinking",) if template.supports_thinking else ()
        insert = ("insert",) if fills_gaps(model) else ()
        return (*found, *tools, *thinking, *insert)

    def status(self) -> EngineStatus:
        return self._engine.status()

    def start(self, *, replace_process: Callable[[], None] | None = None, supervisor: str = "") -> None:
        """For the process that serves: in the background it loads what the process before had loaded, or the default.

        `replace_process` ends this process so that its supervisor starts another; called on a native thread.
        `supervisor` is the same text in all processes of one supervisor.
        """
        self._engine.start(replace_process=replace_process, supervisor=supervisor, first=self._load_of_default())
        for alias, name in self._aliases.items():
            self._expect(name, f"MODEL_ALIASES: '{alias}' answers nothing")
        if self._fallback_model:
            self._expect(self._fallback_model, "FALLBACK_MODEL answers nothing")

    def _load_of_default(self) -> Load | None:
        if not self._default_model:
            return None
        try:
            model = self._catalog.find(self._default_model)
        except RkllamaError as error:  # the others can be used all the same
            self._on_warning(f"DEFAULT_MODEL is not loaded: {error}")
            return None
        return Load(spec=self._spec(model), keep_alive=math.inf, only_first=True)

    def _expect(self, name: str, otherwise: str) -> None:
        try:
            self._catalog.find(name)
        except RkllamaError as error:  # it may come later
            self._on_warning(f"{otherwise}: {error}")

    def drain(self, grace: float) -> None:
        """Take no more requests; running answers have `grace` seconds. Safe in a signal handler."""
        self._engine.drain(grace)

    def close(self) -> bool:
        return self._engine.close()

    # For those that make jobs

    def _wait(self, job: Job) -> object:
        """Queue a job that answers with one event, and wait for it."""
        self._engine.submit(job)
        while True:
            try:
                event = job.mailbox.get(TICK)
            except Empty:
                continue
            if isinstance(event, Failed):
                raise event.error
            assert isinstance(event, Done)
            return event.result

    def _look_at(self, model: Model) -> None:
        """Before a load: raises ModelUnusable for a file that can't work here, and tells what is doubtful."""
        if self._loaded(model):
            return
        runtime, _ = self._engine.runtime_version(model.format)
        found = check(model, now=time.time(), soc=self._platform, runtime=runtime)
        for warning in found.warnings:
            self._on_warning(warning)
        if found.blocking is not None:
            raise ModelUnusable(found.blocking, param="model")

    def _loaded(self, model: Model) -> ResidentModel | None:
        for entry in self._engine.resident:
            held = (entry.spec.path, entry.spec.identity, entry.spec.adapters)
            if held == (model.path, model.identity, model.modelfile.adapters):
                return entry
        return None

    def _context_length(self, model: Model) -> int:
        """In tokens: of the loaded handle, else what a load would take."""
        loaded = self._loaded(model)
        return loaded.context_length if loaded else self._own_context_length(model)

    def _plan(self, model: Model, needed: int, *, asked: int | None = None) -> ContextPlan:
        """The context for a request that needs so many tokens, or has asked for some."""
        loaded = self._loaded(model)
        return plan_context(
            asked=None if asked is None else in_steps(asked),
            own=self._own_context_length(model),
            limit=self._engine.context_limit(model.identity),
            loaded=loaded.context_length if loaded else None,
            needed=needed,
        )

    def _own_context_length(self, model: Model) -> int:
        """What the Modelfile says, else what the model was made for, within what memory and the library allow."""
        said = model.modelfile.context_length
        own = in_steps(min(model.context_length, self._max_context_length) if said is None else said)
        return min(own, self._engine.context_limit(model.identity) or own)

    def _sampling(self, model: Model) -> Sampling:
        """The model's Modelfile, then the live configuration, then what the model's makers recommend."""
        return model.modelfile.sampling.over(self._config.current().sampling.over(model.recommended_sampling))

    def _loadable(self, model: Model) -> ModelSpec:
        self._look_at(model)
        return self._spec(model)

    def _spec(self, model: Model, plan: ContextPlan | None = None) -> ModelSpec:
        config = self._config.current()
        return ModelSpec(
            name=model.name,
            path=model.path,
            format=model.format,
            identity=model.identity,
            context_length=plan.load if plan else self._own_context_length(model),
            size=model.size,
            sampling=self._sampling(model),
            eos_token_ids=frozenset(model.eos_token_ids) | frozenset(model.modelfile.eos_token_ids),
            adapters=model.modelfile.adapters,
            cpus=config.cpus,
        )
