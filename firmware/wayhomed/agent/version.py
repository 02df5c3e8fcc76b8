"""Which wayhomed this is, and where its helper is found."""

VERSION = "0.1.0"
# When it was built, seconds since 1970: a time that has passed for sure. Packaging puts its SOURCE_DATE_EPOCH here; a
# checkout has the beginning of November 2026.
BUILD_S = 1_793_491_200
HELPER_SOCKET = "/run/wayhome-helper/helper.sock"
