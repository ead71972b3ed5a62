# SPDX-License-Identifier: GPL-2.0-only
"""The requirement catalogue, and the tables and rules that read a conversation and yield findings."""
