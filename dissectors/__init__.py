# SPDX-License-Identifier: GPL-2.0-only
"""Bytes to Scapy packets to conversations to findings. No sockets, no processes."""
