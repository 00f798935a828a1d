"""What a pipeline is made of: small objects over the kernels, each with the state it keeps. No I/O, no asyncio."""
