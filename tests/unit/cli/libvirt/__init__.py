"""Tests of the commands of ``cli/libvirt``."""
