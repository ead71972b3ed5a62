# SPDX-License-Identifier: GPL-2.0-only
"""The value enumerations of spice-protocol's enums.h, by their own names."""

from enum import IntEnum, IntFlag


class WarnCode(IntEnum):
    """enums.h, SpiceWarnCode."""

    SPICE_WARN_GENERAL = 0


class InfoCode(IntEnum):
    """enums.h, SpiceInfoCode."""

    SPICE_INFO_GENERAL = 0


class MigrateFlags(IntFlag):
    """enums.h, SpiceMigrateFlags."""

    SPICE_MIGRATE_NEED_FLUSH = 0x1
    SPICE_MIGRATE_NEED_DATA_TRANSFER = 0x2


class CompositeFlags(IntFlag):
    """enums.h, SpiceCompositeFlags."""

    SPICE_COMPOSITE_OP0 = 0x1
    SPICE_COMPOSITE_OP1 = 0x2
    SPICE_COMPOSITE_OP2 = 0x4
    SPICE_COMPOSITE_OP3 = 0x8
    SPICE_COMPOSITE_OP4 = 0x10
    SPICE_COMPOSITE_OP5 = 0x20
    SPICE_COMPOSITE_OP6 = 0x40
    SPICE_COMPOSITE_OP7 = 0x80
    SPICE_COMPOSITE_SRC_FILTER0 = 0x100
    SPICE_COMPOSITE_SRC_FILTER1 = 0x200
    SPICE_COMPOSITE_SRC_FILTER2 = 0x400
    SPICE_COMPOSITE_MASK_FILTER0 = 0x800
    SPICE_COMPOSITE_MASK_FITLER1 = 0x1000
    SPICE_COMPOSITE_MASK_FILTER2 = 0x2000
    SPICE_COMPOSITE_SRC_REPEAT0 = 0x4000
    SPICE_COMPOSITE_SRC_REPEAT1 = 0x8000
    SPICE_COMPOSITE_MASK_REPEAT0 = 0x10000
    SPICE_COMPOSITE_MASK_REPEAT1 = 0x20000
    SPICE_COMPOSITE_COMPONENT_ALPHA = 0x40000
    SPICE_COMPOSITE_HAS_MASK = 0x80000
    SPICE_COMPOSITE_HAS_SRC_TRANSFORM = 0x100000
    SPICE_COMPOSITE_HAS_MASK_TRANSFORM = 0x200000
    SPICE_COMPOSITE_SOURCE_OPAQUE = 0x400000
    SPICE_COMPOSITE_MASK_OPAQUE = 0x800000
    SPICE_COMPOSITE_DEST_OPAQUE = 0x1000000


class NotifySeverity(IntEnum):
    """enums.h, SpiceNotifySeverity."""

    SPICE_NOTIFY_SEVERITY_INFO = 0
    SPICE_NOTIFY_SEVERITY_WARN = 1
    SPICE_NOTIFY_SEVERITY_ERROR = 2


class NotifyVisibility(IntEnum):
    """enums.h, SpiceNotifyVisibility."""

    SPICE_NOTIFY_VISIBILITY_LOW = 0
    SPICE_NOTIFY_VISIBILITY_MEDIUM = 1
    SPICE_NOTIFY_VISIBILITY_HIGH = 2


class MouseMode(IntFlag):
    """enums.h, SpiceMouseMode."""

    SPICE_MOUSE_MODE_SERVER = 0x1
    SPICE_MOUSE_MODE_CLIENT = 0x2


class DataCompressionType(IntEnum):
    """enums.h, SpiceDataCompressionType."""

    SPICE_DATA_COMPRESSION_TYPE_NONE = 0
    SPICE_DATA_COMPRESSION_TYPE_LZ4 = 1


class ClipType(IntEnum):
    """enums.h, SpiceClipType."""

    SPICE_CLIP_TYPE_NONE = 0
    SPICE_CLIP_TYPE_RECTS = 1


