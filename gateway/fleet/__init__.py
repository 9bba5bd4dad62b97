"""Many instances of one upstream: which there are, which one a call goes to, and which are out of service."""
