"""Files are uploaded by their sha256, and models made of them; nothing stays that isn't whole."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rkllama_flask.catalog.changing import blobs
from rkllama_flask.catalog.changing.blobs import KEPT, MOST, Blobs
from tests.api.ollama.conftest import OllamaApi
from tests.api.ollama.reading import read_lines
from tests.catalog.gguf_files import LLAMA, gguf_bytes
from tests.contract.ollama_spec import check

TENSORS = [("a", (64, 100), 0)]
LLAMA_FILE = gguf_bytes(LLAMA, tensors=TENSORS, data=25600)
LORA = gguf_bytes({"general.type": "adapter", "general.architecture": "llama"}, tensors=TENSORS, data=25600)
NPU_FILE = b"load_ms=0\n" + b"#" * 100_000


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def upload(api: OllamaApi, data: bytes, digest: str | None = None, **options: Any) -> tuple[int, str]:
    response = api.client.post(f"/api/blobs/{digest or digest_of(data)}", data=data, **options)
    return response.status_code, response.json["error"] if response.data else ""


def is_here(api: OllamaApi, data: bytes) -> bool:
    status = api.client.head(f"/api/blobs/{digest_of(data)}").status_code
    assert status in (200, 404)
    return status == 200


def create(api: OllamaApi, name: str = "new", **fields: Any) -> Any:
    return api.post("/api/create", {"model": name} | fields)


def created(api: OllamaApi, name: str = "new", **fields: Any) -> list[dict[str, Any]]:
    response = create(api, name, **fields)
    assert response.status_code == 200, response.text
    lines = read_lines(response.data)
    for line in lines:
        check(line, "StatusEvent")
    assert lines[-1] == {"status": "success"}
    return lines


def refusal(response: Any) -> str:
    assert response.status_code == 400, response.text
    return str(response.json["error"])


def tree(folder: Path) -> set[str]:
    """Every file, but for what is only remembered of files."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in paths if path.parent.name != "sha256"}


BEFORE = {"tiny.rkllm", "tuned/Modelfile"}


# Uploads


def test_a_file_is_stored_once_and_known_by_its_sum(api: OllamaApi) -> None:
    assert not is_here(api, NPU_FILE)
    assert upload(api, NPU_FILE) == (201, "")
    assert is_here(api, NPU_FILE)
    assert upload(api, NPU_FILE) == (200, "")
    assert upload(api, NPU_FILE, digest_of(NPU_FILE).replace(":", "-").upper().replace("SHA", "sha")) == (200, "")
    assert tree(api.models_dir) - BEFORE == {f".rkllama/uploads/{digest_of(NPU_FILE).replace(':', '-')}"}


def upload_in_chunks(api: OllamaApi, *chunks: bytes) -> int:
    """Upload without a length; the status."""
    environ = {
        "wsgi.input": _Stream(iter(chunks)),
        "wsgi.input_terminated": True,
        "HTTP_TRANSFER_ENCODING": "chunked",
    }
    return api.client.post(f"/api/blobs/{digest_of(b''.join(chunks))}", environ_overrides=environ).status_code


def test_a_body_in_chunks_far_above_the_limit_of_json(api: OllamaApi) -> None:
    api.configure(max_body_bytes=1000)
    assert upload_in_chunks(api, *(NPU_FILE[at : at + 999] for at in range(0, len(NPU_FILE), 999))) == 201
    assert is_here(api, NPU_FILE)
    assert api.post("/api/show", {"model": "x" * 2000}).status_code == 413


