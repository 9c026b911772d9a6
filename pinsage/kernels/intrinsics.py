"""A few machine instructions that Numba has no name for."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_TO_READ = 0
_INTO_ALL_BUT_THE_NEAREST = 2
_DATA = 1
_LINE_FLOATS = 16
_FLOAT_BYTES = 4
_WORD_BYTES = 8

LANES = np.uint64(16)
"""Keys that are compared at a time: twice as many or half took a little longer."""


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


def _lowest_one(_typing_context: Any, word: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


def _copier(*, past_caches: bool) -> Any:
    def copy(_typing_context: Any, target: Any, place: Any, values: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            line = ir.VectorType(ir.FloatType(), _LINE_FLOATS).as_pointer()
            to, place, source, index = arguments
            into = context.make_array(signature.args[0])(context, builder, to)
            out_of = context.make_array(signature.args[2])(context, builder, source)
            row = builder.load(builder.bitcast(builder.gep(out_of.data, [index]), line))
            row.align = _FLOAT_BYTES
            store = builder.store(row, builder.bitcast(builder.gep(into.data, [place]), line))
            store.align = _FLOAT_BYTES
            if past_caches:
                store.align = _LINE_FLOATS * _FLOAT_BYTES
                one = builder.module.add_metadata([ir.IntType(32)(1)])
                store.set_metadata("nontemporal", one)
            return context.get_dummy_value()

        return types.void(target, types.uint64, values, types.uint64), generate

    return copy


def _settle(_typing_context: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


def _count_smaller(_typing_context: Any, keys: Any, size: Any, first: Any, ranks: Any) -> Any:
    count = int(LANES)
    lanes, place = ir.VectorType(ir.IntType(64), count), ir.IntType(32)
    zeros = ir.Constant(lanes, [0] * count)
    all_first = ir.Constant(ir.VectorType(place, count), [0] * count)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, target = (
            context.make_array(signature.args[number])(context, builder, arguments[number]).data
            for number in (0, 3)
        )
        own, into = (
            builder.bitcast(builder.gep(data, [arguments[2]]), lanes.as_pointer())
            for data in (source, target)
        )
        compared = builder.load(own)
        compared.align = _WORD_BYTES
        with builder.goto_entry_block():
            total = builder.alloca(lanes)
        builder.store(zeros, total)
        with cgutils.for_range(builder, arguments[1]) as loop:
            key = builder.load(builder.gep(source, [loop.index]))
            one = builder.insert_element(zeros, key, place(0))
            every = builder.shuffle_vector(one, zeros, all_first)
            # "Smaller" is all bits set, which is -1.
            smaller = builder.sext(builder.icmp_unsigned("<", every, compared), lanes)
            builder.store(builder.sub(builder.load(total), smaller), total)
        builder.store(builder.load(total), into).align = _WORD_BYTES
        return context.get_dummy_value()

    return types.void(keys, types.uint64, types.uint64, ranks), generate


prefetch_far: Any = intrinsic(_prefetch_far)
"""`prefetch_far(array, index)` asks for the cache line of `array[index]`, and doesn't wait for it.

Nothing is read, so an index past the end does no harm. The line comes into all caches but the
nearest: so more lines can be under way at a time.
"""

multiply_high: Any = intrinsic(_multiply_high)
"""`multiply_high(left, right)` gives the upper 64 bits of the 128-bit product of two uint64."""

lowest_one: Any = intrinsic(_lowest_one)
"""`lowest_one(word)` gives the place of the lowest bit of a uint64 that is 1; 64 if none is."""

copy_line: Any = intrinsic(_copier(past_caches=False))
"""`copy_line(target, place, values, index)` copies 16 float32 from `values[index]` on."""

copy_line_past_caches: Any = intrinsic(_copier(past_caches=True))
"""The same, written to memory without reading what was there into the caches first.

`target[place]` must be the first of a cache line of 64 bytes. Call `settle` before others read.
"""

settle: Any = intrinsic(_settle)
"""`settle()` waits until what was written past the caches is where everybody sees it."""

count_smaller: Any = intrinsic(_count_smaller)
"""`count_smaller(keys, size, first, ranks)` writes how many of the first `size` keys are smaller.

It does so for the `LANES` keys from `first` on, and writes as many ranks. All are uint64.
"""
