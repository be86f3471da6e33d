import pytest
from transformers import CLIPTokenizer

from shapes.tokenizer import MAX_LENGTH, WORDS, build_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_every_word_of_the_world_is_one_token(tokenizer):
    assert all(len(tokenizer(word)["input_ids"]) == 3 for word in WORDS)


@pytest.mark.parametrize("text", ["a small red circle", "漢字 🙂 ünïcode", "tab\tand\x01control", "<|x|> don't 123"])
def test_any_text_is_encoded_without_unknowns(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.lower().replace(" ", "").replace(
        "\t", ""
    )


def test_the_highest_id_ends_a_text(tokenizer):
    assert tokenizer.eos_token_id == len(tokenizer) - 1 == tokenizer.pad_token_id


def test_it_comes_back_the_same_from_disk(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    text = "A large PURPLE heart, left of ½ a zebra"
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.model_max_length == MAX_LENGTH
    assert loaded.eos_token_id == tokenizer.eos_token_id
