"""Debian packages in, file trees out: the private apt root that tests, and later whole images, are composed from."""
