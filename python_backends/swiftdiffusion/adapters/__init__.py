"""LoRAs: from a name in a request to patched weights, and back.

The life of one LoRA:

1. `store` says what a store is; `folder_store` and `remote_store`, with its `disk_cache`, find the file
   of that name (names never become paths or addresses); `opening` chooses one by configuration.
2. `safetensors_file` reads the file's header: names, shapes, dtypes, metadata.
3. `layout` decides from the header alone which weight of the pipeline (`targets`) each group of
   tensors belongs to; `peft_names` and `kohya_names` know how trainers spell those weights,
   `algorithms` what the tensors of each kind of LoRA must be and make. `profile` is how late it may
   come, `description` what a person wants to know of it.
4. `loading` brings the tensors on threads of its own while denoising runs: a `chunk_copier` has them
   read by a `tensor_reader` into one `tensor_block`, of `host_memory`, and copied to the device on the
   `copy_stream`, chunk by chunk, after `page_cache` had the disk begin when the name was first looked
   up. `cache` keeps the recent ones. `pending` is what a request asks and waits on, `bounded` decides
   before which step.
5. `patching` prepares (`prepared`), still on the loader's thread, what computes base + Σ delta from
   `pristine` weights and `factors` (`dora` knows of lengths), and enqueues it between two steps, on
   each GPU that holds the weights: `weights` go to a second one in one copy. It stays for the next
   request, or is taken out again.
"""
