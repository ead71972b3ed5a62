# SPDX-License-Identifier: GPL-2.0-only
"""The real client against the build under test: migrations as people have them, judged on both sides."""
