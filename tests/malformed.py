"""A good checkpoint → a hundred bad ones: each function spoils a folder, and says what must come of it.

`CASES` has them by name. `says` is an expression for the message, which names the file and the key; without
it the change is harmless, and the checkpoint must load and answer as before.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

__all__ = ["CASES", "Spoiled"]

Change = Callable[[Path], object]
ONE, TWO = "model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors"
INDEX, CONFIG = "model.safetensors.index.json", "config.json"
PICTURES, ANSWERS, TOKENS = "preprocessor_config.json", "generation_config.json", "tokenizer.json"
MANIFEST, WEIGHTS = "quantization.json", "model.safetensors"
EMBEDDINGS, EMBEDDED = "model.language_model.embed_tokens.weight", "model-00003-of-00004.safetensors"


@dataclass(frozen=True)
class Spoiled:
    """What to do to a folder, of which kind, and what the error says; None if there is none."""

    spoil: Change
    says: str | None
    int8: bool = False


CASES: dict[str, Spoiled] = {}


def case(says: str | None, *, int8: bool = False) -> Callable[[Change], Change]:
    def remember(spoil: Change) -> Change:
        CASES[spoil.__name__] = Spoiled(spoil, says, int8)
        return spoil

    return remember


def cases(says: str | None, *, int8: bool = False, **spoils: Change) -> None:
    """Several of one kind, by name."""
    CASES.update({name: Spoiled(spoil, says, int8) for name, spoil in spoils.items()})


# Headers


def split(path: Path) -> tuple[dict, bytes]:
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def join(path: Path, header: bytes, data: bytes, length: int | None = None) -> None:
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)


def entry(key: str, change: Callable[[object], object]) -> Change:
    """Change one field of the first tensor of a shard."""

    def spoil(folder: Path) -> None:
        header, data = split(folder / ONE)
        name = next(name for name in header if name != "__metadata__")
        header[name][key] = change(header[name][key])
        join(folder / ONE, json.dumps(header).encode(), data)

    return spoil


def header(text: bytes, *, length: int | None = None) -> Change:
    """Another header before the same tensors."""
    return lambda folder: join(folder / ONE, text, split(folder / ONE)[1], length)


def size_of(shape: object) -> list:
    assert isinstance(shape, list)
    return shape


cases(
    f"{ONE}: is not a safetensors file, or is damaged",
    header_longer_than_the_file=header(b"{}", length=2**40),
    header_of_two_to_the_64=header(b"{}", length=2**64 - 1),
    header_of_length_zero=header(b"", length=0),
    header_that_is_no_json=header(b"{nonsense"),
    header_that_is_no_utf8=header(b'{"\xff\xfe": 1}'),
    header_that_is_a_list=header(b"[1, 2]"),
    header_of_numbers=header(b'{"a": 1}'),
    header_nested_deep=header(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    header_nested_in_shape=header(b'{"a":{"dtype":"F32","shape":' + b"[" * 90_000 + b"]" * 90_000 + b"}}"),
    header_with_half_a_pair=header(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'),
    header_and_no_tensors=lambda folder: join(folder / ONE, json.dumps(split(folder / ONE)[0]).encode(), b""),
    an_empty_file=lambda folder: (folder / ONE).write_bytes(b""),
    seven_bytes=lambda folder: (folder / ONE).write_bytes(bytes(7)),
    a_pointer_of_git_lfs=lambda folder: (folder / ONE).write_bytes(
        b"version https://git-lfs.github.com/spec/v1\n"
    ),
    a_pickle_by_another_name=lambda folder: (folder / ONE).write_bytes(
        b"\x80\x02cos\nsystem\nX\x04\0\0\0exitR."
    ),
    a_file_cut_short=lambda folder: os.truncate(folder / ONE, (folder / ONE).stat().st_size - 1),
    a_file_with_something_behind=lambda folder: os.truncate(folder / ONE, (folder / ONE).stat().st_size + 8),
    offsets_that_are_negative=entry("data_offsets", lambda given: [-4, given[1]]),
    offsets_beyond_the_file=entry("data_offsets", lambda given: [given[0] + 10**9, given[1] + 10**9]),
    offsets_the_wrong_way_round=entry("data_offsets", lambda given: given[::-1]),
    offsets_that_overlap=entry("data_offsets", lambda given: [given[0] + 4, given[1] + 4]),
    offsets_with_a_hole=entry("data_offsets", lambda given: [given[0], given[1] - 4]),
    offsets_that_are_floats=entry("data_offsets", lambda given: [0.0, 1e400]),
    offsets_that_are_one=entry("data_offsets", lambda given: given[:1]),
    offsets_that_overflow=entry("data_offsets", lambda given: [2**64, 2**64 + 4]),
    a_dtype_that_is_none=entry("dtype", lambda given: "F33"),
    a_dtype_that_is_wider=entry("dtype", lambda given: "F64"),
    a_shape_that_is_larger=entry("shape", lambda given: [*given, 2]),
    a_shape_that_overflows=entry("shape", lambda given: [2**62, 2**62, 4]),
    a_shape_that_is_negative=entry("shape", lambda given: [-size for size in given]),
    a_shape_of_words=entry("shape", lambda given: ["many"]),
    a_shape_that_is_infinite=entry("shape", lambda given: [float("inf")]),
)
cases(
    rf"{ONE}: has a header of \d+ bytes; allowed: at most \d+",
    a_hundred_thousand_tensors=header(
        b"{%s}"
        % b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % n for n in range(100_000))
    ),
    a_flood_of_metadata=header(
        b'{"__metadata__":{%s}}' % b",".join(b'"%d":"x"' % number for number in range(500_000))
    ),
    a_flood_of_lists=header(b'{"a":[%s]}' % (b"[]," * 2_000_000 + b"[]")),
)


@case(None)
def metadata_of_ten_thousand_lines(folder: Path) -> None:
    given, data = split(folder / ONE)
    given["__metadata__"] = {str(number): "x" for number in range(10_000)}
    join(folder / ONE, json.dumps(given).encode(), data)


@case(rf"{ONE}: model\.\S+: stands twice in this file")
def a_tensor_that_stands_twice(folder: Path) -> None:
    given, data = split(folder / ONE)
    given.pop("__metadata__")
    name = next(iter(given))
    text = json.dumps(given)
    join(folder / ONE, text.replace("{", f'{{"{name}": {json.dumps(given[name])}, ', 1).encode(), data)


# Tensors


def tensor(change: Callable[[dict[str, torch.Tensor]], object], file: str = EMBEDDED) -> Change:
    """Change the tensors of a shard, and write it as the library does."""

    def spoil(folder: Path) -> None:
        tensors = {name: value.clone() for name, value in load_file(folder / file).items()}
        change(tensors)
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / file)

    return spoil


def fill(value: float) -> Change:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[EMBEDDINGS][3, 5] = value

    return tensor(change)


def replaced(make: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    return tensor(lambda tensors: tensors.update({EMBEDDINGS: make(tensors[EMBEDDINGS])}))


NAMED = rf"{EMBEDDED}: {EMBEDDINGS}: "
cases(
    f"{NAMED}holds NaN or infinity",
    a_weight_that_is_nan=fill(float("nan")),
    a_weight_that_is_infinite=fill(float("inf")),
    a_weight_that_is_minus_infinite=fill(float("-inf")),
)
cases(
    f"{NAMED}has shape .*, expected",
    a_tensor_that_is_taller=replaced(lambda given: given.repeat(2, 1)),
    a_tensor_that_is_turned=replaced(lambda given: given.T),
    a_tensor_that_is_flat=replaced(torch.flatten),
    a_tensor_without_elements=replaced(lambda given: given[:0]),
    a_tensor_that_is_a_number=replaced(torch.sum),
)
cases(
    f"{NAMED}has dtype .*, expected one of",
    a_tensor_of_whole_numbers=replaced(torch.Tensor.long),
    a_tensor_of_bytes=replaced(lambda given: given.to(torch.int8)),
    a_tensor_of_eight_bits=replaced(lambda given: given.to(torch.float8_e4m3fn)),
)


@case(rf"(?s)3 problem.*{TWO}: extra\.weight: unexpected.*has shape.*: missing, in no file")
def missing_extra_and_misshapen_at_once(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())

    def change(tensors: dict[str, torch.Tensor]) -> None:
        gone, bent = sorted(tensors)[:2]
        del tensors[gone], index["weight_map"][gone]
        tensors[bent] = tensors[bent][:1]
        tensors["extra.weight"] = torch.ones(1)
        index["weight_map"]["extra.weight"] = TWO

    tensor(change, TWO)(folder)
    (folder / INDEX).write_text(json.dumps(index))


@case(r"unexpected tensor")
def a_name_that_forges_lines_and_never_ends(folder: Path) -> None:
    """In the message it is one line, and short."""
    name = "x\n0 problems, all is well\x1b[2J\u202e" + "y" * 10**6
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"][name] = EMBEDDED
    (folder / INDEX).write_text(json.dumps(index))
    tensor(lambda tensors: tensors.update({name: torch.ones(1)}))(folder)


@case(r"(?s)\d+ problem.*and \d+ more")
def two_thousand_tensors_too_many(folder: Path) -> None:
    names = {f"extra.{number}": torch.zeros(0) for number in range(2000)}
    tensor(lambda tensors: tensors.update(names))(folder)


# The index, and the files it names


def indexed(change: Callable[[dict], object]) -> Change:
    def spoil(folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text())
        changed = change(index)
        (folder / INDEX).write_text(json.dumps(index if changed is None else changed))

    return spoil


def placed(file: str) -> Change:
    """A tensor is said to be in another file."""
    return indexed(lambda index: index["weight_map"].update({EMBEDDINGS: file}))


OUTSIDE = rf"{INDEX}: .* is not the name of a safetensors file in this folder"
cases(
    OUTSIDE,
    a_shard_above=placed("../model.safetensors"),
    a_shard_above_a_folder=placed("sub/../../model.safetensors"),
    a_shard_in_a_folder=placed("sub/model.safetensors"),
    a_shard_by_absolute_path=placed("/etc/model.safetensors"),
    a_shard_behind_backslashes=placed("..\\model.safetensors"),
    a_shard_with_a_null=placed("x\0.safetensors"),
    a_shard_without_a_name=placed(""),
    a_shard_that_is_the_folder=placed("."),
    a_shard_that_is_a_device=placed("/dev/zero"),
    a_shard_that_is_a_pickle=placed("pytorch_model.bin"),
    a_shard_with_a_megabyte_of_name=placed("../" + "x" * 10**6),
)
cases(
    f"{INDEX}",
    an_index_that_is_no_json=lambda folder: (folder / INDEX).write_text("{"),
    an_index_that_is_a_list=lambda folder: (folder / INDEX).write_text("[]"),
    an_index_without_a_map=indexed(lambda index: index.pop("weight_map") and None),
    an_index_with_a_list_for_a_map=indexed(lambda index: {"weight_map": list(index["weight_map"])}),
    an_index_of_numbers=indexed(lambda index: {"weight_map": dict.fromkeys(index["weight_map"], 1)}),
    an_index_that_is_nested_deep=lambda folder: (folder / INDEX).write_text('{"a":' * 10**5),
    an_index_with_a_key_twice=lambda folder: (folder / INDEX).write_text(
        (folder / INDEX)
        .read_text()
        .replace('"weight_map": {', f'"weight_map": {{"{EMBEDDINGS}": "{ONE}",', 1)
    ),
    an_index_that_names_another_file=placed(TWO),
    an_index_of_a_gigabyte=lambda folder: os.truncate(folder / INDEX, 10**9),
    an_index_that_is_a_folder=lambda folder: ((folder / INDEX).unlink(), (folder / INDEX).mkdir()),
)
cases(
    None,
    an_index_that_lies_about_sizes=indexed(lambda index: index.update(metadata={"total_size": -1})),
    an_index_with_more_to_say=indexed(lambda index: index.update(auto_map={"a": "b.c"})),
)


def moved(make: Callable[[Path, Path], object], file: str = ONE) -> Change:
    """Something else in a file's place; the file itself goes beside the folder."""

    def spoil(folder: Path) -> None:
        away = folder.parent / f"{folder.name}-away"
        away.mkdir()
        (folder / file).rename(away / file)
        make(folder / file, away / file)

    return spoil


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def folder_there(path: Path, target: Path) -> None:
    path.mkdir()


