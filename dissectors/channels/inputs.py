# SPDX-License-Identifier: GPL-2.0-only
# scapy.contrib.description = SPICE inputs channel
# scapy.contrib.status = loads
"""Every message of the inputs channel, both directions (spice.proto, InputsChannel)."""

from scapy.fields import ByteField, LEIntField, LESignedIntField, StrField, XLEIntField

from dissectors.wire.constants import ChannelType, MsgcInputs, MsgInputs
from dissectors.wire.enums import KeyboardModifierFlags, MouseButton, MouseButtonMask
from dissectors.wire.fields import enum8, flags
from dissectors.wire.message import SpiceMessage, message

INPUTS = ChannelType.SPICE_CHANNEL_INPUTS


@message(MsgInputs.SPICE_MSG_INPUTS_INIT, INPUTS)
class SpiceMsgInputsInit(SpiceMessage):
    """The keyboard's lights when the channel opens."""

    fields_desc = [flags("keyboard_modifiers", 0, 16, KeyboardModifierFlags)]


@message(MsgInputs.SPICE_MSG_INPUTS_KEY_MODIFIERS, INPUTS)
class SpiceMsgInputsKeyModifiers(SpiceMessage):
    """The keyboard's lights have changed."""

    fields_desc = [flags("modifiers", 0, 16, KeyboardModifierFlags)]


@message(MsgInputs.SPICE_MSG_INPUTS_MOUSE_MOTION_ACK, INPUTS)
class SpiceMsgInputsMouseMotionAck(SpiceMessage):
    """Four messages of motion have arrived (SPICE_INPUT_MOTION_ACK_BUNCH)."""


class _Key(SpiceMessage):
    """A scan code of PC/AT set 1, its bytes from the lowest on."""

    fields_desc = [XLEIntField("code", 0)]


@message(MsgcInputs.SPICE_MSGC_INPUTS_KEY_DOWN, INPUTS)
class SpiceMsgcInputsKeyDown(_Key):
    """A key is pressed."""


@message(MsgcInputs.SPICE_MSGC_INPUTS_KEY_UP, INPUTS)
class SpiceMsgcInputsKeyUp(_Key):
    """A key is released."""


@message(MsgcInputs.SPICE_MSGC_INPUTS_KEY_MODIFIERS, INPUTS)
class SpiceMsgcInputsKeyModifiers(SpiceMessage):
    """The lights that the client wishes."""

    fields_desc = [flags("modifiers", 0, 16, KeyboardModifierFlags)]


@message(MsgcInputs.SPICE_MSGC_INPUTS_KEY_SCANCODE, INPUTS)
class SpiceMsgcInputsKeyScancode(SpiceMessage):
    """Scan codes as they come from a keyboard."""

    fields_desc = [StrField("data", b"")]


@message(MsgcInputs.SPICE_MSGC_INPUTS_MOUSE_MOTION, INPUTS)
class SpiceMsgcInputsMouseMotion(SpiceMessage):
    """The mouse has moved by so much (mouse mode server)."""

    fields_desc = [
        LESignedIntField("dx", 0),
        LESignedIntField("dy", 0),
        flags("buttons_state", 0, 16, MouseButtonMask),
    ]


@message(MsgcInputs.SPICE_MSGC_INPUTS_MOUSE_POSITION, INPUTS)
class SpiceMsgcInputsMousePosition(SpiceMessage):
    """The mouse is there, pixels (mouse mode client)."""

    fields_desc = [
        LEIntField("x", 0),
        LEIntField("y", 0),
        flags("buttons_state", 0, 16, MouseButtonMask),
        ByteField("display_id", 0),
    ]


class _Button(SpiceMessage):
    """A button, and all that are down."""

    fields_desc = [enum8("button", 0, MouseButton), flags("buttons_state", 0, 16, MouseButtonMask)]


@message(MsgcInputs.SPICE_MSGC_INPUTS_MOUSE_PRESS, INPUTS)
class SpiceMsgcInputsMousePress(_Button):
    """A button is pressed."""


@message(MsgcInputs.SPICE_MSGC_INPUTS_MOUSE_RELEASE, INPUTS)
class SpiceMsgcInputsMouseRelease(_Button):
    """A button is released."""
