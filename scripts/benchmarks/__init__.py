"""The benchmarks, a package each, and what they share: describing the machine, judging bars, tables, charts."""
