"""What the commands of the category ``libvirt`` do."""
