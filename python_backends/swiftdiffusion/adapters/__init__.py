"""LoRAs: from a name in a request to patched weights, and back.

The life of one LoRA:

1. `store` finds the file of that name (names never become paths).
2. `safetensors_file` reads the file's header: names, shapes, dtypes, metadata.
3. `layout` decides from the header alone which weight of the pipeline (`targets`) each pair of
   factors belongs to; `peft_names` and `kohya_names` know how trainers spell those weights.
4. `loading` reads the factors on its own threads while denoising runs, `cache` keeps the recent
   ones, `pending` is what a request asks and waits on, `bounded` decides before which step.
5. `deltas` turns factors into the change of a weight, `patching` puts it into the engines
   between two steps and takes it out again after the request.
"""
