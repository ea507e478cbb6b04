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

_AS_IT_IS, _TRANSPOSED = np.int8(ord("N")), np.int8(ord("T"))
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
def _gemm(typing: Any, a: Any, b: Any, c: Any, sizes: Any, alpha: Any, beta: Any, turned: Any) -> Any:
    """Fortran's gemm on row-major matrices: c^T = b^T a^T; sizes = (m, n, k, lda, ldb, ldc), int32.

    turned: the letter (int8) "T" where a^T is to be taken for a, else "N".
    """
    number = c.dtype

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args

        def reference(value: Any) -> Any:
            return cgutils.alloca_once_value(builder, value)

        def data(position: int) -> Any:
            return context.make_array(kinds[position])(context, builder, arguments[position]).data

        plain = reference(ir.Constant(ir.IntType(8), ord("N")))
        m, n, k, lda, ldb, ldc = (reference(value) for value in cgutils.unpack_tuple(builder, arguments[3], 6))
        call = [plain, reference(arguments[6]), n, m, k, reference(arguments[4]), data(1), ldb, data(0), lda]
        call += [reference(arguments[5]), data(2), ldc]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in call])
        function = cgutils.get_or_insert_function(builder.module, kind, f"mlcalc_{_NAMES[number]}")
        builder.call(function, call)
        return context.get_dummy_value()

    return types.void(a, b, c, types.UniTuple(types.int32, 6), number, number, types.int8), codegen


@kernel
def multiply(a, b, c, beta):
    """c = a b + beta c for matrices of one type whose rows are contiguous."""
    if a.shape[0] > 0:
        sizes = _sizes(a.shape[0], b.shape[1], a.shape[1], a, b, c)
        _gemm(a, b, c, sizes, c.dtype.type(1), c.dtype.type(beta), _AS_IT_IS)  # type: ignore[call-arg]


@kernel
def multiply_transposed(a, b, c, beta):
    """c = a^T b + beta c for matrices of one type whose rows are contiguous."""
    if a.shape[0] > 0:
        sizes = _sizes(a.shape[1], b.shape[1], a.shape[0], a, b, c)
        _gemm(a, b, c, sizes, c.dtype.type(1), c.dtype.type(beta), _TRANSPOSED)  # type: ignore[call-arg]


@kernel
def _sizes(m, n, k, a, b, c):
    size = a.itemsize
    return (
        np.int32(m),
        np.int32(n),
        np.int32(k),
        np.int32(a.strides[0] // size),
        np.int32(b.strides[0] // size),
        np.int32(c.strides[0] // size),
    )
