"""A few machine instructions that Numba has no name for."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_TO_READ = 0
_INTO_EVERY_CACHE = 3
_INTO_ALL_BUT_THE_NEAREST = 2
_DATA = 1


def _prefetch_into(cache: int) -> Any:
    def typed(_typing_context: Any, array: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source = context.make_array(signature.args[0])(context, builder, arguments[0])
            byte = ir.IntType(8).as_pointer()
            flag = ir.IntType(32)
            instruction = builder.module.declare_intrinsic(
                "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
            )
            address = builder.bitcast(builder.gep(source.data, [arguments[1]]), byte)
            builder.call(instruction, [address, flag(_TO_READ), flag(cache), flag(_DATA)])
            return context.get_dummy_value()

        return types.void(array, types.uint64), generate

    return typed


def _multiply_high(_typing_context: Any, left: Any, right: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


prefetch: Any = intrinsic(_prefetch_into(_INTO_EVERY_CACHE))
"""`prefetch(array, index)` asks for the cache line of `array[index]`, and doesn't wait for it.

Nothing is read, so an index past the end does no harm.
"""

prefetch_far: Any = intrinsic(_prefetch_into(_INTO_ALL_BUT_THE_NEAREST))
"""As `prefetch`, but not into the nearest cache: more lines can be under way at a time, which pays
where whole rows are read one line after another."""

multiply_high: Any = intrinsic(_multiply_high)
"""`multiply_high(left, right)` gives the upper 64 bits of the 128-bit product of two uint64."""