def pipe_there(path: Path, target: Path) -> None:
    os.mkfifo(path)


cases(
    f"{ONE}: is a link out of the folder",
    a_shard_that_is_a_link_out=moved(link),
    a_shard_that_links_to_a_device=moved(lambda path, target: path.symlink_to("/dev/zero")),
    a_shard_that_links_to_memory=moved(lambda path, target: path.symlink_to("/proc/self/mem")),
)
cases(
    f"{ONE}: no such file",
    a_shard_that_is_missing=moved(lambda path, target: None),
    a_shard_that_is_a_folder=moved(folder_there),
    a_shard_that_is_a_pipe=moved(pipe_there),
    a_shard_that_links_to_nothing=moved(lambda path, target: path.symlink_to("nothing.safetensors")),
)
cases(
    f"{ONE}: cannot be read|{ONE}: no such",
    a_shard_that_links_to_itself=moved(lambda path, _: link(path, path)),
)
for each in (CONFIG, PICTURES, ANSWERS, TOKENS):
    stem = each.removesuffix(".json")
    cases(f"{each}: is a link out of the folder", **{f"{stem}_that_is_a_link_out": moved(link, each)})
    cases(rf"{each}: no such file", **{f"{stem}_that_is_a_pipe": moved(pipe_there, each)})
    cases(rf"{each}: no such file", **{f"{stem}_that_is_a_folder": moved(folder_there, each)})


