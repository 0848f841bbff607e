"""The C interface called with nothing but ctypes and the reference's table of offsets: no code of ours in between."""

import contextlib
import ctypes
import json
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLES: dict[str, Any] = json.loads((Path(__file__).parent / "abi_tables.json").read_text())
NORMAL, WAITING, FINISH, ERROR = range(4)
PROMPT, TOKEN = 0, 1
GENERATE, HIDDEN = 0, 1
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)


def field_format(size: int, value: object) -> str:
    return "<f" if isinstance(value, float) else {1: "<B", 4: "<I" if int(str(value)) >= 0 else "<i", 8: "<Q"}[size]


@dataclass(frozen=True)
class Call:
    """One callback: its state, what it carried, copied."""

    state: int
    text: bytes | None
    token_id: int
    hidden: tuple[tuple[float, ...], ...]
    perf: dict[str, float]


class Struct:
    """A C structure by name in the table of one family; everything not written is zero."""

    def __init__(self, family: str, name: str, at: int | None = None) -> None:
        self.layout = TABLES[family][name]
        self.buffer = (
            ctypes.create_string_buffer(self.layout["size"])
            if at is None
            else (ctypes.c_char * self.layout["size"]).from_address(at)
        )
        self.kept: list[object] = []

    @property
    def address(self) -> int:
        return ctypes.addressof(self.buffer)

    def write(self, name: str, value: object, *, base: int = 0) -> None:
        offset, size = self.layout["fields"][name]
        if isinstance(value, bytes):
            value = ctypes.create_string_buffer(value)
        if isinstance(value, ctypes.Array):
            self.kept.append(value)
            value = ctypes.addressof(value)
        elif isinstance(value, Struct):
            self.kept.append(value)
            value = value.address
        struct.pack_into(field_format(min(size, 8), value), self.buffer, base + offset, value)

    def read(self, name: str, format: str) -> Any:
        return struct.unpack_from("<" + format, self.buffer, self.layout["fields"][name][0])[0]


@contextlib.contextmanager
def printing_to(file: Path) -> Iterator[None]:
    """Let file descriptors 1 and 2 lead to the end of `file`, also what the C library still has in its buffer."""
    kept = [os.dup(1), os.dup(2)]
    with file.open("ab") as target:
        for number in (1, 2):
            os.dup2(target.fileno(), number)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)


