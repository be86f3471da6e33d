"""The models beside the lane, called directly."""

import numpy as np
import pytest
import tritonclient.http
from tritonclient.utils import InferenceServerException


def encode(http, **inputs):
    tensors = []
    for name, values in inputs.items():
        array = np.array(values, np.float32 if isinstance(values[0], float) else object)
        tensor = tritonclient.http.InferInput(name, list(array.shape), "BYTES" if array.dtype == object else "FP32")
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return http.infer("text_encoder", tensors)


def test_prompts_become_embeddings(http):
    result = encode(http, prompts=[b"a red circle", b"a blue star"])
    assert result.as_numpy("hidden").shape[0] == 2
    assert result.as_numpy("pooled").shape[0] == 2
    assert np.isfinite(result.as_numpy("hidden")).all()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"prompts": [b"\xff\xfe"]}, "prompts is not UTF-8"),
        ({"prompts": [b"x"] * 17}, "prompts has 17 texts; allowed: 1 to 16"),
        ({"prompts": [b"x"], "loras": [b"night"], "lora_scales": [1.0, 2.0]}, "lora_scales has 2 values"),
        ({"prompts": [b"x"], "loras": [b"night"], "lora_scales": [float("nan")]}, "lora_scales[0] is nan"),
    ],
)
def test_what_cannot_be_encoded_is_refused(http, inputs, words):
    with pytest.raises(InferenceServerException) as refusal:
        encode(http, **inputs)
    assert refusal.value.status() == "400"
    assert words in refusal.value.message()
