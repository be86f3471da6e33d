"""Prompts are encoded once."""


def count_executions(http, model):
    return int(http.get_inference_statistics(model)["model_stats"][0]["execution_count"])


def test_a_repeated_prompt_is_remembered(ask):
    prompt = "a small pink heart above a small green cross"
    assert not ask(prompt=prompt, steps=1)[1]["prompt_cached"]
    assert ask(prompt=prompt, steps=1, seed=2)[1]["prompt_cached"]
    # an adapter without text encoder parts does not change the embeddings; night does
    assert ask(prompt=prompt, steps=1, loras="outline")[1]["prompt_cached"]
    assert not ask(prompt=prompt, steps=1, loras="night")[1]["prompt_cached"]
    assert ask(prompt=prompt, steps=1, loras="night")[1]["prompt_cached"]
    assert not ask(prompt=prompt, steps=1, loras="night", lora_scales=[0.5])[1]["prompt_cached"]


def test_no_negative_prompt_costs_nothing(http, ask):
    prompt = "a large purple triangle"
    ask(prompt=prompt, steps=1)
    before = count_executions(http, "text_encoder")
    # one call for the prompt, and none for the negative prompt that there is not
    assert ask(prompt=prompt, steps=1, negative_prompt="")[1]["prompt_cached"]
    assert count_executions(http, "text_encoder") == before + 1
    assert not ask(prompt=prompt, steps=1, negative_prompt="a new thing")[1]["prompt_cached"]
    assert ask(prompt=prompt, steps=1, negative_prompt="a new thing")[1]["prompt_cached"]
