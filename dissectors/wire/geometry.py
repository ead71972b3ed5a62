# SPDX-License-Identifier: GPL-2.0-only
"""Points, rectangles and transforms (spice.proto), in pixels unless a line says otherwise."""

from scapy.fields import LEIntField, LESignedIntField, LESignedShortField

from dissectors.wire.structs import Struct


class SpicePoint(Struct):
    """x and y, int32."""

    fields_desc = [LESignedIntField("x", 0), LESignedIntField("y", 0)]


class SpicePoint16(Struct):
    """x and y, int16."""

    fields_desc = [LESignedShortField("x", 0), LESignedShortField("y", 0)]


class SpicePointFix(Struct):
    """x and y, fixed point: 1/16 pixels."""

    fields_desc = [LESignedIntField("x", 0), LESignedIntField("y", 0)]


class SpiceRect(Struct):
    """top and left belong to it, bottom and right do not; int32."""

    fields_desc = [
        LESignedIntField("top", 0),
        LESignedIntField("left", 0),
        LESignedIntField("bottom", 0),
        LESignedIntField("right", 0),
    ]


class SpiceTransform(Struct):
    """Two rows of an affine matrix, fixed point: 1/65536."""

    fields_desc = [LEIntField(name, 0) for name in ("t00", "t01", "t02", "t10", "t11", "t12")]
