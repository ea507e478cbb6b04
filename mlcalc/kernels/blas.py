"""Matrix products for kernels: the BLAS that torch or SciPy brings along, called without Python in between."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llvmlite.binding
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

from mlcalc.kernels.compile import kernel

_NAMES = {types.float32: "sgemm", types.float64: "dgemm"}


def _torch_library() -> Any:
    """The library with torch's own MKL, or None where torch was built with another BLAS."""
    folder = Path(torch.__file__).parent / "lib"
    for path in folder.glob("libtorch_cpu.so"):
        library = ctypes.CDLL(str(path))
        if all(hasattr(library, name) for name in ("sgemm_", "dgemm_", "MKL_Set_Num_Threads_Local")):
            return library
    return None


_MKL = _torch_library()
PROVIDER = "SciPy" if _MKL is None else "MKL of torch"


def _register() -> None:
    for name in _NAMES.values():
        if _MKL is None:
            address: Any = get_cython_function_address("scipy.linalg.cython_blas", name)
        else:
            address = ctypes.cast(getattr(_MKL, f"{name}_"), ctypes.c_void_p).value
        llvmlite.binding.add_symbol(f"mlcalc_{name}", address)


_register()


def limit_threads(threads: int) -> int:
    """Let products called from this thread use so many threads; what it was before (0: as MKL sees fit).

    Only MKL knows limits of one thread; SciPy's BLAS keeps its own.
    """
    return 0 if _MKL is None else int(_MKL.MKL_Set_Num_Threads_Local(threads))


@intrinsic
def _gemm(typing: Any, a: Any, b: Any, c: Any, sizes: Any, alpha: Any, beta: Any) -> Any:
    """Fortran's gemm on row-major matrices: c^T = b^T a^T; sizes = (m, n, k, lda, ldb, ldc), int32."""
    number = c.dtype

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args

        def reference(value: Any) -> Any:
            return cgutils.alloca_once_value(builder, value)

        def data(position: int) -> Any:
            return context.make_array(kinds[position])(context, builder, arguments[position]).data

        plain = reference(ir.Constant(ir.IntType(8), ord("N")))
        m, n, k, lda, ldb, ldc = (reference(value) for value in cgutils.unpack_tuple(builder, arguments[3], 6))
        call = [plain, plain, n, m, k, reference(arguments[4]), data(1), ldb, data(0), lda, reference(arguments[5])]
        call += [data(2), ldc]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in call])
        function = cgutils.get_or_insert_function(builder.module, kind, f"mlcalc_{_NAMES[number]}")
        builder.call(function, call)
        return context.get_dummy_value()

    return types.void(a, b, c, types.UniTuple(types.int32, 6), number, number), codegen


@kernel
def multiply(a, b, c, beta):
    """c = a b + beta c for matrices of one type whose rows are contiguous."""
    size = a.itemsize
    if a.shape[0] > 0:
        sizes = (
            np.int32(a.shape[0]),
            np.int32(b.shape[1]),
            np.int32(a.shape[1]),
            np.int32(a.strides[0] // size),
            np.int32(b.strides[0] // size),
            np.int32(c.strides[0] // size),
        )
        _gemm(a, b, c, sizes, c.dtype.type(1), c.dtype.type(beta))  # type: ignore[call-arg]
