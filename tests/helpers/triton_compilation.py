"""Compiles every Triton kernel for an H100 or H200, without one, and prints the bytes of stack that each needs."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mlcalc.gpu import triton_hvnet, triton_visnet
from mlcalc.gpu.triton_rows import EDGES, VECTOR_EDGES

HOPPER = GPUTarget("cuda", 90, 32)
INTEGERS = {"neighbor": "*i64", "rows": "*i64", "loops": "i32"}
VECTORS = {"H": 256, "S": 8, "SP": 8, "C": 64, "E": VECTOR_EDGES}
KERNELS: list[tuple[Any, dict[str, Any]]] = [
    (triton_visnet.attend, {"H": 256, "D": 32, "E": EDGES}),
    (triton_visnet.attend_backward, {"H": 256, "D": 32, "E": EDGES}),
    (triton_visnet.vector_sums, VECTORS | {"HAS_VEC": True, "SMOOTH": True}),
    (triton_visnet.vector_sums_backward, VECTORS | {"HAS_VEC": True, "SMOOTH": True}),
    (triton_visnet.edge_update, VECTORS | {"REJECT": True}),
    (triton_visnet.edge_update_backward, VECTORS | {"REJECT": True}),
    (triton_hvnet.message_sums, {"H": 128, "C": 64, "E": VECTOR_EDGES, "HAS_V": True}),
    *(
        (triton_hvnet.message_sums_backward, {"H": 128, "C": 64, "E": VECTOR_EDGES, "HAS_V": True, "SYMMETRIC": both})
        for both in (True, False)
    ),
    (triton_hvnet.weighted_sum, {"H": 768, "C": 64, "E": EDGES}),
    (triton_hvnet.weighted_sum_backward, {"H": 768, "C": 64, "E": EDGES, "SYMMETRIC": True}),
]


def stack_bytes(cubin: bytes) -> int:
    (tool,) = Path(triton.__file__).parent.glob("backends/nvidia/bin/cuobjdump")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    return max(int(found) for found in re.findall(r"STACK:(\d+)", usage))


for precision in ("fp32", "fp64"):
    for kernel, constants in KERNELS:
        names = kernel.arg_names
        signature = {name: "constexpr" if name in constants else INTEGERS.get(name, f"*{precision}") for name in names}
        values = {(names.index(name),): value for name, value in constants.items()}
        source = ASTSource(fn=kernel, signature=signature, constexprs=values)
        compiled = triton.compile(source, target=HOPPER)
        print(kernel.__name__, precision, stack_bytes(compiled.asm["cubin"]))
