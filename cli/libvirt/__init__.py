"""The commands of the category ``libvirt``."""
