"""The box a submission runs in: its contract, how it is built, and what it must withstand."""