class PathFlags(IntFlag):
    """enums.h, SpicePathFlags."""

    SPICE_PATH_BEGIN = 0x1
    SPICE_PATH_END = 0x2
    SPICE_PATH_CLOSE = 0x8
    SPICE_PATH_BEZIER = 0x10


class VideoCodecType(IntEnum):
    """enums.h, SpiceVideoCodecType."""

    SPICE_VIDEO_CODEC_TYPE_MJPEG = 1
    SPICE_VIDEO_CODEC_TYPE_VP8 = 2
    SPICE_VIDEO_CODEC_TYPE_H264 = 3
    SPICE_VIDEO_CODEC_TYPE_VP9 = 4
    SPICE_VIDEO_CODEC_TYPE_H265 = 5
    SPICE_VIDEO_CODEC_TYPE_AV1 = 6  # not in 0.14.3


class StreamFlags(IntFlag):
    """enums.h, SpiceStreamFlags."""

    SPICE_STREAM_FLAGS_TOP_DOWN = 0x1


class BrushType(IntEnum):
    """enums.h, SpiceBrushType."""

    SPICE_BRUSH_TYPE_NONE = 0
    SPICE_BRUSH_TYPE_SOLID = 1
    SPICE_BRUSH_TYPE_PATTERN = 2


class MaskFlags(IntFlag):
    """enums.h, SpiceMaskFlags."""

    SPICE_MASK_FLAGS_INVERS = 0x1


class ImageType(IntEnum):
    """enums.h, SpiceImageType."""

    SPICE_IMAGE_TYPE_BITMAP = 0
    SPICE_IMAGE_TYPE_QUIC = 1
    SPICE_IMAGE_TYPE_RESERVED = 2
    SPICE_IMAGE_TYPE_LZ_PLT = 100
    SPICE_IMAGE_TYPE_LZ_RGB = 101
    SPICE_IMAGE_TYPE_GLZ_RGB = 102
    SPICE_IMAGE_TYPE_FROM_CACHE = 103
    SPICE_IMAGE_TYPE_SURFACE = 104
    SPICE_IMAGE_TYPE_JPEG = 105
    SPICE_IMAGE_TYPE_FROM_CACHE_LOSSLESS = 106
    SPICE_IMAGE_TYPE_ZLIB_GLZ_RGB = 107
    SPICE_IMAGE_TYPE_JPEG_ALPHA = 108
    SPICE_IMAGE_TYPE_LZ4 = 109


class ImageCompression(IntEnum):
    """enums.h, SpiceImageCompression."""

    SPICE_IMAGE_COMPRESSION_INVALID = 0
    SPICE_IMAGE_COMPRESSION_OFF = 1
    SPICE_IMAGE_COMPRESSION_AUTO_GLZ = 2
    SPICE_IMAGE_COMPRESSION_AUTO_LZ = 3
    SPICE_IMAGE_COMPRESSION_QUIC = 4
    SPICE_IMAGE_COMPRESSION_GLZ = 5
    SPICE_IMAGE_COMPRESSION_LZ = 6
    SPICE_IMAGE_COMPRESSION_LZ4 = 7


class ImageFlags(IntFlag):
    """enums.h, SpiceImageFlags."""

    SPICE_IMAGE_FLAGS_CACHE_ME = 0x1
    SPICE_IMAGE_FLAGS_HIGH_BITS_SET = 0x2
    SPICE_IMAGE_FLAGS_CACHE_REPLACE_ME = 0x4


class BitmapFmt(IntEnum):
    """enums.h, SpiceBitmapFmt."""

    SPICE_BITMAP_FMT_INVALID = 0
    SPICE_BITMAP_FMT_1BIT_LE = 1
    SPICE_BITMAP_FMT_1BIT_BE = 2
    SPICE_BITMAP_FMT_4BIT_LE = 3
    SPICE_BITMAP_FMT_4BIT_BE = 4
    SPICE_BITMAP_FMT_8BIT = 5
    SPICE_BITMAP_FMT_16BIT = 6
    SPICE_BITMAP_FMT_24BIT = 7
    SPICE_BITMAP_FMT_32BIT = 8
    SPICE_BITMAP_FMT_RGBA = 9
    SPICE_BITMAP_FMT_8BIT_A = 10


