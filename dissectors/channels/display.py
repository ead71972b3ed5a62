# SPDX-License-Identifier: GPL-2.0-only
# scapy.contrib.description = SPICE display channel
# scapy.contrib.status = loads
"""The display channel besides drawing: modes, caches, streams, surfaces, monitors, GL (spice.proto)."""

from scapy.fields import (
    ByteField,
    FieldLenField,
    FieldListField,
    LEIntField,
    LELongField,
    LEShortField,
    LESignedIntField,
    LESignedLongField,
    StrField,
    XLELongField,
)

from dissectors.channels.common import SpiceWaitForChannel
from dissectors.channels.draw import SpiceClip, SpiceDisplayBase
from dissectors.wire.constants import ChannelType, MsgcDisplay, MsgDisplay
from dissectors.wire.enums import (
    GlScanoutFlags,
    ImageCompression,
    ResourceType,
    StreamFlags,
    SurfaceFlags,
    SurfaceFmt,
    VideoCodecType,
)
from dissectors.wire.fields import enum8, enum32, flags
from dissectors.wire.geometry import SpicePoint, SpiceRect
from dissectors.wire.message import SpiceMessage, message
from dissectors.wire.struct_fields import BulkField, PartField, PartListField
from dissectors.wire.structs import Struct, StructMessage

DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY


@message(MsgDisplay.SPICE_MSG_DISPLAY_MODE, DISPLAY)
class SpiceMsgDisplayMode(SpiceMessage):
    """The size of the primary surface, of clients that know no surfaces."""

    fields_desc = [LEIntField("x_res", 0), LEIntField("y_res", 0), LEIntField("bits", 0)]


@message(MsgDisplay.SPICE_MSG_DISPLAY_MARK, DISPLAY)
class SpiceMsgDisplayMark(SpiceMessage):
    """What has been drawn may be shown."""


@message(MsgDisplay.SPICE_MSG_DISPLAY_RESET, DISPLAY)
class SpiceMsgDisplayReset(SpiceMessage):
    """Forget surfaces, streams and caches."""


@message(MsgDisplay.SPICE_MSG_DISPLAY_COPY_BITS, DISPLAY)
class SpiceMsgDisplayCopyBits(StructMessage):
    """A part of a surface to another place on it."""

    fields_desc = [PartField("base", SpiceDisplayBase), PartField("src_pos", SpicePoint)]


class SpiceResourceID(Struct):
    """Something in a cache."""

    fields_desc = [enum8("type", 0, ResourceType), XLELongField("id", 0)]


@message(MsgDisplay.SPICE_MSG_DISPLAY_INVAL_LIST, DISPLAY)
class SpiceMsgDisplayInvalList(StructMessage):
    """Images that leave the cache."""

    fields_desc = [
        FieldLenField("count", None, count_of="resources", fmt="<H"),
        PartListField("resources", SpiceResourceID, count_from=lambda p: p.count),
    ]


@message(MsgDisplay.SPICE_MSG_DISPLAY_INVAL_ALL_PIXMAPS, DISPLAY)
class SpiceMsgDisplayInvalAllPixmaps(StructMessage):
    """All images leave the cache, once other channels have processed their messages up to these serials."""

    fields_desc = [
        FieldLenField("wait_count", None, count_of="wait_list", fmt="B"),
        PartListField("wait_list", SpiceWaitForChannel, count_from=lambda p: p.wait_count),
    ]


@message(MsgDisplay.SPICE_MSG_DISPLAY_INVAL_PALETTE, DISPLAY)
class SpiceMsgDisplayInvalPalette(SpiceMessage):
    """A palette leaves the cache."""

    fields_desc = [XLELongField("id", 0)]


@message(MsgDisplay.SPICE_MSG_DISPLAY_INVAL_ALL_PALETTES, DISPLAY)
class SpiceMsgDisplayInvalAllPalettes(SpiceMessage):
    """All palettes leave the cache."""