class _Stream:
    """A body of unknown length."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, _size: int = -1) -> bytes:
        return next(self._chunks, b"")

    def close(self) -> None:
        """Nothing is open."""


def test_another_sum_is_refused_and_leaves_nothing(api: OllamaApi) -> None:
    wrong = digest_of(b"other")
    assert upload(api, NPU_FILE, wrong) == (400, f'digest mismatch, expected "{wrong}", got "{digest_of(NPU_FILE)}"')
    assert tree(api.models_dir) == BEFORE


@pytest.mark.parametrize(
    "digest", ["sha256:12", "md5:" + "a" * 64, "sha256:" + "g" * 64, "sha256:" + "a" * 65, "..", "%00"]
)
def test_what_is_no_digest_is_refused(api: OllamaApi, digest: str) -> None:
    assert api.client.head(f"/api/blobs/{digest}").status_code == 400
    response = api.client.post(f"/api/blobs/{digest}", data=b"x")
    assert refusal(response) == "invalid digest format"
    assert tree(api.models_dir) == BEFORE


def test_a_body_that_ends_early_leaves_nothing(api: OllamaApi) -> None:
    response = api.client.post(
        f"/api/blobs/{digest_of(NPU_FILE)}",
        data=NPU_FILE[:-1],
        environ_overrides={"CONTENT_LENGTH": str(len(NPU_FILE))},
    )
    assert response.status_code == 499
    assert tree(api.models_dir) == BEFORE


def test_a_file_over_the_limit_is_refused_known_or_found_out(api: OllamaApi) -> None:
    api.configure(max_upload_bytes=len(NPU_FILE) - 1)
    status, text = upload(api, NPU_FILE)
    assert (status, "MAX_UPLOAD_BYTES" in text) == (413, True)
    assert upload_in_chunks(api, NPU_FILE) == 413
    assert tree(api.models_dir) == BEFORE


def test_the_disk_has_to_have_room_for_it(api: OllamaApi) -> None:
    api.configure(max_upload_bytes=1 << 62)
    response = api.client.post(
        f"/api/blobs/{digest_of(NPU_FILE)}", data=b"x", environ_overrides={"CONTENT_LENGTH": str(1 << 60)}
    )
    assert response.status_code == 507
    assert "MODELS_DIR to a larger disk" in response.json["error"]
    assert tree(api.models_dir) == BEFORE


def test_a_disk_that_is_full_in_the_middle_leaves_nothing(api: OllamaApi, monkeypatch: pytest.MonkeyPatch) -> None:
    real = blobs.subprocess.Popen

    def limited(command: list[str], **options: Any) -> Any:
        return real(["sh", "-c", 'ulimit -f 64; exec "$@"', "sh", *command], **options)

    monkeypatch.setattr(blobs.subprocess, "Popen", limited)
    status, text = upload(api, NPU_FILE * 20)
    assert (status, text.startswith("The disk of the models folder is full")) == (507, True)
    assert tree(api.models_dir) == BEFORE


def test_there_is_an_end_to_uploads_at_once(api: OllamaApi) -> None:
    place = api.app.extensions["rkllama"].blobs
    running = [place.receive("0" * 64, expected=5) for _ in range(MOST)]
    status, text = upload(api, NPU_FILE)
    assert (status, "busy" in text) == (503, True)
    for one in running:
        one.close()
    assert upload(api, NPU_FILE) == (201, "")


def test_a_server_that_stops_takes_no_more_of_a_file(api: OllamaApi) -> None:
    api.inference.draining = True
    assert upload(api, NPU_FILE)[0] == 503
    assert tree(api.models_dir) == BEFORE


def test_a_compressed_file_is_refused(api: OllamaApi) -> None:
    assert upload(api, NPU_FILE, headers={"Content-Encoding": "gzip"})[0] == 400


def test_what_nothing_was_made_of_goes_after_a_day(api: OllamaApi) -> None:
    upload(api, NPU_FILE)
    folder = api.models_dir / blobs.FOLDER
    (path,) = folder.iterdir()
    (folder / ".part-1").write_bytes(b"of a writer that was killed")
    (api.models_dir / ".new-1").mkdir()
    for old in (path, folder / ".part-1", api.models_dir / ".new-1"):
        os.utime(old, (time.time() - KEPT - 9, time.time() - KEPT - 9))
    assert is_here(api, NPU_FILE)  # who asks for it keeps it
    Blobs(api.models_dir).tidy()
    assert [*folder.iterdir()] == [path]
    assert not (api.models_dir / ".new-1").exists()
    os.utime(path, (time.time() - KEPT - 9, time.time() - KEPT - 9))
    Blobs(api.models_dir).tidy()
    assert [*folder.iterdir()] == []


# Models of them


def test_a_model_is_made_of_an_uploaded_file(api: OllamaApi) -> None:
    upload(api, LLAMA_FILE)
    lines = created(api, files={"model.gguf": digest_of(LLAMA_FILE)}, system="Be brief.", license="MIT")
    assert lines[0]["status"] == f"using existing layer {digest_of(LLAMA_FILE)}"
    assert tree(api.models_dir) - BEFORE == {"new/Modelfile", "new/model.gguf"}
    shown = api.post("/api/show", {"model": "new"}).json
    assert (shown["details"]["family"], shown["details"]["format"], shown["system"]) == ("llama", "gguf", "Be brief.")
    assert shown["modelfile"].startswith("FROM ./new/model.gguf\n")
    assert is_here(api, LLAMA_FILE)  # as the weights of a model
    assert upload(api, LLAMA_FILE) == (200, "")


def test_side_files_and_adapters_come_along(api: OllamaApi) -> None:
    side = b'{"eos_token_id": 7}'
    for data in (NPU_FILE, side, b"lora"):
        upload(api, data)
    files = {"qwen3-w8a8.rkllm": digest_of(NPU_FILE), "generation_config.json": digest_of(side)}
    created(api, "org/qwen:v1", files=files, adapters={"style.rkllm": digest_of(b"lora")})
    assert tree(api.models_dir) - BEFORE == {
        f"org+qwen@v1/{name}" for name in ("Modelfile", "qwen3-w8a8.rkllm", "generation_config.json", "style.rkllm")
    }
    model = api.catalog.find("org/qwen:v1")
    assert model.eos_token_ids == (7,)
    assert model.modelfile.adapters == ((api.models_dir / "org+qwen@v1" / "style.rkllm", 1.0),)
    assert {one.name for one in api.catalog.list()} == {"tiny", "tuned", "org/qwen:v1"}


def test_an_adapter_for_a_model_that_is_here(api: OllamaApi) -> None:
    upload(api, b"lora")
    for _ in range(2):  # the second time it is there as a file of the model's
        created(api, "styled", **{"from": "tuned"}, adapters={"style.rkllm": digest_of(b"lora")})
        model = api.catalog.find("styled")
        assert model.path == api.models_dir / "tiny.rkllm"
        assert model.modelfile.system == "Be brief."
        assert model.modelfile.adapters == ((api.models_dir / "styled" / "style.rkllm", 1.0),)
    assert tree(api.models_dir) - BEFORE == {"styled/Modelfile", "styled/style.rkllm"}


def test_an_adapters_scale_stands_in_the_modelfile(api: OllamaApi) -> None:
    for data in (b"lora", b"other"):
        upload(api, data)
    text = 'FROM tiny\nADAPTER ./local/style.rkllm 0.5\nADAPTER "other.rkllm"\n'
    adapters = {"style.rkllm": digest_of(b"lora"), "other.rkllm": digest_of(b"other")}
    created(api, "styled", modelfile=text, adapters=adapters)
    scales = {path.name: scale for path, scale in api.catalog.find("styled").modelfile.adapters}
    assert scales == {"style.rkllm": 0.5, "other.rkllm": 1.0}
    text = "FROM tiny\nADAPTER styled/style.rkllm\n"
    mixed = create(api, "mixed", modelfile=text, adapters={"x.rkllm": digest_of(b"lora")})
    assert refusal(mixed) == "adapters are all uploaded, or all in the models folder"


def test_two_models_of_one_file_share_it(api: OllamaApi) -> None:
    upload(api, NPU_FILE)
    for name in ("one", "two"):
        created(api, name, files={"x.rkllm": digest_of(NPU_FILE)}, system=name)
    assert tree(api.models_dir) - BEFORE == {"one/Modelfile", "one/x.rkllm", "two/Modelfile"}
    assert api.catalog.find("two").path == api.models_dir / "one" / "x.rkllm"
    assert api.client.delete("/api/delete", json={"model": "one"}).status_code == 200
    assert tree(api.models_dir) - BEFORE == {"two/Modelfile", "two/x.rkllm"}


def test_other_weights_for_a_name_take_the_place_of_the_old_ones(api: OllamaApi) -> None:
    other = NPU_FILE + b"other"
    for data in (NPU_FILE, other):
        upload(api, data)
        created(api, files={"x.rkllm": digest_of(data)})
        assert api.catalog.find("new").path.read_bytes() == data
    assert tree(api.models_dir) - BEFORE == {"new/Modelfile", "new/x.rkllm"}
    upload(api, NPU_FILE)
    created(api, "tuned", files={"x.rkllm": digest_of(NPU_FILE)})
    assert tree(api.models_dir) == {"tiny.rkllm", "new/Modelfile", "new/x.rkllm", "tuned/Modelfile", "tuned/x.rkllm"}


def test_many_who_make_models_of_one_file_at_once_share_it(api: OllamaApi) -> None:
    upload(api, NPU_FILE)
    with ThreadPoolExecutor(5) as pool:
        made = pool.map(lambda n: created(api, f"m{n}", files={"x.rkllm": digest_of(NPU_FILE)}), range(5))
        assert [lines[-1] for lines in made] == [{"status": "success"}] * 5
    assert len([path for path in tree(api.models_dir) if path.endswith("x.rkllm")]) == 1
    assert {model.name for model in api.catalog.list()} == {"tiny", "tuned", *(f"m{n}" for n in range(5))}


def test_the_memory_of_weights_that_were_replaced_is_freed(api: OllamaApi) -> None:
    for data in (NPU_FILE, NPU_FILE + b"other"):
        upload(api, data)
        created(api, files={"x.rkllm": digest_of(data)})
        assert api.inference.moves == ([] if data == NPU_FILE else [("unload", "new")])
        api.inference.loaded = [api.catalog.find("new"), api.catalog.find("tiny")]


def test_what_else_lies_in_the_folder_is_not_touched(api: OllamaApi) -> None:
    upload(api, NPU_FILE)
    (api.models_dir / "new").mkdir()
    (api.models_dir / "new" / "diary.txt").write_text("mine")
    assert "holds other things" in refusal(create(api, files={"x.rkllm": digest_of(NPU_FILE)}))
    assert tree(api.models_dir) - BEFORE == {
        "new/diary.txt",
        f".rkllama/uploads/{digest_of(NPU_FILE).replace(':', '-')}",
    }


def test_without_an_ending_the_content_tells(api: OllamaApi) -> None:
    upload(api, LLAMA_FILE)
    created(api, files={"weights": digest_of(LLAMA_FILE)})
    assert tree(api.models_dir) - BEFORE == {"new/Modelfile", "new/weights.gguf"}


@pytest.mark.parametrize(
    ("data", "names", "text"),
    [
        (NPU_FILE, ["x.gguf"], "supplied file was not in GGUF format"),
        (LLAMA_FILE, ["x.rkllm"], "has to end in .gguf"),
        (LLAMA_FILE[:-25600], ["x.gguf"], "isn't whole"),
        (LORA, ["x.gguf"], "an adapter goes into 'adapters'"),
        (LLAMA_FILE, ["m-00001-of-00002.gguf"], "m-00002-of-00002.gguf is not among them"),
        (LLAMA_FILE, ["m-00001-of-00002.gguf", "m-00002-of-00003.gguf"], "is not among them"),
        (LLAMA_FILE, ["m-00002-of-00003.gguf"], "a model has one file of weights, or all parts of a split one"),
        (b"{}", ["model.safetensors"], "unknown type: model.safetensors"),
        (b"{}", ["config.json"], "no files provided to convert"),
        (NPU_FILE, ["a.rkllm", "b.rkllm"], "a model has one file of weights"),
        (NPU_FILE, ["a.rkllm", "b/A.rkllm"], "the same name"),
        (NPU_FILE, ["../x.rkllm"], "file path must be relative"),
        (NPU_FILE, ["/x.rkllm"], "file path must be relative"),
        (NPU_FILE, ["x\0.rkllm"], "can't be a file's name"),
        (NPU_FILE, ["\u0445.rkllm"], "can't be a file's name"),
        (NPU_FILE, [".x.rkllm"], "can't be a file's name"),
        (NPU_FILE, ["x" * 300 + ".rkllm"], "can't be a file's name"),
    ],
)
def test_files_that_make_no_model(api: OllamaApi, data: bytes, names: list[str], text: str) -> None:
    upload(api, data)
    uploads = tree(api.models_dir)
    assert text in refusal(create(api, files=dict.fromkeys(names, digest_of(data))))
    assert tree(api.models_dir) == uploads
    assert {model.name for model in api.catalog.list()} == {"tiny", "tuned"}


def test_files_that_were_not_uploaded(api: OllamaApi) -> None:
    missing = digest_of(b"missing")
    assert refusal(create(api, files={"x.gguf": missing})) == f'blob "{missing}" not found: upload x.gguf first'
    assert refusal(create(api, files={"x.gguf": "sha256:12"})) == "invalid digest format"
    assert refusal(create(api, files={"x.gguf": 5})) == "invalid digest format"
    assert f'blob "{missing}"' in refusal(create(api, **{"from": "tiny"}, adapters={"x.gguf": missing}))


def test_where_the_disk_refuses_the_file_is_still_there_to_try_again(
    api: OllamaApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(api, NPU_FILE)
    before = tree(api.models_dir)
    with monkeypatch.context() as patched:
        patched.setattr("rkllama_flask.catalog.changing.store._write", _full)
        response = create(api, files={"x.rkllm": digest_of(NPU_FILE)})
        assert (response.status_code, "No space left" in response.json["error"]) == (500, True)
    assert tree(api.models_dir) == before
    created(api, files={"x.rkllm": digest_of(NPU_FILE)})


def _full(_path: Path, _text: str) -> None:
    raise OSError(28, "No space left on device")


def test_nothing_is_copied(api: OllamaApi) -> None:
    upload(api, NPU_FILE)
    (path,) = (api.models_dir / blobs.FOLDER).iterdir()
    inode = path.stat().st_ino
    created(api, files={"x.rkllm": digest_of(NPU_FILE)})
    assert (api.models_dir / "new" / "x.rkllm").stat().st_ino == inode
    shutil.rmtree(api.models_dir / ".rkllama")  # what is only remembered may be deleted
    api.catalog.refresh()
    assert api.catalog.find("new").name == "new"