class BitmapFlags(IntFlag):
    """enums.h, SpiceBitmapFlags."""

    SPICE_BITMAP_FLAGS_PAL_CACHE_ME = 0x1
    SPICE_BITMAP_FLAGS_PAL_FROM_CACHE = 0x2
    SPICE_BITMAP_FLAGS_TOP_DOWN = 0x4


class JpegAlphaFlags(IntFlag):
    """enums.h, SpiceJpegAlphaFlags."""

    SPICE_JPEG_ALPHA_FLAGS_TOP_DOWN = 0x1


class ImageScaleMode(IntEnum):
    """enums.h, SpiceImageScaleMode."""

    SPICE_IMAGE_SCALE_MODE_INTERPOLATE = 0
    SPICE_IMAGE_SCALE_MODE_NEAREST = 1


class Ropd(IntFlag):
    """enums.h, SpiceRopd."""

    SPICE_ROPD_INVERS_SRC = 0x1
    SPICE_ROPD_INVERS_BRUSH = 0x2
    SPICE_ROPD_INVERS_DEST = 0x4
    SPICE_ROPD_OP_PUT = 0x8
    SPICE_ROPD_OP_OR = 0x10
    SPICE_ROPD_OP_AND = 0x20
    SPICE_ROPD_OP_XOR = 0x40
    SPICE_ROPD_OP_BLACKNESS = 0x80
    SPICE_ROPD_OP_WHITENESS = 0x100
    SPICE_ROPD_OP_INVERS = 0x200
    SPICE_ROPD_INVERS_RES = 0x400


class LineFlags(IntFlag):
    """enums.h, SpiceLineFlags."""

    SPICE_LINE_FLAGS_START_WITH_GAP = 0x4
    SPICE_LINE_FLAGS_STYLED = 0x8


class StringFlags(IntFlag):
    """enums.h, SpiceStringFlags."""

    SPICE_STRING_FLAGS_RASTER_A1 = 0x1
    SPICE_STRING_FLAGS_RASTER_A4 = 0x2
    SPICE_STRING_FLAGS_RASTER_A8 = 0x4
    SPICE_STRING_FLAGS_RASTER_TOP_DOWN = 0x8


class SurfaceFlags(IntFlag):
    """enums.h, SpiceSurfaceFlags."""

    SPICE_SURFACE_FLAGS_PRIMARY = 0x1
    SPICE_SURFACE_FLAGS_STREAMING_MODE = 0x2


class SurfaceFmt(IntEnum):
    """enums.h, SpiceSurfaceFmt."""

    SPICE_SURFACE_FMT_INVALID = 0
    SPICE_SURFACE_FMT_1_A = 1
    SPICE_SURFACE_FMT_8_A = 8
    SPICE_SURFACE_FMT_16_555 = 16
    SPICE_SURFACE_FMT_32_xRGB = 32
    SPICE_SURFACE_FMT_16_565 = 80
    SPICE_SURFACE_FMT_32_ARGB = 96


class AlphaFlags(IntFlag):
    """enums.h, SpiceAlphaFlags."""

    SPICE_ALPHA_FLAGS_DEST_HAS_ALPHA = 0x1
    SPICE_ALPHA_FLAGS_SRC_SURFACE_HAS_ALPHA = 0x2


class ResourceType(IntEnum):
    """enums.h, SpiceResourceType."""

    SPICE_RES_TYPE_INVALID = 0
    SPICE_RES_TYPE_PIXMAP = 1


class GlScanoutFlags(IntFlag):
    """enums.h, SpiceGlScanoutFlags."""

    SPICE_GL_SCANOUT_FLAGS_Y0TOP = 0x1


