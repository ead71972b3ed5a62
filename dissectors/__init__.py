# SPDX-License-Identifier: GPL-2.0-only
"""Bytes to Scapy packets to conversations to findings. No sockets, no processes."""

from scapy.config import conf

#: SPICE has longer lists (capability words, channels, rectangles) than Scapy allows: a message bounds them.
conf.max_list_count = max(conf.max_list_count, 1 << 16)
