"""What a configuration may say: its keys, and how they are read and checked. `streamrnn.config` loads one."""
