"""The gateway: the public face of Pulse, where every caller proves its identity."""
