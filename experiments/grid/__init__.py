"""Many runs: planned, started side by side, resumed."""
