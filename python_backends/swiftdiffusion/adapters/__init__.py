"""LoRAs: from a name in a request to patched weights, and back.

The life of one LoRA:

1. `store` says what a store is; `folder_store` and `remote_store`, with its `disk_cache`, find the file
   of that name (names never become paths or addresses); `opening` chooses one by configuration.
2. `safetensors_file` reads the file's header: names, shapes, dtypes, metadata.
3. `layout` decides from the header alone which weight of the pipeline (`targets`) each group of
   tensors belongs to; `peft_names` and `kohya_names` know how trainers spell those weights,
   `algorithms` what the tensors of each kind of LoRA must be and make. `profile` is how late it may
   come, `description` what a person wants to know of it.
4. `loading` reads the tensors on its own threads while denoising runs, into one `tensor_block`, and
   copies that to the device on the `copy_stream`; `cache` keeps the recent ones. `pending` is what a
   request asks and waits on, `bounded` decides before which step.
5. `patching` prepares (`prepared`), still on the loader's thread, what computes base + Σ delta from
   `pristine` weights and `factors` (`dora` knows of lengths), and enqueues it between two steps. It
   stays for the next request, or is taken out again.
"""