@message(MsgDisplay.SPICE_MSG_DISPLAY_STREAM_CREATE, DISPLAY)
class SpiceMsgDisplayStreamCreate(StructMessage):
    """A video begins on a part of a surface."""

    fields_desc = [
        LEIntField("surface_id", 0),
        LEIntField("id", 0),
        flags("flags", 0, 8, StreamFlags),
        enum8("codec_type", 0, VideoCodecType),
        LELongField("stamp", 0),
        LEIntField("stream_width", 0),
        LEIntField("stream_height", 0),
        LEIntField("src_width", 0),
        LEIntField("src_height", 0),
        PartField("dest", SpiceRect),
        PartField("clip", SpiceClip),
    ]


class SpiceStreamDataHeader(Struct):
    """Which stream, and when its picture is to be shown (ms of the server's clock)."""

    fields_desc = [LEIntField("id", 0), LEIntField("multi_media_time", 0)]


def _picture() -> list[object]:
    return [
        FieldLenField("data_size", None, length_of="data", fmt="<I"),
        BulkField("data", b"", length_from=lambda p: p.data_size),
    ]


@message(MsgDisplay.SPICE_MSG_DISPLAY_STREAM_DATA, DISPLAY)
class SpiceMsgDisplayStreamData(StructMessage):
    """A picture of a video."""

    fields_desc = [PartField("base", SpiceStreamDataHeader), *_picture()]


@message(MsgDisplay.SPICE_MSG_DISPLAY_STREAM_DATA_SIZED, DISPLAY)
class SpiceMsgDisplayStreamDataSized(StructMessage):
    """A picture of a video that has another size or place than the video."""

    fields_desc = [
        PartField("base", SpiceStreamDataHeader),
        LEIntField("width", 0),
        LEIntField("height", 0),
        PartField("dest", SpiceRect),
        *_picture(),
    ]


@message(MsgDisplay.SPICE_MSG_DISPLAY_STREAM_CLIP, DISPLAY)
class SpiceMsgDisplayStreamClip(StructMessage):
    """What is seen of a video has changed."""

    fields_desc = [LEIntField("id", 0), PartField("clip", SpiceClip)]


@message(MsgDisplay.SPICE_MSG_DISPLAY_STREAM_DESTROY, DISPLAY)
class SpiceMsgDisplayStreamDestroy(SpiceMessage):
    """A video ends."""

    fields_desc = [LEIntField("id", 0)]


@message(MsgDisplay.SPICE_MSG_DISPLAY_STREAM_DESTROY_ALL, DISPLAY)
class SpiceMsgDisplayStreamDestroyAll(SpiceMessage):
    """All videos end."""


@message(MsgDisplay.SPICE_MSG_DISPLAY_STREAM_ACTIVATE_REPORT, DISPLAY)
class SpiceMsgDisplayStreamActivateReport(SpiceMessage):
    """Report on this video after so many pictures or `timeout_ms`."""

    fields_desc = [
        LEIntField("stream_id", 0),
        LEIntField("unique_id", 0),
        LEIntField("max_window_size", 0),
        LEIntField("timeout_ms", 0),
    ]


@message(MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_CREATE, DISPLAY)
class SpiceMsgDisplaySurfaceCreate(SpiceMessage):
    """A surface to draw on."""

    fields_desc = [
        LEIntField("surface_id", 0),
        LEIntField("width", 0),
        LEIntField("height", 0),
        enum32("format", 0, SurfaceFmt),
        flags("flags", 0, 32, SurfaceFlags),
    ]


@message(MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_DESTROY, DISPLAY)
class SpiceMsgDisplaySurfaceDestroy(SpiceMessage):
    """A surface is gone."""

    fields_desc = [LEIntField("surface_id", 0)]


class SpiceHead(Struct):
    """One monitor: the part of a surface that it shows."""

    fields_desc = [
        LEIntField(name, 0) for name in ("monitor_id", "surface_id", "width", "height", "x", "y", "flags")
    ]


@message(MsgDisplay.SPICE_MSG_DISPLAY_MONITORS_CONFIG, DISPLAY)
class SpiceMsgDisplayMonitorsConfig(StructMessage):
    """The monitors of this channel."""

    fields_desc = [
        FieldLenField("count", None, count_of="heads", fmt="<H"),
        LEShortField("max_allowed", 0),
        PartListField("heads", SpiceHead, count_from=lambda p: p.count),
    ]


