"""Where LoRAs come from: the list of them, and a store behind HTTP, alive, dying and dead."""

import json
import shutil
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import tritonclient.http
from tritonclient.utils import InferenceServerException

from swiftdiffusion.adapters.profile import PROFILE_SUFFIX, AdapterProfile

ASKED = {"prompt": "a large orange cross", "seed": 21, "steps": 6, "lora_bound": 0}
TIMEOUT_S = 2.0


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def list_adapters(server):
    with tritonclient.http.InferenceServerClient(server.http_url) as client:
        answer = client.infer("adapters", [])
    described = [json.loads(text) for text in answer.as_numpy("adapters")]
    return [name.decode() for name in answer.as_numpy("names")], {one["name"]: one for one in described}


def test_the_list_of_adapters(server, weights):
    names, described = list_adapters(server)
    assert names == sorted(path.stem for path in (weights / "loras").glob("*.safetensors"))
    assert described["night"]["ranks"] == [8]
    assert server.list_adapters() == names


@pytest.fixture
def http_folder(tmp_path, weights):
    """A folder served over HTTP, and how to stop serving it."""
    folder = tmp_path / "served"
    folder.mkdir()
    shutil.copy(weights / "loras" / "night.safetensors", folder)
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    stopped: list[bool] = []

    def stop():
        if not stopped:
            stopped.append(True)
            http.shutdown()
            http.server_close()

    yield folder, f"http://127.0.0.1:{http.server_port}", stop
    stop()


def test_a_store_behind_http(http_folder, serve, alter_repository, set_parameter, ask, ask_server, weights, tmp_path):
    folder, url, stop = http_folder

    def alter(name, config):
        if "adapters" in config.parameters:
            set_parameter(config, "adapters", url)
            set_parameter(config, "adapter_disk", str(tmp_path / "copies"))
            set_parameter(config, "adapter_timeout_s", str(TIMEOUT_S))

    plain, night = ask(**ASKED)[0], ask(**ASKED, loras="night")[0]
    with serve(alter_repository(alter)) as server:
        assert np.array_equal(ask_server(server, **ASKED, loras="night")[0], night)

        # new there, and how late it may come
        shutil.copy(weights / "loras" / "hatching.safetensors", folder)
        profile = AdapterProfile(bound=2, steps=6, threshold=0.9, similarities={})
        (folder / f"hatching{PROFILE_SUFFIX}").write_text(profile.to_json())
        time.sleep(1.1)  # a listing younger than that is not asked for again
        unbounded = {name: value for name, value in ASKED.items() if name != "lora_bound"}
        _, info = ask_server(server, **unbounded, loras="hatching")
        assert info["request"]["lora_bound"] == 2

        shutil.copy(weights / "loras" / "outline.safetensors", folder)
        time.sleep(1.1)
        assert list_adapters(server)[1]["outline"]["ranks"] == [16]
        stop()
        started = time.monotonic()
        with pytest.raises(InferenceServerException, match=r"outline|adapter store"):
            ask_server(server, **ASKED, loras="outline")
        assert time.monotonic() - started < 5 * TIMEOUT_S

        # the lane is unharmed, and what was copied stays in use
        assert np.array_equal(ask_server(server, **ASKED)[0], plain)
        assert np.array_equal(ask_server(server, **ASKED, loras="night")[0], night)
