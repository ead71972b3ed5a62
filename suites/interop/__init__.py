# SPDX-License-Identifier: GPL-2.0-only
"""The real client against the build under test: migrations as users have them, judged on both sides."""
