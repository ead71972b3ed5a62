# SPDX-License-Identifier: GPL-2.0-only
"""What the server answers its hypervisor: which devices it knows, how it is set, and what it refuses
(spice-server.h, spice-char.h)."""

from __future__ import annotations

import pytest

from dissectors.wire.enums import ImageCompression
from fixtures.bench import Bench
from fixtures.bench.planting import other_result, requirement
from fixtures.builds.library_file import is_linked_with
from fixtures.system.hosts import Ability

LZ, LZ4 = ImageCompression.SPICE_IMAGE_COMPRESSION_LZ, ImageCompression.SPICE_IMAGE_COMPRESSION_LZ4
NONE_SUCH = 99
#: The devices of a machine, and the versions of their interfaces (spice-input.h and others) that every
#: release takes.
INTERFACES = {
    "migration": [1, 1],
    "keyboard": [1, 1],
    "mouse": [1, 1],
    "tablet": [1, 1],
    "display": [3, 3],
    "playback": [1, 3],
    "record": [2, 3],
    "usbredir": [1, 3],
}
#: The call, its arguments, and whether the server takes them.
SETTINGS = (
    ("set_port", {"port": -1}, -1),
    ("set_port", {"port": 1 << 16}, -1),
    ("set_port", {"port": (1 << 16) - 1}, 0),
    ("set_channel_security", {"channel": "nonsense", "security": 2}, -1),
    ("set_channel_security", {"channel": "webdav", "security": 3}, 0),
    ("set_streaming_video", {"value": 0}, -1),
    ("set_streaming_video", {"value": 4}, -1),
    ("set_streaming_video", {"value": 1}, 0),
    ("set_streaming_video", {"value": 3}, 0),
    ("set_video_codecs", {"codecs": "spice:mjpeg"}, 0),
)

pytestmark = pytest.mark.needs(Ability.CALLS, Ability.DEVICES)


@requirement("LINK-066", fault=(other_result("set_port"), other_result("set_channel_security")))
def test_questions_and_settings(bench: Bench) -> None:
    """The hypervisor sets right and wrong values, and asks what holds; LZ4 and SASL are there if the build
    has their libraries."""
    source = bench.start(devices=tuple(device for device in INTERFACES if device != "migration"))
    taken = source.call("interfaces")
    bench.claim(taken == INTERFACES, f"devices of the versions {INTERFACES}", taken)
    known = source.call("recognized_subtypes")
    bench.claim({"usbredir", "vdagent"} <= set(known), "usbredir and vdagent among the devices", known)
    for call, arguments, due in SETTINGS:
        returned = source.call(call, **arguments)
        bench.claim(returned == due, f"{call} {arguments} returns {due}", returned)
    codecs = source.call("get_video_codecs")
    bench.claim(codecs == "spice:mjpeg", "the codecs spice:mjpeg", codecs)
    for value in (LZ, NONE_SUCH):
        source.call("set_image_compression", value=int(value))
        seen = source.call("get_image_compression")
        bench.claim(seen == LZ, f"the compression {int(LZ)} after {int(value)} was set", seen)
    if is_linked_with(source.identity.path, "liblz4"):
        returned = source.call("set_image_compression", value=int(LZ4)), source.call("get_image_compression")
        bench.claim(returned == (0, LZ4), f"LZ4, number {int(LZ4)}, is taken", returned)
    if is_linked_with(source.identity.path, "libsasl2"):
        returned = source.call("set_sasl", enable=0)
        bench.claim(returned == 0, "set_sasl returns 0", returned)