class KeyboardModifierFlags(IntFlag):
    """enums.h, SpiceKeyboardModifierFlags."""

    SPICE_KEYBOARD_MODIFIER_FLAGS_SCROLL_LOCK = 0x1
    SPICE_KEYBOARD_MODIFIER_FLAGS_NUM_LOCK = 0x2
    SPICE_KEYBOARD_MODIFIER_FLAGS_CAPS_LOCK = 0x4


class MouseButton(IntEnum):
    """enums.h, SpiceMouseButton."""

    SPICE_MOUSE_BUTTON_INVALID = 0
    SPICE_MOUSE_BUTTON_LEFT = 1
    SPICE_MOUSE_BUTTON_MIDDLE = 2
    SPICE_MOUSE_BUTTON_RIGHT = 3
    SPICE_MOUSE_BUTTON_UP = 4
    SPICE_MOUSE_BUTTON_DOWN = 5
    SPICE_MOUSE_BUTTON_SIDE = 6
    SPICE_MOUSE_BUTTON_EXTRA = 7


class MouseButtonMask(IntFlag):
    """enums.h, SpiceMouseButtonMask."""

    SPICE_MOUSE_BUTTON_MASK_LEFT = 0x1
    SPICE_MOUSE_BUTTON_MASK_MIDDLE = 0x2
    SPICE_MOUSE_BUTTON_MASK_RIGHT = 0x4
    SPICE_MOUSE_BUTTON_MASK_UP = 0x8
    SPICE_MOUSE_BUTTON_MASK_DOWN = 0x10
    SPICE_MOUSE_BUTTON_MASK_SIDE = 0x20
    SPICE_MOUSE_BUTTON_MASK_EXTRA = 0x40


class CursorType(IntEnum):
    """enums.h, SpiceCursorType."""

    SPICE_CURSOR_TYPE_ALPHA = 0
    SPICE_CURSOR_TYPE_MONO = 1
    SPICE_CURSOR_TYPE_COLOR4 = 2
    SPICE_CURSOR_TYPE_COLOR8 = 3
    SPICE_CURSOR_TYPE_COLOR16 = 4
    SPICE_CURSOR_TYPE_COLOR24 = 5
    SPICE_CURSOR_TYPE_COLOR32 = 6


class CursorFlags(IntFlag):
    """enums.h, SpiceCursorFlags."""

    SPICE_CURSOR_FLAGS_NONE = 0x1
    SPICE_CURSOR_FLAGS_CACHE_ME = 0x2
    SPICE_CURSOR_FLAGS_FROM_CACHE = 0x4


class AudioDataMode(IntEnum):
    """enums.h, SpiceAudioDataMode."""

    SPICE_AUDIO_DATA_MODE_INVALID = 0
    SPICE_AUDIO_DATA_MODE_RAW = 1
    SPICE_AUDIO_DATA_MODE_CELT_0_5_1 = 2
    SPICE_AUDIO_DATA_MODE_OPUS = 3


class AudioFmt(IntEnum):
    """enums.h, SpiceAudioFmt."""

    SPICE_AUDIO_FMT_INVALID = 0
    SPICE_AUDIO_FMT_S16 = 1


class VscMessageType(IntEnum):
    """enums.h, SpiceVscMessageType."""

    SPICE_VSC_MESSAGE_TYPE_Init = 1
    SPICE_VSC_MESSAGE_TYPE_Error = 2
    SPICE_VSC_MESSAGE_TYPE_ReaderAdd = 3
    SPICE_VSC_MESSAGE_TYPE_ReaderRemove = 4
    SPICE_VSC_MESSAGE_TYPE_ATR = 5
    SPICE_VSC_MESSAGE_TYPE_CardRemove = 6
    SPICE_VSC_MESSAGE_TYPE_APDU = 7
    SPICE_VSC_MESSAGE_TYPE_Flush = 8
    SPICE_VSC_MESSAGE_TYPE_FlushComplete = 9


class PortEvent(IntEnum):
    """protocol.h, SPICE_PORT_EVENT_*."""

    SPICE_PORT_EVENT_OPENED = 0
    SPICE_PORT_EVENT_CLOSED = 1
    SPICE_PORT_EVENT_BREAK = 2
