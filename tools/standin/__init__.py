"""Makes the stand-in bundle of `data/standin/`: pretrains its model and draws its reviews (`python -m tools.standin DIR`).

Trusted. It may import `grader`; nothing of `grader` imports it.
"""
