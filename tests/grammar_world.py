"""A small vocabulary that cuts texts in awkward places, and random walks through grammars over it."""

from random import Random

import numpy as np

from glmflash.grammar import Grammar, State, Vocabulary

PIECES = [
    *(bytes([byte]) for byte in range(256)),
    *b'{" {} }} "} "}] }] ]} "," ": ":" :" ",\n {"a":[ [[ ]] ,{" true false ull nul null,'.split(b" "),
    *rb'12 .5 e-3 e5 00 -1 \" \\ \u00 \u d8 \ud83 \n \u0041 abc yes no ye es "x": 1}'.split(b" "),
    *(b"\n  ", b"  ", b" " * 16, b", ", b": ", b" 7", '"é'.encode(), "ü".encode(), b"\xf0\x9f", b"\x98\x80"),
    *(b"", b"", b""),  # two ends, and an id that nothing uses
]
EOS = frozenset([len(PIECES) - 3, len(PIECES) - 2])


def encode(text: str) -> list[int]:
    return list(text.encode())


VOCABULARY = Vocabulary(PIECES, eos=EOS, encode=encode)


def allowed(state: State) -> list[int]:
    return np.flatnonzero(state.mask()).tolist()


def walk(grammar: Grammar, rng: Random, *, most: int = 200, closing: float = 0.3) -> bytes | None:
    """A text that the grammar let through up to an end token, in random tokens; None if it got too long.

    Tokens that close or end are preferred now and then, so that walks end.
    """
    state, text = grammar.start(), b""
    for _ in range(most):
        ids = allowed(state)
        assert ids, text
        close = [
            one for one in ids if one in EOS or PIECES[one] in (b'"', b"}", b"]", b"}}", b'"}', b":", b",")
        ]
        token_id = rng.choice(close if close and rng.random() < closing else ids)
        state.accept(token_id)
        if token_id in EOS:
            assert set(allowed(state)) <= EOS
            return text
        text += PIECES[token_id]
    return None


def follow(grammar: Grammar, text: bytes, rng: Random) -> State:
    """The state behind a text that is cut into tokens at random; each of them has to be allowed."""
    state, rest = grammar.start(), text
    while rest:
        fits = [one for one, piece in enumerate(PIECES) if piece and rest.startswith(piece)]
        token_id = rng.choice(fits)
        assert state.mask()[token_id], (text, rest, PIECES[token_id])
        state.accept(token_id)
        rest = rest[len(PIECES[token_id]) :]
    return state
