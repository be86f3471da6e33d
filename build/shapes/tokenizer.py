"""CLIP's byte-level BPE tokenizer with a vocabulary of the world's own words.

The algorithm and the file formats (`vocab.json`, `merges.txt`) are CLIP's; only the merges are fewer. All
256 byte tokens are in the vocabulary, alone and as a word's end, so that any text can be encoded.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

BOS = "<|startoftext|>"
EOS = "<|endoftext|>"
END_OF_WORD = "</w>"
MAX_LENGTH = 48

_WORD_LIST = """
a an the and of with on in at to is are there no one two three
circle square triangle star cross heart circles squares triangles stars crosses hearts shape shapes
red orange yellow green cyan blue purple pink white grey gray black color colour
small large big little tiny
left right above below next beside over under between top bottom middle
background picture drawing image photo painting
outline pixelated night hatching style
"""
WORDS = tuple(_WORD_LIST.split())


def byte_alphabet() -> list[str]:
    """The printable characters that stand for the bytes 0 to 255 in GPT-2's byte-level BPE, in byte order.

    Source: `bytes_to_unicode` of GPT-2's encoder, https://github.com/openai/gpt-2/blob/master/src/encoder.py.
    """
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    shifted = 0
    alphabet = []
    for byte in range(256):
        if byte in printable:
            alphabet.append(chr(byte))
        else:
            alphabet.append(chr(256 + shifted))
            shifted += 1
    return alphabet


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """BPE merges, most frequent pair first, until every one of `words` is a single token.

    Ties go to the pair seen first, so the result depends on nothing but the list.
    """
    pieces = [[*word[:-1], word[-1] + END_OF_WORD] for word in words]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for word in pieces for pair in pairwise(word)):
        best = pairs.most_common(1)[0][0]
        merges.append(best)
        pieces = [_merge(word, best) for word in pieces]
    return merges


def build_tokenizer(max_length: int = MAX_LENGTH) -> "CLIPTokenizer":
    """The tokenizer that both text encoders share; `pad_token` is the end of text, as in SDXL's first one.

    `max_length` is what it pads and cuts to, in tokens.
    """
    from transformers import CLIPTokenizer

    alphabet = byte_alphabet()
    merges = learn_merges(WORDS)
    tokens = [*alphabet, *(c + END_OF_WORD for c in alphabet), *("".join(pair) for pair in merges), BOS, EOS]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=merges,
        model_max_length=max_length,
    )


def _merge(word: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for piece in word:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged
