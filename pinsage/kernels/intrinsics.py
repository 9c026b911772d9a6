"""A few machine instructions that Numba has no name for."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_TO_READ = 0
_INTO_ALL_BUT_THE_NEAREST = 2
_DATA = 1


def _prefetch_far(_typing_context: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte = ir.IntType(8).as_pointer()
        flag = ir.IntType(32)
        instruction = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        )
        address = builder.bitcast(builder.gep(source.data, [arguments[1]]), byte)
        flags = (flag(_TO_READ), flag(_INTO_ALL_BUT_THE_NEAREST), flag(_DATA))
        builder.call(instruction, [address, *flags])
        return context.get_dummy_value()

    return types.void(array, types.uint64), generate


def _multiply_high(_typing_context: Any, left: Any, right: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


prefetch_far: Any = intrinsic(_prefetch_far)
"""`prefetch_far(array, index)` asks for the cache line of `array[index]`, and doesn't wait for it.

Nothing is read, so an index past the end does no harm. The line comes into all caches but the
nearest: so more lines can be under way at a time.
"""

multiply_high: Any = intrinsic(_multiply_high)
"""`multiply_high(left, right)` gives the upper 64 bits of the 128-bit product of two uint64."""
