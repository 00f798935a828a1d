"""The parts of a running service, which `streamrnn.service` puts together."""
