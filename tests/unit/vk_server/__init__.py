"""Tests of vk.server: a real TLS server on loopback, a scripted provider, certificates made on the spot."""