@message(MsgDisplay.SPICE_MSG_DISPLAY_GL_SCANOUT_UNIX, DISPLAY)
class SpiceMsgDisplayGlScanoutUnix(SpiceMessage):
    """A DMA buffer is the screen; its descriptor travels beside the bytes (SCM_RIGHTS)."""

    fields_desc = [
        LEIntField("width", 0),
        LEIntField("height", 0),
        LEIntField("stride", 0),
        LEIntField("drm_fourcc_format", 0),
        flags("flags", 0, 32, GlScanoutFlags),
    ]


class SpiceGlScanoutPlane(Struct):
    """One plane of a DMA buffer, bytes."""

    fields_desc = [LEIntField("offset", 0), LEIntField("stride", 0)]


@message(MsgDisplay.SPICE_MSG_DISPLAY_GL_SCANOUT2_UNIX, DISPLAY)
class SpiceMsgDisplayGlScanout2Unix(StructMessage):
    """As GL_SCANOUT_UNIX, with several planes and a format modifier; a descriptor for each plane."""

    fields_desc = [
        LEIntField("width", 0),
        LEIntField("height", 0),
        LEIntField("drm_fourcc_format", 0),
        flags("flags", 0, 32, GlScanoutFlags),
        FieldLenField("num_planes", None, count_of="planes", fmt="B"),
        XLELongField("drm_format_modifier", 0),
        PartListField("planes", SpiceGlScanoutPlane, count_from=lambda p: p.num_planes),
    ]


@message(MsgDisplay.SPICE_MSG_DISPLAY_GL_DRAW, DISPLAY)
class SpiceMsgDisplayGlDraw(SpiceMessage):
    """A part of the DMA buffer has changed; answered by GL_DRAW_DONE."""

    fields_desc = [LEIntField("x", 0), LEIntField("y", 0), LEIntField("w", 0), LEIntField("h", 0)]


@message(MsgDisplay.SPICE_MSG_DISPLAY_QUALITY_INDICATOR, DISPLAY)
class SpiceMsgDisplayQualityIndicator(SpiceMessage):
    """Text of the streaming agent's; no layout is written down for it."""

    fields_desc = [StrField("data", b"")]


@message(MsgcDisplay.SPICE_MSGC_DISPLAY_INIT, DISPLAY)
class SpiceMsgcDisplayInit(SpiceMessage):
    """The client's caches, sizes in pixels. The first message of the channel."""

    fields_desc = [
        ByteField("pixmap_cache_id", 0),
        LESignedLongField("pixmap_cache_size", 0),
        ByteField("glz_dictionary_id", 0),
        LESignedIntField("glz_dictionary_window_size", 0),
    ]


@message(MsgcDisplay.SPICE_MSGC_DISPLAY_STREAM_REPORT, DISPLAY)
class SpiceMsgcDisplayStreamReport(SpiceMessage):
    """How a video arrives, times in ms. No frames and 0xffffffff drops: the client cannot play it."""

    fields_desc = [
        LEIntField("stream_id", 0),
        LEIntField("unique_id", 0),
        LEIntField("start_frame_mm_time", 0),
        LEIntField("end_frame_mm_time", 0),
        LEIntField("num_frames", 0),
        LEIntField("num_drops", 0),
        LESignedIntField("last_frame_delay", 0),
        LEIntField("audio_delay", 0),
    ]


@message(MsgcDisplay.SPICE_MSGC_DISPLAY_PREFERRED_COMPRESSION, DISPLAY)
class SpiceMsgcDisplayPreferredCompression(SpiceMessage):
    """The encoding of images that the client wishes."""

    fields_desc = [enum8("image_compression", 0, ImageCompression)]


@message(MsgcDisplay.SPICE_MSGC_DISPLAY_GL_DRAW_DONE, DISPLAY)
class SpiceMsgcDisplayGlDrawDone(SpiceMessage):
    """The answer to GL_DRAW."""


@message(MsgcDisplay.SPICE_MSGC_DISPLAY_PREFERRED_VIDEO_CODEC_TYPE, DISPLAY)
class SpiceMsgcDisplayPreferredVideoCodecType(SpiceMessage):
    """The encodings of videos that the client wishes, the best first."""

    fields_desc = [
        FieldLenField("num_of_codecs", None, count_of="codecs", fmt="B"),
        FieldListField("codecs", [], enum8("codec", 0, VideoCodecType), count_from=lambda p: p.num_of_codecs),
    ]
