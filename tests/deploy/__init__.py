"""What is shipped for deployment: the compose file, the image, systemd units, the example
configuration.
"""