class Runtime:
    """One handle of one library, which prints to `output` if that is given."""

    def __init__(self, library: Path, family: str, output: Path | None = None) -> None:
        self.family = family
        self.output = output
        self.library = ctypes.CDLL(str(library))
        self.handle = ctypes.c_void_p()
        self.calls: list[Call] = []
        self.answer: Callable[[Call], int | None] = lambda call: 0
        self._callback = CALLBACK(self._called)
        self._kept: list[object] = []

    def call(self, name: str, *arguments: object) -> int:
        with printing_to(self.output) if self.output else contextlib.nullcontext():
            return int(self.library[f"rkllm_{name}"](*arguments))

    def _called(self, result: int, userdata: int | None, state: int) -> int:
        r = Struct(self.family, "RKLLMResult", result)
        text = r.read("text", "Q")
        hidden = Struct(self.family, "RKLLMResultLastHiddenLayer", result + r.layout["fields"]["last_hidden_layer"][0])
        width, rows = hidden.read("embd_size", "i"), hidden.read("num_tokens", "i")
        states = hidden.read("hidden_states", "Q")
        floats = (ctypes.c_float * (width * rows)).from_address(states) if states else ()
        perf = Struct(self.family, "RKLLMPerfStat", result + r.layout["fields"]["perf"][0])
        call = Call(
            state,
            ctypes.string_at(text) if text else None,
            r.read("token_id", "i"),
            tuple(tuple(floats[i * width : (i + 1) * width]) for i in range(rows if states else 0)),
            {key: perf.read(key, "i" if key.endswith("tokens") else "f") for key in perf.layout["fields"]},
        )
        self.calls.append(call)
        return self.answer(call) or 0

    def default_param(self) -> Struct:
        size = TABLES[self.family]["RKLLMParam"]["size"]
        by_value = type("ByValue", (ctypes.Structure,), {"_fields_": [("raw", ctypes.c_ubyte * size)]})
        self.library.rkllm_createDefaultParam.restype = by_value
        param = Struct(self.family, "RKLLMParam")
        returned = self.library.rkllm_createDefaultParam()
        ctypes.memmove(param.buffer, ctypes.byref(returned), size)
        return param

    def init(self, model: Path, *, cpus_num: int | None = None, n_batch: int | None = None, **values: object) -> int:
        param = self.default_param()
        for name, value in {"model_path": str(model).encode(), "max_context_len": 4096, **values}.items():
            param.write(name, value)
        extend = Struct(self.family, "RKLLMExtendParam", param.address + param.layout["fields"]["extend_param"][0])
        if cpus_num is not None:
            extend.write("enabled_cpus_num", cpus_num)
        if n_batch is not None:
            extend.write("n_batch", n_batch)
        third: Any = self._callback
        if self.family == "1.3":
            third = Struct(self.family, "RKLLMCallback")
            third.write("result_callback", ctypes.cast(self._callback, ctypes.c_void_p).value)
        self._kept += [param, third]
        address = third.buffer if isinstance(third, Struct) else third
        return self.call("init", ctypes.byref(self.handle), param.buffer, address)

    def run(
        self,
        prompt: str | Sequence[int],
        *,
        mode: int = GENERATE,
        sampling: dict[str, float] | None = None,
        lora: str | None = None,
        save: Path | None = None,
        **infer_values: int,
    ) -> int:
        """Run to the end; what the callbacks brought is in `calls`, of this run only."""
        self.calls = []
        input = Struct(self.family, "RKLLMInput")
        input.write("role", b"user")
        if isinstance(prompt, str):
            input.write("input_type", PROMPT)
            input.write("prompt_input", prompt.encode())
        else:
            input.write("input_type", TOKEN)
            ids = (ctypes.c_int32 * len(prompt))(*prompt)
            input.kept.append(ids)
            at = input.layout["fields"]["token_input"][0]
            struct.pack_into("<QQ", input.buffer, at, ctypes.addressof(ids), len(prompt))
        infer = Struct(self.family, "RKLLMInferParam")
        for name, value in {"mode": mode, **infer_values}.items():
            infer.write(name, value)
        for field, name, content in (
            ("lora_params", "RKLLMLoraParam", lora and {"lora_adapter_name": lora.encode()}),
            ("sampling_params", "RKLLMSamplingParam", sampling),
            (
                "prompt_cache_params",
                "RKLLMPromptCacheParam",
                save and {"save_prompt_cache": 1, "prompt_cache_path": str(save).encode()},
            ),
        ):
            if content:
                inner = Struct(self.family, name)
                for key, item in content.items():
                    inner.write(key, item)
                infer.write(field, inner)
        return self.call("run", self.handle, input.buffer, infer.buffer, None)

    @property
    def text(self) -> str:
        """What the last run said."""
        return b"".join(call.text or b"" for call in self.calls if call.state == NORMAL).decode()

    @property
    def perf(self) -> dict[str, float]:
        """The figures of the last run's FINISH."""
        return next(call.perf for call in self.calls if call.state == FINISH)

    def plain(self) -> "Runtime":
        """This handle with the automatic template switched off."""
        assert self.call("set_chat_template", self.handle, b"", b"", b"") == 0
        return self

    def abort(self) -> int:
        return int(self.library.rkllm_abort(self.handle))  # prints nothing, and may come from another thread

    def kv_size(self) -> int:
        size = ctypes.c_int(-1)
        assert self.call("get_kv_cache_size", self.handle, ctypes.byref(size)) == 0
        return size.value

    def clear(self, keep: int = 0) -> int:
        return self.call("clear_kv_cache", self.handle, keep, None, None)

    def load_cache(self, path: Path) -> int:
        return self.call("load_prompt_cache", self.handle, str(path).encode())

    def release_cache(self) -> int:
        return self.call("release_prompt_cache", self.handle)

    def load_lora(self, path: Path, name: str) -> int:
        adapter = Struct(self.family, "RKLLMLoraAdapter")
        adapter.write("lora_adapter_path", str(path).encode())
        adapter.write("lora_adapter_name", name.encode())
        adapter.write("scale", 1.0)
        return self.call("load_lora", self.handle, adapter.buffer)

    def destroy(self) -> int:
        handle, self.handle = self.handle, ctypes.c_void_p()
        return self.call("destroy", handle)
