"""`make test-arm`: the runtime on an emulated Raspberry Pi, compared with this machine."""
