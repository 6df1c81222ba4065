"""How fast, how small and how unnoticed: figures of a real platform, measured and never assumed.

python -m tests.bench           all of it, in about four minutes; writes docs/benchmarks.md
python -m tests.bench NAME      one bench, printed only
"""