@case(None)
def the_cache_of_the_hub(folder: Path) -> None:
    """Its links into blobs are what they should be."""
    blobs = folder.parent / "blobs"
    snapshot = folder.parent / "snapshots" / ("0" * 40)
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    folder.rmdir()
    folder.symlink_to(snapshot)


# JSON files


def written(file: str, content: bytes) -> Change:
    return lambda folder: (folder / file).write_bytes(content)


def edited(file: str, *keys: str | int, value: object = None, drop: bool = False) -> Change:
    """One value of a JSON file."""

    def spoil(folder: Path) -> None:
        data = place = json.loads((folder / file).read_text())
        for key in keys[:-1]:
            place = place[key]
        if drop:
            del place[keys[-1]]
        else:
            place[keys[-1]] = value
        (folder / file).write_text(json.dumps(data))

    return spoil


for each in (CONFIG, PICTURES, ANSWERS, TOKENS):
    stem, at = each.removesuffix(".json"), f"{each}: "
    cases(
        f"{at}not valid JSON",
        **{
            f"{stem}_that_is_empty": written(each, b""),
            f"{stem}_that_is_cut": written(each, b'{"a": [1, 2'),
            f"{stem}_that_is_no_utf8": written(each, b'{"a": "\xff\xfe\xfd"}'),
            f"{stem}_that_is_nested_deep": written(each, b'{"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}"),
            f"{stem}_with_a_number_of_a_megabyte": written(each, b'{"a": ' + b"9" * 10**6 + b"}"),
        },
    )
    cases(f"{at}holds a list", **{f"{stem}_that_is_a_list": written(each, b"[{}]")})
    cases(f"{at}'a' stands twice", **{f"{stem}_with_a_key_twice": written(each, b'{"b": {"a": 1, "a": 2}}')})
    cases(
        rf"{at}has 1000000000 bytes; allowed: at most",
        **{f"{stem}_of_a_gigabyte": lambda folder, each=each: os.truncate(folder / each, 10**9)},
    )
cases(rf"{CONFIG}: no such file", config_that_is_missing=lambda folder: (folder / CONFIG).unlink())
cases(rf"{PICTURES}: no such file", pictures_that_are_missing=lambda folder: (folder / PICTURES).unlink())
cases(rf"{TOKENS}: no such file", tokens_that_are_missing=lambda folder: (folder / TOKENS).unlink())
cases(
    None,
    answers_that_are_missing=lambda folder: (folder / ANSWERS).unlink(),
    config_with_a_byte_order_mark=lambda folder: (folder / CONFIG).write_bytes(
        b"\xef\xbb\xbf" + (folder / CONFIG).read_bytes()
    ),
)

# config.json

TEXT, VISION = "text_config", "vision_config"
LONG = "x" * 10**6
for name, keys, values in (
    ("model_type", ("model_type",), {"missing": None, "foreign": "llama", "a_list": ["x"], "long": LONG}),
    ("hidden_size", (TEXT, "hidden_size"), {"zero": 0, "negative": -64, "a_string": "64", "true": True,
        "huge": 10**400, "nan": float("nan"), "infinite": float("inf"), "a_float": 64.0, "missing": None}),
    ("num_hidden_layers", (TEXT, "num_hidden_layers"), {"a_billion": 10**9, "zero": 0}),
    ("depth", (VISION, "depth"), {"a_billion": 10**9, "zero": 0}),
    ("num_key_value_heads", (TEXT, "num_key_value_heads"), {"not_dividing": 3}),
    ("num_heads", (VISION, "num_heads"), {"not_dividing": 7, "zero": 0}),
    ("vocab_size", (TEXT, "vocab_size"), {"zero": 0, "negative": -1}),
    ("text_config", (TEXT,), {"a_list": [], "a_string": "x"}),
    ("vision_config", (VISION,), {"missing": None, "a_number": 1}),
    ("rms_norm_eps", (TEXT, "rms_norm_eps"), {"nan": float("nan"), "negative": -1e-5, "a_string": "1e-5"}),
    ("mrope_section", (TEXT, "rope_parameters", "mrope_section"), {"short": [1], "negative": [-8, 8, 8]}),
    ("rope_theta", (TEXT, "rope_parameters", "rope_theta"), {"zero": 0, "infinite": float("inf")}),
    ("patch_size", (VISION, "patch_size"), {"not_dividing": 13, "zero": 0}),
    ("hidden_act", (TEXT, "hidden_act"), {"code": "__import__('os').system('x')"}),
    ("dtype", ("dtype",), {"foreign": "float8", "code": "os.system"}),
    ("image_token_id", ("image_token_id",), {"beyond": 10**9, "negative": -1}),
    ("quant_method", ("quantization_config",), {"foreign": {"quant_method": "gptq"}, "empty": {}}),
    ("quantization_config", ("quantization_config",), {"a_string": "int8"}),
):  # fmt: skip
    cases(
        rf"(?s){CONFIG}: .*{name}",
        **{f"config_{name}_{kind}": edited(CONFIG, *keys, value=value) for kind, value in values.items()},
    )
cases(
    r"has shape|missing, in no file|too large to be meant",
    config_vocab_of_two_billion=edited(CONFIG, TEXT, "vocab_size", value=2**31 - 1),
    config_width_of_two_billion=edited(CONFIG, TEXT, "intermediate_size", value=2**31 - 1),
    config_with_all_layers_there_can_be=edited(CONFIG, TEXT, "num_hidden_layers", value=128),
    config_pictures_of_two_billion=edited(CONFIG, VISION, "image_size", value=2**31 - 1 - (2**31 - 1) % 14),
)
cases(
    None,
    config_context_of_two_billion=edited(CONFIG, TEXT, "max_position_embeddings", value=2**31 - 1),
    config_auto_map=edited(
        CONFIG, "auto_map", value={"AutoModel": "evil.Model", "AutoConfig": "evil--repo.Config"}
    ),
    config_trust_remote_code=edited(CONFIG, "trust_remote_code", value=True),
    config_attention_from_the_hub=edited(CONFIG, "_attn_implementation_internal", value="evil/kernel"),
    config_attention=edited(CONFIG, "attn_implementation", value="evil/kernel"),
    config_architectures=edited(CONFIG, "architectures", value=["evil.Model", 3, None]),
    config_that_says_more=edited(CONFIG, "x" * 10**5, value="y" * 10**6),
)

# Pictures and answers

for name, values in {
    "shortest_edge": {
        "enlarging_to_gigabytes": {"shortest_edge": 2**31 - 1, "longest_edge": 2**31 - 1},
        "negative": {"shortest_edge": -1, "longest_edge": 1},
        "swapped": {"shortest_edge": 9, "longest_edge": 1},
    },
    "longest_edge|max_pixels": {
        "huge": {"shortest_edge": 1, "longest_edge": 10**30},
        "half": {"shortest_edge": 1},
    },
    "size": {"a_list": [1, 2]},
}.items():  # fmt: skip
    cases(
        rf"{PICTURES}: .*({name})",
        **{f"pictures_size_{kind}": edited(PICTURES, "size", value=value) for kind, value in values.items()},
    )
for key, value in {
    "patch_size": 0, "merge_size": 10**9, "temporal_patch_size": "2", "image_std": [0, 1, 1],
    "image_mean": [float("nan"), 0, 0], "image_processor_type": "Evil" * 10**5, "do_resize": False,
    "resample": 0, "rescale_factor": 2,
}.items():  # fmt: skip
    cases(rf"{PICTURES}: .*{key}", **{f"pictures_{key}": edited(PICTURES, key, value=value)})
for key, value in {
    "temperature": -1, "top_p": float("nan"), "top_k": -(10**30), "repetition_penalty": 0, "do_sample": "yes",
    "eos_token_id": [2**40] * 10**5,
}.items():  # fmt: skip
    cases(rf"{ANSWERS}: .*{key}", **{f"answers_{key}": edited(ANSWERS, key, value=value)})

# tokenizer.json


def vocabulary(change: Callable[[dict], object]) -> Change:
    def spoil(folder: Path) -> None:
        data = json.loads((folder / TOKENS).read_text())
        change(data)
        (folder / TOKENS).write_text(json.dumps(data))

    return spoil


def split_by(pattern: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


cases(
    f"{TOKENS}: ",
    tokens_of_another_model=edited(TOKENS, "model", "type", value="Unigram"),
    tokens_without_a_model=edited(TOKENS, "model", drop=True),
    tokens_without_a_vocabulary=edited(TOKENS, "model", "vocab", value=None),
    tokens_with_an_id_twice=edited(TOKENS, "model", "vocab", "!", value=1),
    tokens_with_an_id_of_two_to_the_40=edited(TOKENS, "model", "vocab", "!", value=2**40),
    tokens_with_a_negative_id=edited(TOKENS, "model", "vocab", "!", value=-1),
    tokens_that_backtrack_for_ever=edited(TOKENS, "pre_tokenizer", value=split_by("(a+)+$")),
    tokens_that_backtrack_inside=edited(
        TOKENS, "pre_tokenizer", value={"type": "Sequence", "pretokenizers": [split_by("(?:a|aa)*b")]}
    ),
    tokens_with_a_pattern_that_is_none=edited(TOKENS, "pre_tokenizer", value=split_by("[")),
    tokens_that_grow_a_thousandfold=edited(
        TOKENS, "normalizer", value={"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 10**5}
    ),
    tokens_normalised_by_a_table=edited(
        TOKENS, "normalizer", value={"type": "Precompiled", "precompiled_charsmap": ""}
    ),
    tokens_of_foreign_rules=edited(TOKENS, "pre_tokenizer", value={"type": "Metaspace"}),
    tokens_that_are_chosen_by_chance=edited(TOKENS, "model", "dropout", value=0.5),
    tokens_with_merges_of_nothing=edited(TOKENS, "model", "merges", value=[["no", "such"]]),
    tokens_with_merges_of_numbers=edited(TOKENS, "model", "merges", value=[1, 2]),
    tokens_added_by_a_string=edited(TOKENS, "added_tokens", value="<|user|>"),
    tokens_added_twice=vocabulary(lambda data: data["added_tokens"].append(data["added_tokens"][0])),
    tokens_added_without_an_id=vocabulary(lambda data: data["added_tokens"].append({"content": "x"})),
    tokens_without_the_controls=vocabulary(lambda data: data["added_tokens"].clear()),
    tokens_without_the_user=vocabulary(
        lambda data: data.update(
            added_tokens=[one for one in data["added_tokens"] if one["content"] != "<|user|>"]
        )
    ),
)
cases(
    f"{TOKENS}: has more lists, objects or entries",
    **{
        f"tokens_of_{name}": lambda folder, item=item: (folder / TOKENS).write_bytes(
            b'{"a": [' + item * (60_000_000 // len(item)) + b"0]}"
        )
        for name, item in {"empty_lists": b"[],", "empty_objects": b"{},", "halves": b"0.5,"}.items()
    },
)
cases(
    r"tokenizer\.json has",
    tokens_beyond_the_embeddings=vocabulary(
        lambda data: data["added_tokens"].append({"content": "<far>", "id": 10**6, "special": True})
    ),
    tokens_with_the_picture_elsewhere=vocabulary(
        lambda data: [one.update(content={"<|image|>": "<|video|>", "<|video|>": "<|image|>"}[one["content"]])
                      for one in data["added_tokens"] if one["content"] in ("<|image|>", "<|video|>")]
    ),
)  # fmt: skip
cases(
    None,
    tokens_that_cut=edited(
        TOKENS, "truncation", value={"max_length": 1, "strategy": "LongestFirst", "stride": 0}
    ),
    tokens_that_pad=edited(
        TOKENS, "padding", value={"strategy": {"Fixed": 10**9}, "pad_id": 0, "pad_token": "x"}
    ),
    tokens_with_a_template=edited(
        TOKENS, "post_processor", value={"type": "TemplateProcessing", "evil": True}
    ),
    tokens_config_of_another=written(
        "tokenizer_config.json", b'{"tokenizer_class": "evil.Tokenizer", "auto_map": {}}'
    ),
    tokens_config_that_is_no_json=written("tokenizer_config.json", b"\xff" * 1000),
)

# What nobody reads

cases(
    None,
    a_template_in_the_folder=written(
        "chat_template.jinja", b"{{ ''.__class__.__mro__[1].__subclasses__() }}"
    ),
    a_pickle_in_the_folder=written("pytorch_model.bin", b"cos\nsystem\n(S'touch pwned'\ntR."),
    a_module_in_the_folder=written("modeling_glm4v.py", b"raise SystemExit('executed')"),
    a_module_that_shadows=written("torch.py", b"raise SystemExit('executed')"),
    a_package_in_the_folder=lambda folder: (
        (folder / "glmflash").mkdir(),
        (folder / "glmflash/__init__.py").touch(),
    ),
    a_finder_in_the_folder=written("evil.pth", b"import os; os._exit(3)"),
    a_requirement_in_the_folder=written("requirements.txt", b"evil"),
    what_a_writer_left=lambda folder: (folder / ".saving-left").mkdir(),
    a_complete_stage_that_is_a_link=lambda folder: link(folder / ".saved", folder.parent),
)

# Quantised checkpoints


def manifest(change: Callable[[dict], object], *, sealed: bool = True) -> Change:
    """Another manifest; sealed, its own checksum is right again."""

    def spoil(folder: Path) -> None:
        data = json.loads((folder / MANIFEST).read_text())
        change(data)
        if sealed:
            data.pop("sha256", None)
            data["sha256"] = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
        (folder / MANIFEST).write_text(json.dumps(data))

    return spoil


def record(data: dict) -> dict:
    return data["tensors"][EMBEDDINGS]


def flipped(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1000] ^= 1
    (folder / WEIGHTS).write_bytes(content)


cases(
    MANIFEST,
    int8=True,
    manifest_that_is_missing=lambda folder: (folder / MANIFEST).unlink(),
    manifest_that_was_changed=manifest(lambda data: data.update(version=1.0, extra=1), sealed=False),
    manifest_of_another_version=manifest(lambda data: data.update(version=99)),
    manifest_of_another_format=manifest(lambda data: data.update(format="x" * 10**5)),
    manifest_without_a_card=manifest(lambda data: data.pop("card")),
    manifest_with_a_bad_card=manifest(lambda data: data["card"].update(layers="all")),
    manifest_with_a_bad_layer=manifest(lambda data: data["card"]["layers"][0].update(shape=[-1, 2])),
    manifest_with_a_bad_scheme=manifest(lambda data: data["card"]["layers"][0].update(scheme="int3")),
    manifest_with_a_key_twice=lambda folder: (folder / MANIFEST).write_text('{"a": 1, "a": 2}'),
    manifest_with_a_tensor_too_many=manifest(lambda data: data["tensors"].update(x=record(data))),
    manifest_with_a_tensor_too_few=manifest(lambda data: data["tensors"].pop(EMBEDDINGS)),
    manifest_with_another_shape=manifest(lambda data: record(data).update(shape=[1, 2])),
    manifest_with_a_shape_of_words=manifest(lambda data: record(data).update(shape="many")),
    manifest_with_infinite_shapes=manifest(lambda data: record(data).update(shape=[float("inf")])),
    manifest_of_tensors_in_a_list=manifest(lambda data: data.update(tensors=[])),
    manifest_that_is_a_pipe=moved(pipe_there, MANIFEST),
    manifest_that_is_a_link_out=moved(link, MANIFEST),
)
cases(
    f"{WEIGHTS}: .*: the checksum is wrong",
    int8=True,
    manifest_with_a_wrong_checksum=manifest(lambda data: record(data).update(crc32="00000000")),
    weights_with_one_bit_flipped=flipped,
)
cases(
    rf"{CONFIG}: quantization_config: ",
    int8=True,
    quantised_by_another_scheme=edited(
        CONFIG, "quantization_config", "config_groups", "group_0", "weights", "num_bits", value=4
    ),
    quantised_by_a_pattern_that_never_ends=edited(
        CONFIG, "quantization_config", "config_groups", "x" * 10**6, value={"targets": ["re:(a+)+$"]}
    ),
)
