"""What the pickle inside a PyTorch file would do, read from its instructions without carrying them out."""

from __future__ import annotations

import pickletools
import re
from io import BytesIO
from typing import BinaryIO

from mlcalc.errors import ModelFileError

MAX_INSTRUCTIONS = 2_000_000  # a training checkpoint of a thousand tensors takes some fifty thousand
_READABLE = (2, 3)  # protocols that torch.load(weights_only=True) reads
_LEGACY_PICKLES = 5  # magic number, protocol, system, content, storage keys
_HARMLESS = re.compile(
    r"collections (OrderedDict|Counter)|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch (Size|device)"
    r"|torch\.nn\.parameter Parameter|torch \w+Storage|torch\.storage \w+Storage"
    r"|torch (b?float|u?int|complex|bool|q)\w*|_codecs encode|(__builtin__|builtins) (set|complex)"
)
_TENSOR_KINDS = re.compile(
    r"torch\._utils _rebuild_\w+|torch\.serialization _get_layout|torch\.sparse\w* \w+|torch per_\w+"
)
_STRIP = (
    "In the environment where it was made, load it and save plain values: "
    "torch.save({'state_dict': {k: v.cpu() for k, v in CHECKPOINT['state_dict'].items()}, 'hyper_parameters': "
    "PLAIN_DICT}, 'plain.ckpt') for a Lightning file, otherwise torch.save(the dict of tensors, 'plain.pt'), with "
    "numbers, texts and lists in place of other objects"
)


def check_pickle(content: bytes, origin: str, *, pickles: int = 1) -> None:
    """Nothing, or ModelFileError for a pickle that asks for more than tensors and plain values.

    `torch.load(weights_only=True)` refuses foreign objects too, but with the advice to switch that off.
    """
    stream = BytesIO(content)
    for index in range(pickles):
        try:
            wanted = _wanted(stream, origin)
        except ModelFileError:
            raise
        except Exception as error:  # pickletools raises whatever its readers do
            raise ModelFileError(
                f"{origin} is damaged: pickle {index} in it cannot be read ({type(error).__name__}). "
                "Copy or download it again"
            ) from error
        _judge({name for name in wanted if not _HARMLESS.fullmatch(name)}, origin)


def check_legacy_pickles(content: bytes, origin: str) -> None:
    """The same for the several pickles of a file in the format of PyTorch before 1.6, or of a bare pickle."""
    bare = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." not in content[:32]  # PyTorch's magic number, pickled
    check_pickle(content, origin, pickles=1 if bare else _LEGACY_PICKLES)
    if bare:
        raise ModelFileError(
            f"{origin} is a pickle, but not one written by torch.save: it holds no weights that can be read. {_STRIP}"
        )
    check_protocol(content, origin)


def check_protocol(content: bytes, origin: str) -> None:
    """Nothing, or ModelFileError for a sound pickle of a protocol that torch reads only where it executes pickles."""
    protocol = content[1] if content[:1] == b"\x80" else None
    if protocol not in _READABLE:
        raise ModelFileError(
            f"{origin} was written with pickle protocol {'0 or 1' if protocol is None else protocol}, which cannot be "
            "read without executing it (2 and 3 can). Save it again where it was made, with torch.save and its default "
            "protocol: leave pickle_protocol out"
        )


def _wanted(stream: BinaryIO, origin: str) -> set[str]:
    """Names `module name` of everything that the pickle imports."""
    names: set[str] = set()
    texts: list[str] = []  # the last two
    memo: list[str] = []
    for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
        if count > MAX_INSTRUCTIONS:
            raise ModelFileError(
                f"{origin} holds a pickle of more than {MAX_INSTRUCTIONS} instructions, far beyond what a checkpoint "
                "needs: save the state_dict alone where it was made"
            )
        if instruction.name in ("GLOBAL", "INST"):
            names.add(str(argument))
        elif instruction.name == "STACK_GLOBAL":  # protocol 4: module and name lie on the stack
            names.add(" ".join(texts[-2:]))
        elif instruction.name.startswith("EXT"):
            names.add(f"copyreg {argument}")
        elif instruction.name == "MEMOIZE":
            memo += texts[-1:] or [""]
        elif instruction.name in ("BINGET", "LONG_BINGET") and isinstance(argument, int) and argument < len(memo):
            texts = [*texts[-1:], memo[argument]]
        elif isinstance(argument, str):
            texts = [*texts[-1:], argument]
    return names


def _judge(wanted: set[str], origin: str) -> None:
    if not wanted:
        return
    listed = ", ".join(sorted(name.replace(" ", ".") for name in wanted)[:4])
    if all(_TENSOR_KINDS.fullmatch(name) for name in wanted):
        problem = "sparse, quantized, meta or otherwise special tensors"
    elif all(name.startswith("numpy") for name in wanted):
        problem = "NumPy objects"
    elif all(name.startswith(("omegaconf", "hydra", "numpy", "typing", "collections", "builtins")) for name in wanted):
        problem = "objects of omegaconf (a configuration that was not converted to plain lists and dicts)"
    else:
        problem = "Python objects whose loading would run code"
    raise ModelFileError(
        f"{origin} holds {problem}: {listed}. Only ordinary tensors and plain values are read, nothing is executed. "
        f"{_STRIP}"
    )
